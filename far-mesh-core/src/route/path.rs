//! The shortest way through the layers.
//!
//! Layers are points on a line and an offer is an edge between any two points of its span, so the shortest path needs no
//! queue: one pass over the layers that keeps, for each offer, the least cost of being in the middle of it. That is
//! `layers * offers` steps, not `layers^2 * offers`.
//!
//! A path may use a node twice (fast layers of another between its own), which a route should not. Where that happens the
//! search branches: take a layer between the two uses; the node runs only layers before it, or only layers after it, or
//! that layer too. Each of the three forbids the path at hand and together they hold every path without a repeat, so taking
//! the cheapest first finds the best of those (branch and bound, Land & Doig 1960).

use std::{cmp::Reverse, collections::BinaryHeap};

use super::cost::{Cost, HopCost};

/// An offer as the search sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    /// Number of its node.
    pub(super) node: usize,
    /// First layer.
    pub(super) start: usize,
    /// Layer after the last.
    pub(super) end: usize,
    pub(super) cost: HopCost,
}

/// A stretch of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Leg {
    /// Index of the edge.
    pub(super) edge: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A path over all layers and its cost.
pub(super) type Path = (Cost, Vec<Leg>);

/// Steps that avoiding repeats may take, counted in layers times offers: some 50 ms.
const REPEAT_BUDGET: usize = 20_000_000;

/// Most rounds of avoiding repeats; each mends one.
const REPEAT_ROUNDS: usize = 200;

/// Who may not run what.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Rules {
    /// The node runs none of these layers.
    barred: Vec<(usize, usize, usize)>,
    /// Only the node runs this layer.
    fixed: Vec<(usize, usize)>,
}

impl Rules {
    fn allow(&self, node: usize, layer: usize) -> bool {
        self.barred.iter().all(|(who, start, end)| *who != node || layer < *start || layer >= *end)
            && self.fixed.iter().all(|(at, who)| *at != layer || *who == node)
    }
}

/// The cheapest path that uses no node twice; the cheapest of all where that cannot be found. Among equals the earlier
/// edge wins.
pub(super) fn cheapest(layers: usize, edges: &[Edge]) -> Option<Path> {
    let first = search(layers, edges, &Rules::default())?;
    let mut open = BinaryHeap::from([Reverse((first.clone(), Rules::default()))]);
    let work = layers.saturating_mul(edges.len()).max(1);
    for _ in 0..(REPEAT_BUDGET / work).clamp(1, REPEAT_ROUNDS) {
        let Some(Reverse((path, rules))) = open.pop() else { break };
        let Some((node, between)) = repeat(&path.1, edges) else { return Some(path) };
        let bar = |start, end| {
            let mut rules = rules.clone();
            rules.barred.push((node, start, end));
            rules
        };
        let mut with = rules.clone();
        with.fixed.push((between, node));
        for rules in [bar(between, layers), bar(0, between + 1), with] {
            open.extend(search(layers, edges, &rules).map(|path| Reverse((path, rules))));
        }
    }
    Some(first)
}

/// A node with two legs, and a layer between them.
fn repeat(legs: &[Leg], edges: &[Edge]) -> Option<(usize, usize)> {
    let node = |leg: &Leg| edges[leg.edge].node;
    legs.iter().enumerate().find_map(|(at, leg)| {
        let again = legs[at + 1..].iter().any(|later| node(later) == node(leg));
        again.then(|| (node(leg), leg.end))
    })
}

/// The cheapest path that keeps the rules.
fn search(layers: usize, edges: &[Edge], rules: &Rules) -> Option<Path> {
    // done[l]: least cost of the layers before l, and the leg that ends there.
    let mut done: Vec<Option<(Cost, Leg)>> = vec![None; layers + 1];
    // inside[e]: least cost of having run edge e up to here, and where it was entered.
    let mut inside: Vec<Option<(Cost, usize)>> = vec![None; edges.len()];
    for layer in 0..layers {
        let here = if layer == 0 { Some(0) } else { done[layer].map(|(cost, _)| cost) };
        for (index, edge) in edges.iter().enumerate() {
            let runs = edge.start <= layer && layer < edge.end && rules.allow(edge.node, layer);
            if !runs {
                inside[index] = None;
                continue;
            }
            let entered = here.map(|cost| (cost + edge.cost.hop, layer));
            // Staying wins a tie: fewer hops.
            let best = match (inside[index], entered) {
                (Some(stay), Some(enter)) => Some(if enter.0 < stay.0 { enter } else { stay }),
                (stay, enter) => stay.or(enter),
            };
            let Some((cost, start)) = best else { continue };
            let cost = cost + edge.cost.layer;
            inside[index] = Some((cost, start));
            if done[layer + 1].is_none_or(|(least, _)| cost < least) {
                done[layer + 1] = Some((cost, Leg { edge: index, start, end: layer + 1 }));
            }
        }
    }
    let (cost, _) = done[layers]?;
    let mut legs = Vec::new();
    let mut at = layers;
    while at > 0 {
        let (_, leg) = done[at]?;
        legs.push(leg);
        at = leg.start;
    }
    legs.reverse();
    Some((cost, legs))
}

/// The cheapest path of at most `most` legs, repeats allowed: for models cut into crumbs.
pub(super) fn cheapest_within(layers: usize, edges: &[Edge], most: usize) -> Option<Path> {
    // done[h][l]: as in `search`, with exactly h legs.
    let mut done: Vec<Vec<Option<(Cost, Leg)>>> = vec![vec![None; layers + 1]; most + 1];
    for legs in 1..=most {
        for (index, edge) in edges.iter().enumerate() {
            let mut inside: Option<(Cost, usize)> = None;
            for layer in edge.start..edge.end {
                let here = match (legs, layer) {
                    (1, 0) => Some(0),
                    (1, _) => None,
                    _ => done[legs - 1][layer].map(|(cost, _)| cost),
                };
                let entered = here.map(|cost| (cost + edge.cost.hop, layer));
                inside = match (inside, entered) {
                    (Some(stay), Some(enter)) => Some(if enter.0 < stay.0 { enter } else { stay }),
                    (stay, enter) => stay.or(enter),
                };
                let Some((cost, start)) = &mut inside else { continue };
                *cost += edge.cost.layer;
                if done[legs][layer + 1].is_none_or(|(least, _)| *cost < least) {
                    done[legs][layer + 1] = Some((*cost, Leg { edge: index, start: *start, end: layer + 1 }));
                }
            }
        }
    }
    let of = |legs: usize| done[legs][layers].map(|(cost, _)| (cost, legs));
    let (cost, mut count) = (1..=most).filter_map(of).min()?;
    let (mut legs, mut at) = (Vec::with_capacity(count), layers);
    while at > 0 {
        let (_, leg) = done[count][at]?;
        legs.push(leg);
        (at, count) = (leg.start, count - 1);
    }
    legs.reverse();
    Some((cost, legs))
}
