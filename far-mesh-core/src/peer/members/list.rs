//! The list itself.
//!
//! ```text
//! far-mesh members 1
//! version 7
//! 12D3KooW...                     one node a line, in any order
//! operator 12D3KooW...            who signs
//! signature 0f3a...               ed25519 over a domain and all lines before this one, 128 hexadecimal digits
//! ```

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use libp2p::identity::{Keypair, PublicKey};

use super::MembersError;
use crate::id::NodeId;

/// Most nodes on a list.
pub const MAX_MEMBERS: usize = 10_000;

/// Longest file: that many lines of 53 bytes, and comfort.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// First line.
const TITLE: &str = "far-mesh members 1";

/// Separates these signatures from everything else a key signs.
const DOMAIN: &[u8] = b"far-mesh members 1\0";

/// Longest quote in an error.
const QUOTED_CHARS: usize = 80;

/// The nodes of a mesh, as its operator signed them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    version: u64,
    operator: NodeId,
    nodes: HashSet<NodeId>,
}

impl Members {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`MembersError`] when it cannot be read, or is not a list that its operator signed.
    pub fn read(path: &Path) -> Result<Self, MembersError> {
        let io = |source| MembersError::Io { path: path.into(), source };
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
        if read.map_err(io)? as u64 > MAX_FILE_BYTES {
            return Err(io(io::ErrorKind::FileTooLarge.into()));
        }
        Self::parse(&text)
    }

    /// Reads and checks a list.
    ///
    /// # Errors
    /// As [`Members::read`].
    pub fn parse(text: &str) -> Result<Self, MembersError> {
        let mut lines = text.split_inclusive('\n').enumerate().peekable();
        let mut signed = 0;
        let mut next = |want| {
            let Some((at, line)) = lines.next() else { return Err(wrong(text.lines().count() + 1, "", want)) };
            Ok((at + 1, line.trim_end_matches(['\r', '\n']), line.len()))
        };
        let (at, title, length) = next(TITLE)?;
        if title != TITLE {
            return Err(wrong(at, title, TITLE));
        }
        signed += length;
        let want = "version and a number";
        let (at, line, length) = next(want)?;
        let version = line.strip_prefix("version ").and_then(|number| number.parse().ok());
        let version = version.ok_or_else(|| wrong(at, line, want))?;
        signed += length;
        let mut nodes = HashSet::new();
        let operator = loop {
            let want = "the id of a node, or operator and the id of who signs";
            let (at, line, length) = next(want)?;
            signed += length;
            let (id, last) = match line.strip_prefix("operator ") {
                Some(id) => (id, true),
                None => (line, false),
            };
            let id: NodeId = id.parse().map_err(|_| wrong(at, line, want))?;
            if last {
                break id;
            }
            if nodes.len() == MAX_MEMBERS {
                return Err(MembersError::TooMany);
            }
            nodes.insert(id);
        };
        let want = "signature and 128 hexadecimal digits, in the last line";
        let (at, line, _) = next(want)?;
        let mut signature = [0; 64];
        let digits = line.strip_prefix("signature ").unwrap_or_default();
        hex::decode_to_slice(digits, &mut signature).map_err(|_| wrong(at, line, want))?;
        if let Some((at, line)) = lines.next() {
            return Err(wrong(at + 1, line, "the end"));
        }
        let key = public_key(&operator).ok_or(MembersError::Signature { operator })?;
        if !key.verify(&message(&text[..signed]), &signature) {
            return Err(MembersError::Signature { operator });
        }
        Ok(Self { version, operator, nodes })
    }

    /// Grows with every list of an operator.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Who signed.
    pub fn operator(&self) -> NodeId {
        self.operator
    }

    /// Nodes on it.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nobody is on it.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Who is on it, in no order.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes.iter()
    }

    /// Whether a node is on it.
    pub fn contains(&self, node: &NodeId) -> bool {
        self.nodes.contains(node)
    }

    /// Whether `new` may take the place of this list.
    ///
    /// # Errors
    /// [`MembersError::Operator`] and [`MembersError::Older`] when it may not.
    pub(in crate::peer) fn succeeded_by(&self, new: &Self) -> Result<(), MembersError> {
        if new.operator != self.operator {
            return Err(MembersError::Operator { got: new.operator });
        }
        if new.version <= self.version {
            return Err(MembersError::Older { held: self.version, got: new.version });
        }
        Ok(())
    }
}

/// The text of a list, signed.
///
/// # Errors
/// [`MembersError::TooMany`], and [`MembersError::Key`] when the key is not ed25519.
pub fn sign(nodes: impl IntoIterator<Item = NodeId>, version: u64, key: &Keypair) -> Result<String, MembersError> {
    let mut nodes = nodes.into_iter().map(|node| node.to_string()).collect::<Vec<_>>();
    nodes.sort_unstable();
    nodes.dedup();
    if nodes.len() > MAX_MEMBERS {
        return Err(MembersError::TooMany);
    }
    let operator = key.public().to_peer_id();
    let mut text = format!("{TITLE}\nversion {version}\n");
    nodes.into_iter().for_each(|node| text.extend([&node, "\n"]));
    text.push_str(&format!("operator {operator}\n"));
    public_key(&operator).ok_or(MembersError::Key)?;
    let signature = key.sign(&message(&text)).map_err(|_| MembersError::Key)?;
    text.push_str(&format!("signature {}\n", hex::encode(signature)));
    Ok(text)
}

/// The key that the id of an ed25519 node is.
fn public_key(node: &NodeId) -> Option<PublicKey> {
    // Ids of short keys are an identity multihash: a code of one byte, a length of one byte, the key in protobuf.
    PublicKey::try_decode_protobuf(node.to_bytes().get(2..)?).ok().filter(|key| key.to_peer_id() == *node)
}

fn message(text: &str) -> Vec<u8> {
    [DOMAIN, text.as_bytes()].concat()
}

fn wrong(line: usize, got: &str, want: &'static str) -> MembersError {
    MembersError::Line { line, got: got.chars().take(QUOTED_CHARS).collect(), want }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list() -> (String, Vec<NodeId>, Keypair) {
        let key = Keypair::ed25519_from_bytes([5; 32]).unwrap();
        let nodes = (1..4).map(|seed| Keypair::ed25519_from_bytes([seed; 32]).unwrap().public().to_peer_id());
        let nodes = nodes.collect::<Vec<_>>();
        (sign(nodes.clone(), 7, &key).unwrap(), nodes, key)
    }

    #[test]
    fn what_was_signed_is_read() {
        let (text, nodes, key) = list();
        let members = Members::parse(&text).unwrap();
        assert_eq!((members.version(), members.operator(), members.len()), (7, key.public().to_peer_id(), 3));
        assert!(nodes.iter().all(|node| members.contains(node)) && !members.contains(&NodeId::random()));
        assert!(Members::parse(&sign([], 1, &key).unwrap()).unwrap().is_empty());
    }

    #[test]
    fn a_list_says_which_line_is_wrong() {
        let (text, ..) = list();
        for (from, to, line) in [
            ("far-mesh members 1", "far-mesh members 2", 1),
            ("version 7", "version seven", 2),
            ("operator ", "owner ", 6),
            ("signature ", "signature zz", 7),
        ] {
            let error = Members::parse(&text.replace(from, to)).unwrap_err();
            assert!(matches!(error, MembersError::Line { line: got, .. } if got == line), "{error}");
        }
        for bad in ["", "far-mesh members 1\n", &text[..text.len() / 2], &format!("{text}more\n")] {
            assert!(matches!(Members::parse(bad), Err(MembersError::Line { .. })), "{bad:?}");
        }
        let raised = text.replace("version 7", "version 8");
        assert!(matches!(Members::parse(&raised), Err(MembersError::Signature { .. })));
    }

    #[test]
    fn only_a_higher_version_of_the_same_operator_follows() {
        let (text, nodes, key) = list();
        let (held, other) = (Members::parse(&text).unwrap(), Keypair::generate_ed25519());
        let new = |version, key: &Keypair| Members::parse(&sign(nodes.clone(), version, key).unwrap()).unwrap();
        assert!(held.succeeded_by(&new(8, &key)).is_ok());
        assert!(matches!(held.succeeded_by(&new(7, &key)), Err(MembersError::Older { held: 7, got: 7 })));
        assert!(matches!(held.succeeded_by(&new(8, &other)), Err(MembersError::Operator { .. })));
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_refused(at in any::<usize>(), to in 0x20u8..0x7f) {
            let (text, ..) = list();
            let mut bytes = text.clone().into_bytes();
            let at = at % bytes.len();
            bytes[at] = to;
            let changed = String::from_utf8(bytes).unwrap();
            let same = Members::parse(&text).unwrap();
            // The case of a hexadecimal digit means nothing.
            prop_assert!(changed == text || Members::parse(&changed).map_or(true, |read| read == same));
        }

        #[test]
        fn any_text_is_only_refused(text in "\\PC{0,200}") {
            prop_assert!(Members::parse(&text).is_err());
        }
    }
}
