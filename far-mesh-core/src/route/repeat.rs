//! A path that uses no node twice.
//!
//! A path may use a node twice (fast layers of another between its own), which a route should not. Where that happens the
//! search branches: take a layer between the two uses; the node runs only layers before it, or only layers after it, or
//! that layer too. Each of the three forbids the path at hand and together they hold every path without a repeat, so taking
//! the cheapest first finds the best of those (branch and bound, Land & Doig 1960).

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    graph::Graph,
    path::{Leg, Path, Rules, search},
};

/// Steps that the search for the best may take, counted in layers times offers: some 50 ms.
const BUDGET: usize = 10_000_000;

/// Most rounds; each mends one repeat.
const ROUNDS: usize = 200;

/// Why there is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPath {
    /// Every path has too many legs.
    TooLong,
    /// Every path that was found uses a node twice.
    Repeats,
}

/// The cheapest path of at most `most` legs that uses no node twice. Where finding it would take too long, a path without a
/// repeat that is near it.
pub(super) fn cheapest(graph: &Graph, most: usize) -> Result<Path, NoPath> {
    let first = search(graph, &Rules::default(), most).ok_or(NoPath::TooLong)?;
    let mut open = BinaryHeap::from([Reverse((first, Rules::default()))]);
    let work = graph.layers.saturating_mul(graph.edges.len()).max(1);
    for _ in 0..(BUDGET / work).clamp(1, ROUNDS) {
        let Reverse((path, rules)) = open.pop().ok_or(NoPath::Repeats)?;
        let Some(repeat) = repeat(&path.1, graph) else { return Ok(path) };
        open.extend(without(repeat, graph, &rules, most).map(Reverse));
    }
    // The best known goes first and nothing is gone back to.
    let mut next = open.pop().map(|Reverse(next)| next);
    for _ in 0..ROUNDS {
        let Some((path, rules)) = next else { break };
        let Some(repeat) = repeat(&path.1, graph) else { return Ok(path) };
        next = without(repeat, graph, &rules, most).min();
    }
    Err(NoPath::Repeats)
}

/// A node with two legs, and a layer between them.
fn repeat(legs: &[Leg], graph: &Graph) -> Option<(usize, usize)> {
    let node = |leg: &Leg| graph.edges[leg.edge].node;
    legs.iter().enumerate().find_map(|(at, leg)| {
        let again = legs[at + 1..].iter().any(|later| node(later) == node(leg));
        again.then(|| (node(leg), leg.end))
    })
}

/// The best paths that keep the rules and one more each, so that the node is on one side of the layer or runs it too.
fn without(
    (node, between): (usize, usize),
    graph: &Graph,
    rules: &Rules,
    most: usize,
) -> impl Iterator<Item = (Path, Rules)> {
    let bar = |start, end| {
        let mut rules = rules.clone();
        rules.barred.push((node, start, end));
        rules
    };
    let mut with = rules.clone();
    with.fixed.push((between, node));
    let branches = [bar(between, graph.layers), bar(0, between + 1), with];
    branches.into_iter().filter_map(move |rules| Some((search(graph, &rules, most)?, rules)))
}
