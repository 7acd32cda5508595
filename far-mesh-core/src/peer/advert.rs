//! Adverts: signed, expiring offers of a shard, as nodes publish them in the DHT.
//!
//! On the wire a sub-record is
//!
//! ```text
//! version u8 | ed25519 public key [32] | sequence u64 | expiry u64 (unix seconds) | body length u16 | body | signature [64]
//! ```
//!
//! with little-endian numbers and a postcard body. The signature covers a domain, the DHT key and all bytes before it, so
//! that a sub-record is good under one key only. Several follow each other in a value.
//!
//! Invariant: an [`Advert`] exists only with a good signature and contents within the limits below.

use std::{fmt, str::FromStr};

use libp2p::{
    Multiaddr,
    identity::{Keypair, PublicKey, ed25519},
};
use serde::{Deserialize, Serialize};

use super::address;
use crate::{
    activation::Dtype,
    id::{ModelHash, NodeId, Span},
    limits::{MAX_ADVERT_BYTES, MAX_LAYERS},
};

/// First byte of a sub-record.
const VERSION: u8 = 1;

/// Separates these signatures from everything else a node key signs.
const DOMAIN: &[u8] = b"far-mesh advert 1\0";

/// Bytes before the body.
const HEAD_BYTES: usize = 1 + 32 + 8 + 8 + 2;

/// Bytes of an ed25519 signature.
const SIGNATURE_BYTES: usize = 64;

/// Most addresses in an advert: two transports over two families and two interfaces.
pub const MAX_ADDRS: usize = 8;

/// Longest address in bytes.
const MAX_ADDR_BYTES: usize = 160;

/// Longest text in an advert in bytes.
pub const MAX_TEXT_BYTES: usize = 96;

/// A shard and what it takes to use it, as its node says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardOffer {
    /// The model.
    pub model: ModelHash,
    /// The model's name, for people.
    pub model_name: String,
    /// Decoder layers of the whole model.
    pub layers: u32,
    /// The layers this shard runs.
    pub span: Span,
    /// Element type it computes and answers in.
    pub dtype: Dtype,
    /// Device family, dtype and kernel version: equal classes give equal bits.
    pub kernel_class: String,
    /// Version of the shard protocol.
    pub protocol: u32,
    /// Version of the program.
    pub build: String,
    /// Where to dial the node. Left empty, the node puts its own listen addresses in.
    pub addrs: Vec<Multiaddr>,
    /// Nanoseconds a layer takes for one position when decoding.
    pub layer_time_ns: u32,
    /// Nanoseconds a layer takes for one position of a prompt.
    pub prefill_layer_time_ns: u32,
    /// Positions the cache has room for at the moment.
    pub free_tokens: u64,
    /// Price of all its layers for one token, in nano-FAR.
    pub price_nano_far: u64,
    /// Where the pay goes; none serves for free.
    pub wallet: Option<Wallet>,
    /// Where the node stands, as its operator says; may be empty.
    pub region: String,
    /// Name of the device.
    pub device: String,
    /// Memory of the device in MiB.
    pub device_mib: u32,
}

/// An account that takes pay: 20 bytes, written `0x` and 40 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Wallet(pub [u8; 20]);

/// A text that is not a [`Wallet`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a wallet: write 0x and 40 hexadecimal digits")]
pub struct ParseWalletError(String);

/// A [`ShardOffer`] with its node's signature checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// Who offers.
    pub peer: NodeId,
    /// Grows with every advert of a node: the highest counts.
    pub seq: u64,
    /// The advert is void after this, in seconds since 1970.
    pub expires_unix_s: u64,
    /// What is offered.
    pub shard: ShardOffer,
}

/// What a node says about one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Claim {
    /// It serves this shard.
    Serves(Box<ShardOffer>),
    /// It no longer serves the model.
    Gone(ModelHash),
}

/// A sub-record: a node's newest word on a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) peer: NodeId,
    pub(super) seq: u64,
    pub(super) expires_unix_s: u64,
    pub(super) claim: Claim,
}

/// Why bytes or an offer are not an advert.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdvertError {
    /// The bytes end too soon or go on too long.
    #[error("advert of {got} bytes is malformed: at most {MAX_ADVERT_BYTES}, and the length inside must fit")]
    Length {
        /// Bytes present.
        got: usize,
    },
    /// Written by another version of the program.
    #[error("advert has version {got}, this program reads {VERSION}")]
    Version {
        /// Its version.
        got: u8,
    },
    /// The key is no key or did not sign this under this DHT key.
    #[error("advert is not signed by the node it names")]
    Signature,
    /// The body does not decode.
    #[error("body of the advert does not decode")]
    Body,
    /// A field is outside its range.
    #[error("{field} of the advert is {value}, must be {range}")]
    Field {
        /// Which.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        range: String,
    },
}

impl ShardOffer {
    /// Checks every field against its range; `peer` is who offers.
    pub(super) fn check(&self, peer: &NodeId) -> Result<(), AdvertError> {
        let field = |field, value: String, range: String| Err(AdvertError::Field { field, value, range });
        let texts = [
            ("model name", &self.model_name),
            ("kernel class", &self.kernel_class),
            ("build", &self.build),
            ("region", &self.region),
            ("device", &self.device),
        ];
        for (name, text) in texts {
            if text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control) {
                return field(name, format!("{text:?}"), format!("at most {MAX_TEXT_BYTES} bytes without controls"));
            }
        }
        if self.model_name.is_empty() {
            return field("model name", "empty".into(), "a name".into());
        }
        if !(1..=MAX_LAYERS).contains(&self.layers) {
            return field("layers", self.layers.to_string(), format!("1 to {MAX_LAYERS}"));
        }
        if self.span.end() > self.layers {
            return field("span", self.span.to_string(), format!("within the model's 0..{}", self.layers));
        }
        if self.addrs.len() > MAX_ADDRS {
            return field("addresses", self.addrs.len().to_string(), format!("at most {MAX_ADDRS}"));
        }
        for addr in &self.addrs {
            if addr.len() > MAX_ADDR_BYTES || !address::dialable(addr, peer) {
                return field(
                    "address",
                    addr.to_string(),
                    "an IP or DNS address over TCP or QUIC of its own node".into(),
                );
            }
        }
        Ok(())
    }
}

impl Claim {
    /// The model it is about.
    pub(super) fn model(&self) -> ModelHash {
        match self {
            Self::Serves(offer) => offer.model,
            Self::Gone(model) => *model,
        }
    }
}

impl Sealed {
    /// Writes and signs a claim for one DHT key.
    ///
    /// # Errors
    /// [`AdvertError`] when it would not be accepted, or the key is not ed25519.
    pub(super) fn seal(
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
        let body = postcard::to_stdvec(claim).map_err(|_| AdvertError::Body)?;
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
    pub(super) fn open(dht_key: &[u8], bytes: &[u8]) -> Result<Self, AdvertError> {
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
pub(super) fn split_first(bytes: &[u8]) -> Result<(&[u8], &[u8]), AdvertError> {
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

fn signed_message(dht_key: &[u8], signed: &[u8]) -> Vec<u8> {
    [DOMAIN, &(dht_key.len() as u64).to_le_bytes(), dht_key, signed].concat()
}

impl fmt::Display for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wallet({self})")
    }
}

impl FromStr for Wallet {
    type Err = ParseWalletError;
    fn from_str(text: &str) -> Result<Self, ParseWalletError> {
        let wrong = || ParseWalletError(text.to_owned());
        let mut bytes = [0; 20];
        hex::decode_to_slice(text.strip_prefix("0x").ok_or_else(wrong)?, &mut bytes).map_err(|_| wrong())?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::peer) fn offer(span: (u32, u32)) -> ShardOffer {
        ShardOffer {
            model: ModelHash([7; 32]),
            model_name: "smollm2-135m-instruct".into(),
            layers: 30,
            span: Span::new(span.0, span.1).unwrap(),
            dtype: Dtype::F32,
            kernel_class: "cpu-f32-1".into(),
            protocol: 1,
            build: "0.1.0".into(),
            addrs: vec!["/ip4/127.0.0.1/tcp/31330".parse().unwrap()],
            layer_time_ns: 150_000,
            prefill_layer_time_ns: 40_000,
            free_tokens: 8192,
            price_nano_far: 200_000,
            wallet: Some("0x00112233445566778899aabbccddeeff00112233".parse().unwrap()),
            region: "eu".into(),
            device: "cpu".into(),
            device_mib: 4096,
        }
    }

    fn serves(offer: ShardOffer) -> Claim {
        Claim::Serves(Box::new(offer))
    }

    #[test]
    fn what_was_sealed_opens_under_its_key_alone() {
        let key = Keypair::generate_ed25519();
        for claim in [serves(offer((0, 10))), Claim::Gone(ModelHash([7; 32]))] {
            let bytes = Sealed::seal(&key, b"key", 5, 99, &claim).unwrap();
            let opened = Sealed::open(b"key", &bytes).unwrap();
            assert_eq!(opened, Sealed { peer: key.public().to_peer_id(), seq: 5, expires_unix_s: 99, claim });
            assert_eq!(Sealed::open(b"other", &bytes), Err(AdvertError::Signature));
        }
    }

    #[test]
    fn fields_out_of_range_are_neither_sealed_nor_opened() {
        let key = Keypair::generate_ed25519();
        let good = offer((0, 10));
        let foreign = format!("/ip4/1.2.3.4/tcp/1/p2p/{}", NodeId::random()).parse().unwrap();
        let bad = [
            ShardOffer { model_name: String::new(), ..good.clone() },
            ShardOffer { model_name: "x".repeat(MAX_TEXT_BYTES + 1), ..good.clone() },
            ShardOffer { region: "a\nb".into(), ..good.clone() },
            ShardOffer { layers: 9, ..good.clone() },
            ShardOffer { layers: MAX_LAYERS + 1, ..good.clone() },
            ShardOffer { addrs: vec![good.addrs[0].clone(); MAX_ADDRS + 1], ..good.clone() },
            ShardOffer { addrs: vec!["/ip4/0.0.0.0/tcp/1".parse().unwrap()], ..good.clone() },
            ShardOffer { addrs: vec!["/memory/5".parse().unwrap()], ..good.clone() },
            ShardOffer { addrs: vec![foreign], ..good.clone() },
        ];
        for offer in bad {
            let claim = serves(offer);
            assert!(matches!(Sealed::seal(&key, b"k", 1, 1, &claim), Err(AdvertError::Field { .. })), "{claim:?}");
            // A liar signs what it likes: the reader finds the same fault.
            let body = postcard::to_stdvec(&claim).unwrap();
            let mut bytes = vec![VERSION];
            bytes.extend(key.public().try_into_ed25519().unwrap().to_bytes());
            bytes.extend([0; 16]);
            bytes.extend((body.len() as u16).to_le_bytes());
            bytes.extend(body);
            let signature = key.sign(&signed_message(b"k", &bytes)).unwrap();
            bytes.extend(signature);
            assert!(matches!(Sealed::open(b"k", &bytes), Err(AdvertError::Field { .. })), "{claim:?}");
        }
    }

    #[test]
    fn wallets_are_twenty_bytes_of_hexadecimal() {
        let text = "0x00112233445566778899aabbccddeeff00112233";
        assert_eq!(text.parse::<Wallet>().unwrap().to_string(), text);
        for bad in ["", "0x", "00112233445566778899aabbccddeeff00112233", "0x0011", &text.replace('f', "g")] {
            assert!(bad.parse::<Wallet>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn a_changed_byte_is_always_refused(at in 0usize..4096, flip in 1u8..=255, cut in 0usize..4096) {
            let key = Keypair::ed25519_from_bytes([3; 32]).unwrap();
            let bytes = Sealed::seal(&key, b"key", 1, 2, &serves(offer((10, 20)))).unwrap();
            let mut changed = bytes.clone();
            changed[at % bytes.len()] ^= flip;
            prop_assert!(Sealed::open(b"key", &changed).is_err());
            prop_assert!(Sealed::open(b"key", &bytes[..cut % bytes.len()]).is_err());
            prop_assert!(Sealed::open(b"key", &[&bytes[..], &changed].concat()).is_err());
        }

        #[test]
        fn bytes_of_a_liar_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300), mutate in any::<(usize, u8)>()) {
            // Behind a good signature, the body itself is hostile.
            let key = Keypair::ed25519_from_bytes([3; 32]).unwrap();
            let mut honest = postcard::to_stdvec(&serves(offer((10, 20)))).unwrap();
            let at = mutate.0 % honest.len();
            honest[at] = mutate.1;
            for body in [body, honest] {
                let mut bytes = vec![VERSION];
                bytes.extend(key.public().try_into_ed25519().unwrap().to_bytes());
                bytes.extend([0; 16]);
                bytes.extend((body.len() as u16).to_le_bytes());
                bytes.extend(body);
                let signature = key.sign(&signed_message(b"k", &bytes)).unwrap();
                bytes.extend(signature);
                if let Ok(opened) = Sealed::open(b"k", &bytes) && let Claim::Serves(offer) = opened.claim {
                    prop_assert!(offer.check(&opened.peer).is_ok());
                }
            }
        }
    }
}
