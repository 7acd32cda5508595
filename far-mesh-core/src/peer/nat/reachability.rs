//! What is known about how others get to a node.

use std::fmt;

/// How others get to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reachability {
    /// Nobody has tried yet.
    #[default]
    Unknown,
    /// They dial it.
    Direct,
    /// They meet it at a relay and get through its NAT from there: the last that tried did.
    HolePunched,
    /// They talk to it through a relay: its NAT lets nobody through, or nobody has tried.
    Relayed,
    /// Not at all: it is behind a NAT, and no relay has a place for it.
    Unreachable,
}

/// How the bytes of a connection travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From node to node.
    Direct,
    /// Through a third node, which can neither read nor change them.
    Relayed,
}

impl Reachability {
    /// The word for it in the output of programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Direct => "direct",
            Self::HolePunched => "hole-punched",
            Self::Relayed => "relayed",
            Self::Unreachable => "unreachable",
        }
    }
}

impl fmt::Display for Reachability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
