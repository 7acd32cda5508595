//! What a node offers to a route.

use std::time::Duration;

use libp2p::Multiaddr;

use super::{cost::AS_ADVERTISED, region::lies_in};
use crate::{
    activation::Dtype,
    id::{NodeId, Span},
    peer::{Advert, advert::Link},
};

/// A shard that could be a hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Whose it is.
    pub node: NodeId,
    /// Where to dial it.
    pub addrs: Vec<Multiaddr>,
    /// The layers it can run; a route may use a part of them.
    pub span: Span,
    /// Element type it computes and answers in.
    pub dtype: Dtype,
    /// Equal classes give equal bits.
    pub kernel_class: String,
    /// Nanoseconds a layer takes for one position when decoding.
    pub layer_time_ns: u32,
    /// Nanoseconds a layer takes for one position of a prompt.
    pub prefill_layer_time_ns: u32,
    /// Round-trip time to it, where it was measured.
    pub rtt: Option<Duration>,
    /// Where it stands, as it says; may be empty.
    pub region: String,
    /// It does not stand there: see [`refuted`](super::refuted).
    pub region_refuted: bool,
    /// What it measured to other nodes, in its words.
    pub links: Vec<Link>,
    /// Nanoseconds a step waits there before it runs.
    pub queue_ns: u32,
    /// KiB a second it sends and receives; 0 where it does not say.
    pub bandwidth_kib_s: u32,
    /// What its steps take in percent of what it offers, by what was seen of it: 100 or more.
    pub slowdown_percent: u32,
    /// Positions it has room for.
    pub free_tokens: u64,
    /// Price of all its layers for one token, in nano-FAR.
    pub price_nano_far: u64,
}

impl Offer {
    /// The offer in an advert of a node that is `rtt` away.
    pub fn from_advert(advert: &Advert, rtt: Option<Duration>) -> Self {
        let shard = &advert.shard;
        Self {
            node: advert.peer,
            addrs: shard.addrs.clone(),
            span: shard.span,
            dtype: shard.dtype,
            kernel_class: shard.kernel_class.clone(),
            layer_time_ns: shard.layer_time_ns,
            prefill_layer_time_ns: shard.prefill_layer_time_ns,
            rtt,
            region: shard.region.clone(),
            region_refuted: false,
            links: shard.links.clone(),
            queue_ns: shard.queue_ns,
            bandwidth_kib_s: shard.bandwidth_kib_s,
            slowdown_percent: AS_ADVERTISED,
            free_tokens: shard.free_tokens,
            price_nano_far: shard.price_nano_far,
        }
    }

    /// Whether it may be taken to stand in `region`.
    pub fn is_in(&self, region: &str) -> bool {
        !self.region_refuted && lies_in(&self.region, region)
    }
}
