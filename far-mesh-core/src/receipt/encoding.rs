//! Receipts as bytes, by hand: what is signed has exactly one form.
//!
//! ```text
//!   0   1  version           1  16  session         17  32  model
//!  49  32  key of the node  81  32  key of the witness
//! 113   2  first layer     115   2  layer after the last
//! 117   8  first step      125   8  last step      133   4  first position   137  1  tokens
//! 138  32  input           170  32  output         202   1  length of the class, then the class
//! then    64  signature of the node, and of a whole receipt 64 of the witness
//! ```
//!
//! Numbers are little-endian. A node is written as its ed25519 key, which is what its identity is made of.

use super::{Commitment, MAX_CLASS_BYTES, Refusal, Work};
use crate::id::{ModelHash, NodeId, SessionId, Span};

const VERSION: u8 = 1;

/// Bytes of an ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

/// Bytes of a work before its class.
const HEAD_BYTES: usize = 203;

/// Most bytes of a [`Signed`](super::Signed).
pub const MAX_SIGNED_BYTES: usize = HEAD_BYTES + MAX_CLASS_BYTES + SIGNATURE_BYTES;

/// Most bytes of a [`Receipt`](super::Receipt).
pub const MAX_RECEIPT_BYTES: usize = MAX_SIGNED_BYTES + SIGNATURE_BYTES;

/// What stands before the key in the bytes of a node's identity: identity multihash, length, key type, key length.
const ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The ed25519 key of a node; `None` when it has another kind of key.
pub(super) fn key_of(node: &NodeId) -> Option<[u8; 32]> {
    node.to_bytes().strip_prefix(&ID_PREFIX)?.try_into().ok()
}

fn node_of(key: &[u8; 32]) -> Result<NodeId, Refusal> {
    NodeId::from_bytes(&[ID_PREFIX.as_slice(), key].concat()).map_err(|_| malformed("the key of a node"))
}

/// The bytes that are signed.
///
/// # Errors
/// [`Refusal::Field`] when a field is out of range, [`Refusal::Malformed`] when a node's key is not ed25519.
pub(super) fn encode(work: &Work) -> Result<Vec<u8>, Refusal> {
    if let Some((field, value)) = work.fault() {
        return Err(Refusal::Field { field, value });
    }
    let key = |node| key_of(node).ok_or(malformed("the key of a node is not ed25519"));
    let mut bytes = Vec::with_capacity(MAX_RECEIPT_BYTES);
    bytes.push(VERSION);
    bytes.extend_from_slice(&work.session.0);
    bytes.extend_from_slice(&work.model.0);
    bytes.extend_from_slice(&key(&work.node)?);
    bytes.extend_from_slice(&key(&work.witness)?);
    // What was checked fits.
    bytes.extend_from_slice(&(work.span.start() as u16).to_le_bytes());
    bytes.extend_from_slice(&(work.span.end() as u16).to_le_bytes());
    bytes.extend_from_slice(&work.first_seq.to_le_bytes());
    bytes.extend_from_slice(&work.last_seq.to_le_bytes());
    bytes.extend_from_slice(&work.position.to_le_bytes());
    bytes.push(work.tokens as u8);
    bytes.extend_from_slice(&work.input.0);
    bytes.extend_from_slice(&work.output.0);
    bytes.push(work.kernel_class.len() as u8);
    bytes.extend_from_slice(work.kernel_class.as_bytes());
    Ok(bytes)
}

/// Reads a work and `N` signatures behind it.
///
/// # Errors
/// [`Refusal::Malformed`] or [`Refusal::Field`].
pub(super) fn decode<const N: usize>(bytes: &[u8]) -> Result<(Work, [[u8; SIGNATURE_BYTES]; N]), Refusal> {
    let mut rest = bytes;
    let [version] = take(&mut rest)?;
    if version != VERSION {
        return Err(malformed("another version"));
    }
    let session = SessionId(take(&mut rest)?);
    let model = ModelHash(take(&mut rest)?);
    let node = node_of(&take(&mut rest)?)?;
    let witness = node_of(&take(&mut rest)?)?;
    let start = u16::from_le_bytes(take(&mut rest)?);
    let end = u16::from_le_bytes(take(&mut rest)?);
    let span = Span::new(start.into(), end.into()).map_err(|_| malformed("no layers"))?;
    let first_seq = u64::from_le_bytes(take(&mut rest)?);
    let last_seq = u64::from_le_bytes(take(&mut rest)?);
    let position = u32::from_le_bytes(take(&mut rest)?);
    let [tokens] = take(&mut rest)?;
    let input = Commitment(take(&mut rest)?);
    let output = Commitment(take(&mut rest)?);
    let [length] = take(&mut rest)?;
    let (class, mut rest) = rest.split_at_checked(length.into()).ok_or(malformed("it ends too soon"))?;
    let kernel_class = std::str::from_utf8(class).map_err(|_| malformed("the kernel class is no text"))?.to_owned();
    let mut signatures = [[0; SIGNATURE_BYTES]; N];
    for signature in &mut signatures {
        *signature = take(&mut rest)?;
    }
    if !rest.is_empty() {
        return Err(malformed("bytes behind its end"));
    }
    let tokens = tokens.into();
    let work = Work {
        session,
        model,
        node,
        witness,
        span,
        kernel_class,
        first_seq,
        last_seq,
        position,
        tokens,
        input,
        output,
    };
    match work.fault() {
        Some((field, value)) => Err(Refusal::Field { field, value }),
        None => Ok((work, signatures)),
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Refusal> {
    let (taken, left) = rest.split_first_chunk::<N>().ok_or(malformed("it ends too soon"))?;
    *rest = left;
    Ok(*taken)
}

fn malformed(reason: &'static str) -> Refusal {
    Refusal::Malformed { reason }
}
