//! What an advert says, and the ranges of its fields.

use std::fmt;

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};

use super::AdvertError;
use crate::{
    activation::Dtype,
    id::{ModelHash, NodeId, Span},
    limits::MAX_LAYERS,
    peer::address,
};

/// Most addresses in an advert: two transports over two families and two interfaces.
pub const MAX_ADDRS: usize = 8;

/// Most neighbours whose round trips are in an advert: 200 bytes of it.
pub const MAX_LINKS: usize = 16;

/// Longest round trip in an advert, in microseconds: a minute. Who is farther away is no neighbour.
pub const MAX_LINK_US: u32 = 60_000_000;

/// Longest wait in an advert, in nanoseconds: a second. A node whose queue is longer is as good as full.
pub const MAX_QUEUE_NS: u32 = 1_000_000_000;

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
    /// Nanoseconds a step waits before it runs, at the moment.
    pub queue_ns: u32,
    /// KiB a second that the node's line carries, as its operator says; 0 says nothing.
    pub bandwidth_kib_s: u32,
    /// Round trips to nodes that hold layers beside these.
    pub links: Vec<Link>,
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

/// A round trip that a node measured to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// To whom.
    pub to: LinkTag,
    /// Microseconds.
    pub rtt_us: u32,
}

/// A node's identity in short: the last bytes of its public key. They are as good as random; to make a key that ends like
/// another's takes 2^63 tries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LinkTag(pub [u8; 8]);

/// An account that takes pay: 20 bytes, written `0x` and 40 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Wallet(pub [u8; 20]);

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
        if self.queue_ns > MAX_QUEUE_NS {
            return field("queue", self.queue_ns.to_string(), format!("at most {MAX_QUEUE_NS} ns"));
        }
        self.check_links(peer)?;
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

    fn check_links(&self, peer: &NodeId) -> Result<(), AdvertError> {
        let field = |field, value: String, range: String| Err(AdvertError::Field { field, value, range });
        if self.links.len() > MAX_LINKS {
            return field("links", self.links.len().to_string(), format!("at most {MAX_LINKS}"));
        }
        let own = LinkTag::of(peer);
        for (at, link) in self.links.iter().enumerate() {
            if link.rtt_us > MAX_LINK_US {
                return field("link", format!("{} us", link.rtt_us), format!("at most {MAX_LINK_US} us"));
            }
            if link.to == own || self.links[..at].iter().any(|other| other.to == link.to) {
                return field("link", format!("to {}", link.to), "to another node, each named once".into());
            }
        }
        Ok(())
    }
}

impl LinkTag {
    /// The tag of a node.
    pub fn of(node: &NodeId) -> Self {
        let mut tag = [0; 8];
        if let Some(end) = node.as_ref().digest().last_chunk() {
            tag = *end;
        }
        Self(tag)
    }
}

impl fmt::Display for LinkTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for LinkTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkTag({self})")
    }
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
