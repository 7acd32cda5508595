//! A work with one signature, and with both.

use libp2p::identity::{Keypair, ed25519};

use super::{
    Committer, Refusal, Work,
    encoding::{self, SIGNATURE_BYTES},
};
use crate::id::NodeId;

/// Separate the two signatures from each other and from everything else that a node's key signs.
const HOP_DOMAIN: &[u8] = b"far-mesh receipt 1 hop\0";
const WITNESS_DOMAIN: &[u8] = b"far-mesh receipt 1 witness\0";

/// A work that its hop signed: what it hands to its downstream neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    work: Work,
    signature: [u8; SIGNATURE_BYTES],
}

/// A work that its hop and its witness signed: what the coordinator gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    signed: Signed,
    witness: [u8; SIGNATURE_BYTES],
}

/// Why a work is not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The work is not one that this node may sign.
    #[error(transparent)]
    Work(#[from] Refusal),
    /// The key does not sign.
    #[error("the node's key cannot sign receipts: make one of type ed25519")]
    Key,
}

impl Signed {
    /// Signs a work of this node.
    ///
    /// # Errors
    /// [`SignError`] when the work is another node's or out of range, or the key is not ed25519.
    pub fn sign(work: Work, key: &Keypair) -> Result<Self, SignError> {
        let bytes = encoding::encode(&work)?;
        let signature = sign(key, &work.node, HOP_DOMAIN, &bytes)?;
        Ok(Self { work, signature })
    }

    /// Signs as the witness, when `received`, this node's own commitment to what came from `from`, is what the hop says
    /// came out. The hop's signature is left to the coordinator: a bad one harms the hop alone.
    ///
    /// # Errors
    /// [`SignError`]: another session, node, witness or output, or no key that can sign.
    pub fn witness(self, from: &NodeId, received: &Committer, key: &Keypair) -> Result<Receipt, SignError> {
        let work = &self.work;
        if work.session != received.session() {
            return Err(Refusal::Session { got: work.session, want: received.session() }.into());
        }
        if work.node != *from || work.witness == work.node {
            return Err(Refusal::Witness { span: work.span, witness: work.witness }.into());
        }
        if received.at(work.cell(), work.tokens) != Some(work.output) {
            return Err(Refusal::Output { node: work.node, got: work.output }.into());
        }
        let witness = sign(key, &work.witness, WITNESS_DOMAIN, &self.to_bytes()?)?;
        Ok(Receipt { signed: self, witness })
    }

    /// What it tells of.
    pub fn work(&self) -> &Work {
        &self.work
    }

    /// Its bytes, at most [`MAX_SIGNED_BYTES`](super::MAX_SIGNED_BYTES).
    ///
    /// # Errors
    /// [`Refusal`] when a field is out of range, which none that was signed or read is.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Refusal> {
        let mut bytes = encoding::encode(&self.work)?;
        bytes.extend_from_slice(&self.signature);
        Ok(bytes)
    }

    /// Reads one; its signature is not checked.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] or [`Refusal::Field`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        let (work, [signature]) = encoding::decode(bytes)?;
        Ok(Self { work, signature })
    }
}

impl Receipt {
    /// One from what was kept of it; its signatures are not checked.
    pub fn from_parts(work: Work, hop: [u8; SIGNATURE_BYTES], witness: [u8; SIGNATURE_BYTES]) -> Self {
        Self { signed: Signed { work, signature: hop }, witness }
    }

    /// What it tells of.
    pub fn work(&self) -> &Work {
        &self.signed.work
    }

    /// The hop's signature.
    pub fn hop_signature(&self) -> &[u8; SIGNATURE_BYTES] {
        &self.signed.signature
    }

    /// The witness's signature.
    pub fn witness_signature(&self) -> &[u8; SIGNATURE_BYTES] {
        &self.witness
    }

    /// Checks both signatures.
    ///
    /// # Errors
    /// [`Refusal::Signature`] names who did not sign.
    pub fn verify(&self) -> Result<(), Refusal> {
        let work = self.work();
        let mut bytes = encoding::encode(work)?;
        verify(&work.node, HOP_DOMAIN, &bytes, &self.signed.signature)?;
        bytes.extend_from_slice(&self.signed.signature);
        verify(&work.witness, WITNESS_DOMAIN, &bytes, &self.witness)
    }

    /// Its bytes, at most [`MAX_RECEIPT_BYTES`](super::MAX_RECEIPT_BYTES).
    ///
    /// # Errors
    /// As [`Signed::to_bytes`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, Refusal> {
        let mut bytes = self.signed.to_bytes()?;
        bytes.extend_from_slice(&self.witness);
        Ok(bytes)
    }

    /// Reads one; its signatures are not checked.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] or [`Refusal::Field`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refusal> {
        let (work, [signature, witness]) = encoding::decode(bytes)?;
        Ok(Self { signed: Signed { work, signature }, witness })
    }
}

fn sign(key: &Keypair, signer: &NodeId, domain: &[u8], bytes: &[u8]) -> Result<[u8; SIGNATURE_BYTES], SignError> {
    if key.public().to_peer_id() != *signer {
        return Err(Refusal::Signature { node: *signer }.into());
    }
    let signature = key.sign(&[domain, bytes].concat()).map_err(|_| SignError::Key)?;
    signature.try_into().map_err(|_| SignError::Key)
}

fn verify(signer: &NodeId, domain: &[u8], bytes: &[u8], signature: &[u8]) -> Result<(), Refusal> {
    let key = encoding::key_of(signer).and_then(|key| ed25519::PublicKey::try_from_bytes(&key).ok());
    match key {
        Some(key) if key.verify(&[domain, bytes].concat(), signature) => Ok(()),
        _ => Err(Refusal::Signature { node: *signer }),
    }
}
