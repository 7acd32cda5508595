//! Sub-records: what nodes sign and the DHT carries.
//!
//! On the wire a sub-record is
//!
//! ```text
//! version u8 | ed25519 public key [32] | sequence u64 | expiry u64 (unix seconds) | body length u16 | body | signature [64]
//! ```
//!
//! with little-endian numbers and a postcard body. The signature covers a domain, the DHT key and all bytes before it, so
//! that a sub-record is good under one key only. Several follow each other in a value.

use libp2p::identity::{Keypair, PublicKey, ed25519};
use serde::{Deserialize, Serialize};

use super::{AdvertError, ShardOffer};
use crate::{
    id::{ModelHash, NodeId},
    limits::MAX_ADVERT_BYTES,
};

/// First byte of a sub-record.
pub(super) const VERSION: u8 = 2;

/// Separates these signatures from everything else a node key signs.
const DOMAIN: &[u8] = b"far-mesh advert 1\0";

/// Bytes before the body.
const HEAD_BYTES: usize = 1 + 32 + 8 + 8 + 2;

/// Bytes of an ed25519 signature.
const SIGNATURE_BYTES: usize = 64;

/// What a node says about one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::peer) enum Claim {
    /// It serves this shard.
    Serves(Box<ShardOffer>),
    /// It no longer serves the model.
    Gone(ModelHash),
}

/// A sub-record: a node's newest word on a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::peer) struct Sealed {
    pub(in crate::peer) peer: NodeId,
    pub(in crate::peer) seq: u64,
    pub(in crate::peer) expires_unix_s: u64,
    pub(in crate::peer) claim: Claim,
}

impl Claim {
    /// The model it is about.
    pub(in crate::peer) fn model(&self) -> ModelHash {
        match self {
            Self::Serves(offer) => offer.model,
            Self::Gone(model) => *model,
        }
    }
}

impl Sealed {
    /// Writes and signs a claim for one DHT key. Round trips to neighbours are left out where many long addresses leave no
    /// room for them.
    ///
    /// # Errors
    /// [`AdvertError`] when it would not be accepted, or the key is not ed25519.
    pub(in crate::peer) fn seal(
        key: &Keypair,
        dht_key: &[u8],
        seq: u64,
        expires_unix_s: u64,
        claim: &Claim,
    ) -> Result<Vec<u8>, AdvertError> {
        let public = key.public();
        if let Claim::Serves(offer) = claim {
            offer.check(&public.to_peer_id())?;
        }
        let mut body = postcard::to_stdvec(claim).map_err(|_| AdvertError::Body)?;
        if let Claim::Serves(offer) = claim
            && HEAD_BYTES + body.len() + SIGNATURE_BYTES > MAX_ADVERT_BYTES
        {
            let brief = Claim::Serves(Box::new(ShardOffer { links: Vec::new(), ..offer.as_ref().clone() }));
            body = postcard::to_stdvec(&brief).map_err(|_| AdvertError::Body)?;
        }
        let total = HEAD_BYTES + body.len() + SIGNATURE_BYTES;
        let length = u16::try_from(body.len()).map_err(|_| AdvertError::Length { got: total })?;
        if total > MAX_ADVERT_BYTES {
            return Err(AdvertError::Length { got: total });
        }
        let public = public.try_into_ed25519().map_err(|_| AdvertError::Signature)?.to_bytes();
        let mut bytes = Vec::with_capacity(total);
        bytes.push(VERSION);
        bytes.extend_from_slice(&public);
        bytes.extend_from_slice(&seq.to_le_bytes());
        bytes.extend_from_slice(&expires_unix_s.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&body);
        let signature = key.sign(&signed_message(dht_key, &bytes)).map_err(|_| AdvertError::Signature)?;
        bytes.extend_from_slice(&signature);
        Ok(bytes)
    }

    /// Reads and checks one whole sub-record. The expiry is the reader's to judge, there is no clock here.
    ///
    /// # Errors
    /// [`AdvertError`] when any of it is not as it must be.
    pub(in crate::peer) fn open(dht_key: &[u8], bytes: &[u8]) -> Result<Self, AdvertError> {
        let (first, rest) = split_first(bytes)?;
        if !rest.is_empty() {
            return Err(AdvertError::Length { got: bytes.len() });
        }
        let (signed, signature) = first.split_at(first.len() - SIGNATURE_BYTES);
        let (head, body) = signed.split_at(HEAD_BYTES);
        let public = ed25519::PublicKey::try_from_bytes(&head[1..33]).map_err(|_| AdvertError::Signature)?;
        if !public.verify(&signed_message(dht_key, signed), signature) {
            return Err(AdvertError::Signature);
        }
        let (claim, left): (Claim, _) = postcard::take_from_bytes(body).map_err(|_| AdvertError::Body)?;
        if !left.is_empty() {
            return Err(AdvertError::Body);
        }
        let peer = PublicKey::from(public).to_peer_id();
        if let Claim::Serves(offer) = &claim {
            offer.check(&peer)?;
        }
        Ok(Self { peer, seq: read_u64(head, 33), expires_unix_s: read_u64(head, 41), claim })
    }
}

/// Cuts the first sub-record off a value, checking nothing but its length and version.
///
/// # Errors
/// [`AdvertError::Length`] or [`AdvertError::Version`]; what follows cannot be read then.
pub(in crate::peer) fn split_first(bytes: &[u8]) -> Result<(&[u8], &[u8]), AdvertError> {
    let wrong = AdvertError::Length { got: bytes.len() };
    let Some((head, rest)) = bytes.split_at_checked(HEAD_BYTES) else { return Err(wrong) };
    if head[0] != VERSION {
        return Err(AdvertError::Version { got: head[0] });
    }
    let body = usize::from(u16::from_le_bytes([head[49], head[50]]));
    let total = HEAD_BYTES + body + SIGNATURE_BYTES;
    if total > MAX_ADVERT_BYTES || rest.len() < body + SIGNATURE_BYTES {
        return Err(wrong);
    }
    Ok(bytes.split_at(total))
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

pub(super) fn signed_message(dht_key: &[u8], signed: &[u8]) -> Vec<u8> {
    [DOMAIN, &(dht_key.len() as u64).to_le_bytes(), dht_key, signed].concat()
}
