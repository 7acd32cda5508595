//! What a node offers to a route.

use std::time::Duration;

use libp2p::Multiaddr;

use crate::{
    activation::Dtype,
    id::{NodeId, Span},
    peer::Advert,
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
            free_tokens: shard.free_tokens,
            price_nano_far: shard.price_nano_far,
        }
    }
}
