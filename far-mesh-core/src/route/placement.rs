//! Where a node serves: which layers it takes when it joins, and when it is worth moving.
//!
//! The mesh is as fast as its slowest layer. A node that runs `n` layers of `t` nanoseconds each gives every one of them
//! `1e9 / (n t)` tokens a second, and a layer has the sum over the nodes that hold it (the measure of Petals: Borzunov et
//! al., "Distributed Inference and Fine-tuning of Large Language Models Over The Internet", 2023, section 3.2). [`place`]
//! takes the span that leaves the slowest layers fastest. [`rebalance`] moves a node only where that raises the slowest
//! layer by [`WORTH_MOVING`], never where a layer would be left with nobody, and lets few nodes move at once.
//!
//! The room a node has for tokens at the moment is left out on purpose: it says who is busy, not who serves.
//!
//! Pure, and in whole numbers: nodes that see the same adverts come to the same result.

use std::{cmp::Ordering, fmt};

use super::rank;
use crate::{
    id::{NodeId, Span},
    limits::MAX_LAYERS,
    peer::Advert,
};

/// A move must raise the slowest layer's throughput to this many times what it is, as a fraction. Measured times of equal
/// machines differ by some percent; loading a span and moving its sessions costs minutes of work.
pub const WORTH_MOVING: (u64, u64) = (6, 5);

/// Of the nodes that could move with gain, one in so many may do it in the same round; at least one.
const MOVERS: usize = 8;

/// Time of a layer where nobody has measured one: only the proportion to others matters, and there are none then.
const UNKNOWN_LAYER_NS: u32 = 1_000_000;

/// Tokens in 1e6 seconds: fine enough for the slowest node, and far from overflow for thousands of the fastest.
type Rate = u64;

/// A node that serves a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Who.
    pub node: NodeId,
    /// The layers.
    pub span: Span,
    /// Nanoseconds a layer takes for one position when decoding.
    pub layer_time_ns: u32,
}

/// The span to serve, and what it does to the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The layers to serve.
    pub span: Span,
    /// The slowest layers without it, neighbours of one throughput merged; the first where there are several.
    pub slowest: Span,
    /// Throughput of the slowest layer without it, and with it.
    pub raised: (Throughput, Throughput),
}

/// A node's way from one span to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The layers served now.
    pub from: Span,
    /// The layers to serve.
    pub to: Span,
    /// Throughput of the slowest layer now, and after the move.
    pub raised: (Throughput, Throughput),
}

/// Tokens a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Throughput(Rate);

/// What each layer of a model gives.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Profile {
    rates: Vec<Rate>,
}

impl Holder {
    /// The node and shard of an advert.
    pub fn from_advert(advert: &Advert) -> Self {
        Self { node: advert.peer, span: advert.shard.span, layer_time_ns: advert.shard.layer_time_ns }
    }

    fn rate(&self) -> Rate {
        rate(self.span.len(), self.layer_time_ns)
    }
}

/// The span of `length` layers that a joining node best takes among `holders`: the one that leaves the slowest layers
/// fastest. Of equals the first. `None` when the model has no layers.
///
/// `layer_time_ns` is its own, where it is known; else it counts as one like the others.
pub fn place(layers: u32, holders: &[Holder], length: u32, layer_time_ns: Option<u32>) -> Option<Placement> {
    let profile = Profile::of(layers, holders);
    let length = length.clamp(1, layers.max(1));
    let own = rate(length, layer_time_ns.unwrap_or_else(|| median(holders)));
    let (span, after) = profile.best(length, own)?;
    Some(Placement { span, slowest: profile.slowest_layers()?, raised: (profile.slowest(), after.slowest()) })
}

/// Whether and where `node` should move in this round.
///
/// `None` when it holds nothing, when no span as long as its own is [worth the move](WORTH_MOVING), when a layer would be
/// left with nobody, or when others who could move with gain have their turn: rounds of a common clock choose whose it is.
pub fn rebalance(layers: u32, holders: &[Holder], node: &NodeId, round: u64) -> Option<Move> {
    let profile = Profile::of(layers, holders);
    let own = holders.iter().find(|holder| holder.node == *node)?;
    let found = profile.better(own)?;
    let rank_of = |node: &NodeId| (rank(round, node), *node);
    let rivals = holders.iter().filter(|holder| holder.node != *node && profile.better(holder).is_some());
    let (before, others) = rivals.fold((0, 0), |(before, others), rival| {
        (before + usize::from(rank_of(&rival.node) < rank_of(node)), others + 1)
    });
    (before < (others + 1usize).div_ceil(MOVERS)).then_some(found)
}

/// Whether the move of `node` to the span `to` is worth it, as `holders` are seen now; whose turn it is does not count.
pub fn is_worth(layers: u32, holders: &[Holder], node: &NodeId, to: Span) -> bool {
    let profile = Profile::of(layers, holders);
    holders.iter().find(|holder| holder.node == *node).is_some_and(|own| profile.gain(own, to).is_some())
}

/// Whether a node that moves `from` one span `to` another leaves every layer with a holder, as `holders` are seen now.
pub fn may_leave(holders: &[Holder], node: &NodeId, from: Span, to: Span) -> bool {
    let held = |layer: u32| {
        let covers = |span: Span| (span.start()..span.end()).contains(&layer);
        covers(to) || holders.iter().any(|holder| holder.node != *node && covers(holder.span))
    };
    (from.start()..from.end()).all(held)
}

impl Profile {
    fn of(layers: u32, holders: &[Holder]) -> Self {
        let mut profile = Self { rates: vec![0; layers.min(MAX_LAYERS) as usize] };
        for holder in holders {
            profile.change(holder.span, |rate| rate.saturating_add(holder.rate()));
        }
        profile
    }

    fn change(&mut self, span: Span, change: impl Fn(Rate) -> Rate) {
        let end = (span.end() as usize).min(self.rates.len());
        for rate in &mut self.rates[(span.start() as usize).min(end)..end] {
            *rate = change(*rate);
        }
    }

    fn slowest(&self) -> Throughput {
        Throughput(self.rates.iter().copied().min().unwrap_or(0))
    }

    fn slowest_layers(&self) -> Option<Span> {
        let Throughput(slowest) = self.slowest();
        let start = self.rates.iter().position(|rate| *rate == slowest)?;
        let length = self.rates[start..].iter().take_while(|rate| **rate == slowest).count();
        Span::new(start as u32, (start + length) as u32).ok()
    }

    /// Where a node of this rate does most, and what the layers give then.
    fn best(&self, length: u32, own: Rate) -> Option<(Span, Self)> {
        let with = |start: u32| {
            let span = Span::new(start, start + length).ok()?;
            let mut with = self.clone();
            with.change(span, |rate| rate.saturating_add(own));
            let mut ascending = with.rates.clone();
            ascending.sort_unstable();
            Some((ascending, span, with))
        };
        let starts = 0..=(self.rates.len() as u32).checked_sub(length)?;
        // The first of equals.
        let better = |a: &(Vec<Rate>, Span, Self), b: &(Vec<Rate>, Span, Self)| match a.0.cmp(&b.0) {
            Ordering::Equal => b.1.cmp(&a.1),
            unequal => unequal,
        };
        starts.filter_map(with).max_by(better).map(|(_, span, with)| (span, with))
    }

    /// The span that `holder` had best serve, if it is worth the move.
    fn better(&self, holder: &Holder) -> Option<Move> {
        let (to, _) = self.without(holder).best(holder.span.len(), holder.rate())?;
        self.gain(holder, to)
    }

    /// The move of `holder` to a span, if it is worth it and leaves no layer with nobody.
    fn gain(&self, holder: &Holder, to: Span) -> Option<Move> {
        let mut after = self.without(holder);
        after.change(to, |own| own.saturating_add(rate(to.len(), holder.layer_time_ns)));
        let lost = self.rates.iter().zip(&after.rates).any(|(before, after)| *before > 0 && *after == 0);
        let (now, then) = (self.slowest(), after.slowest());
        let uncovered = |profile: &Self| profile.rates.iter().filter(|rate| **rate == 0).count();
        let (times, parts) = WORTH_MOVING;
        let gain = uncovered(&after) < uncovered(self)
            || now.0 > 0 && u128::from(then.0) * u128::from(parts) >= u128::from(now.0) * u128::from(times);
        (to != holder.span && !lost && gain).then_some(Move { from: holder.span, to, raised: (now, then) })
    }

    fn without(&self, holder: &Holder) -> Self {
        let mut without = self.clone();
        without.change(holder.span, |rate| rate.saturating_sub(holder.rate()));
        without
    }
}

fn rate(layers: u32, layer_time_ns: u32) -> Rate {
    1_000_000_000_000_000 / (u64::from(layers.max(1)) * u64::from(layer_time_ns.max(1)))
}

/// The median time of a layer.
fn median(holders: &[Holder]) -> u32 {
    let mut times: Vec<_> = holders.iter().map(|holder| holder.layer_time_ns).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(UNKNOWN_LAYER_NS)
}

impl fmt::Display for Throughput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} tokens/s", self.0 as f64 / 1e6)
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = self.raised;
        write!(f, "layers {}: ", self.span)?;
        match (before.0, after.0) {
            (0, 0) => write!(f, "nobody serves {} yet, and more nodes are needed", self.slowest),
            (0, _) => write!(f, "nobody serves {} yet; the mesh comes to {after}", self.slowest),
            (before_rate, after_rate) if after_rate > before_rate => {
                write!(f, "the slowest layers are {}; the mesh goes from {before} to {after}", self.slowest)
            }
            _ => write!(f, "the slowest layers are {} with {before}, too many for one node to raise all", self.slowest),
        }
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = self.raised;
        write!(f, "{} -> {}: the slowest layer goes from {before} to {after}", self.from, self.to)
    }
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
