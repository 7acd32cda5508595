//! The shortest way through the layers.
//!
//! Layers are points on a line and an offer is an edge between any two points of its span. A path pays for each edge it
//! enters, each layer, and the link between each two edges. Links of which nobody said anything are a sum of a part of each
//! end; those that were measured are few at each node. So one pass over the layers finds the shortest path: it keeps, for
//! each offer, the least cost of being in the middle of it, and enters an offer either from the cheapest of all that may end
//! here (no link to look at) or from one of its measured neighbours. That is `layers * offers` steps and a few more, where
//! looking at each pair would be `layers * offers^2`; places that a cheapest path cannot pass are left out (`bound.rs`), and
//! links where going over cannot pay (`arrivals.rs`).
//!
//! Every layer is a place to cut. That cuts lie where an offer begins or ends suffices only where a detour through a third
//! node is never shorter; measured links keep no triangle inequality.

use super::{
    arrivals::{Arrivals, Cut},
    bound::Bound,
    cost::Cost,
    graph::{Edge, Graph, NONE},
};

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

/// Who may not run what.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rules {
    /// The node runs none of these layers.
    pub(super) barred: Vec<(usize, usize, usize)>,
    /// Only the node runs this layer.
    pub(super) fixed: Vec<(usize, usize)>,
}

/// The cheapest path of at most `most` legs that keeps the rules; a node may come twice. Among equals the earlier edges win.
pub(super) fn search(graph: &Graph, rules: &Rules, most: usize) -> Option<Path> {
    // The path that the bound is taken from need not keep any rules.
    let bound = if *rules == Rules::default() { Bound::of(graph) } else { None };
    let pass = Pass::run(graph, rules, Before::Itself, bound.as_ref());
    let path = pass.path(graph, |_| &pass)?;
    if path.1.len() <= most { Some(path) } else { search_within(graph, rules, most) }
}

/// As [`search`], where the cheapest path is too long: a pass for each number of legs.
fn search_within(graph: &Graph, rules: &Rules, most: usize) -> Option<Path> {
    let mut passes: Vec<Pass> = Vec::with_capacity(most);
    let mut costs: Option<Costs> = None;
    let mut best: Option<(Cost, usize)> = None;
    for legs in 0..most {
        let (pass, kept) = Pass::run_keeping(graph, rules, costs.as_ref());
        if let Some((cost, _)) = pass.last
            && best.is_none_or(|(least, _)| cost < least)
        {
            best = Some((cost, legs));
        }
        passes.push(pass);
        costs = Some(kept);
    }
    let (_, last) = best?;
    passes[last].path(graph, |after| &passes[last.saturating_sub(after)])
}

/// An edge was entered, and this was cheaper than to have stayed in it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    layer: u16,
    /// The edge it was entered from.
    from: u32,
    /// The entry of the same edge before this, in [`Pass::entries`].
    earlier: u32,
}

/// No entry.
const FIRST: u32 = u32::MAX;

/// What a pass over the layers found.
struct Pass {
    entries: Vec<Entry>,
    /// The last entry of each edge.
    latest: Vec<u32>,
    /// Cost of the cheapest path, and the edge it ends in.
    last: Option<(Cost, usize)>,
}

/// A cost for each place: each layer of each edge.
struct Costs {
    /// Where the places of an edge begin.
    places: Vec<usize>,
    costs: Vec<Cost>,
}

/// Where the paths come from that enter an edge.
#[derive(Clone, Copy)]
enum Before<'a> {
    /// From the pass itself: paths of any number of legs.
    Itself,
    /// From nowhere: paths of one leg.
    Nothing,
    /// From a pass of one leg less.
    Legs(&'a Costs),
}

impl Rules {
    fn allow(&self, node: usize, layer: usize) -> bool {
        self.barred.iter().all(|(who, start, end)| *who != node || layer < *start || layer >= *end)
            && self.fixed.iter().all(|(at, who)| *at != layer || *who == node)
    }
}

impl Costs {
    /// [`NONE`] everywhere.
    fn new(graph: &Graph) -> Self {
        let mut total = 0;
        let place = |edge: &Edge| {
            let at = total;
            total += edge.end - edge.start;
            at
        };
        let places = graph.edges.iter().map(place).collect();
        Self { places, costs: vec![NONE; total] }
    }

    fn of(&self, graph: &Graph, index: usize, layer: usize) -> Cost {
        self.costs[self.place(graph, index, layer)]
    }

    fn set(&mut self, graph: &Graph, index: usize, layer: usize, cost: Cost) {
        let place = self.place(graph, index, layer);
        self.costs[place] = cost;
    }

    fn place(&self, graph: &Graph, index: usize, layer: usize) -> usize {
        self.places[index] + layer - graph.edges[index].start
    }
}

impl Pass {
    fn run_keeping(graph: &Graph, rules: &Rules, before: Option<&Costs>) -> (Self, Costs) {
        let mut kept = Costs::new(graph);
        let before = before.map_or(Before::Nothing, Before::Legs);
        let pass = Self::run_with(graph, rules, before, None, |index, layer, cost| kept.set(graph, index, layer, cost));
        (pass, kept)
    }

    fn run(graph: &Graph, rules: &Rules, before: Before<'_>, bound: Option<&Bound>) -> Self {
        Self::run_with(graph, rules, before, bound, |_, _, _| ())
    }

    /// Goes over the layers and tells `keep` the least cost of having run each in each edge.
    fn run_with(
        graph: &Graph,
        rules: &Rules,
        before: Before<'_>,
        bound: Option<&Bound>,
        mut keep: impl FnMut(usize, usize, Cost),
    ) -> Self {
        let edges = graph.edges.len();
        let mut pass = Self { entries: Vec::with_capacity(2 * edges), latest: vec![FIRST; edges], last: None };
        // Cost of being in an edge, after the layer before.
        let mut inside = vec![NONE; edges];
        let mut arrivals = Arrivals::new(graph);
        let mut starting: Vec<Vec<usize>> = vec![Vec::new(); graph.layers];
        for (index, edge) in graph.edges.iter().enumerate() {
            starting[edge.start].push(index);
        }
        let free = *rules == Rules::default();
        let begins = !matches!(before, Before::Legs(_));
        let mut active: Vec<usize> = Vec::with_capacity(edges);
        for (layer, starting) in starting.iter().enumerate() {
            // Before the first layer nothing is active.
            let cut = Cut {
                layer,
                starting,
                leave: bound.map_or(NONE, |bound| bound.limit_to_leave(layer)),
                least_into: bound.map_or(0, Bound::least_into),
                relay: if free { bound.map_or(NONE, |bound| bound.limit_to_relay(layer)) } else { NONE },
                first_relay: if free { bound.map_or(NONE, |bound| bound.limit_to_first_relay(layer)) } else { NONE },
            };
            let fresh = |index: usize| {
                let entry = pass.entries.get(pass.latest[index] as usize);
                entry.is_some_and(|entry| usize::from(entry.layer) + 1 == layer)
            };
            match before {
                Before::Itself => arrivals.collect(graph, &active, &cut, |index| (inside[index], fresh(index))),
                Before::Nothing => {}
                Before::Legs(costs) => {
                    let cut = Cut { relay: NONE, first_relay: NONE, ..cut };
                    arrivals.collect(graph, &active, &cut, |index| (costs.of(graph, index, layer - 1), true));
                }
            }
            active.retain(|&index| graph.edges[index].end > layer);
            active.extend(starting);
            for &index in &active {
                let edge = &graph.edges[index];
                if !free && !rules.allow(edge.node, layer) {
                    inside[index] = NONE;
                    continue;
                }
                let most = bound.map_or(NONE, |bound| bound.limit(graph, index, layer));
                let stay = inside[index];
                // Staying wins a tie: fewer hops.
                let less = stay.min(most);
                let mut cost = if stay < most { stay } else { NONE };
                let entered = match layer {
                    0 if begins => Some((edge.first, 0)).filter(|(enter, _)| enter + edge.hop < less),
                    0 => None,
                    _ if arrivals.least_into(edge, index) + edge.hop >= less => None,
                    _ => arrivals.cheapest(graph, index, less - edge.hop),
                };
                if let Some((enter, from)) = entered {
                    cost = enter + edge.hop;
                    let entry = Entry { layer: layer as u16, from: from as u32, earlier: pass.latest[index] };
                    pass.latest[index] = pass.entries.len() as u32;
                    pass.entries.push(entry);
                }
                inside[index] = NONE;
                if cost < NONE {
                    inside[index] = cost + edge.layer;
                    keep(index, layer, inside[index]);
                }
            }
        }
        let ends = active.iter().filter(|index| inside[**index] < NONE);
        pass.last = ends.map(|&index| (inside[index] + graph.edges[index].last, index)).min();
        pass
    }

    /// The cheapest path; `before(n)` is the pass that found what comes `n` legs before its last.
    fn path<'a>(&self, graph: &Graph, before: impl Fn(usize) -> &'a Self) -> Option<Path> {
        let (cost, mut edge) = self.last?;
        let (mut legs, mut end) = (Vec::new(), graph.layers);
        while end > 0 {
            let pass = before(legs.len());
            let mut entry = pass.entries.get(pass.latest[edge] as usize)?;
            // Later entries belong to other paths.
            while usize::from(entry.layer) >= end {
                entry = pass.entries.get(entry.earlier as usize)?;
            }
            let start = usize::from(entry.layer);
            legs.push(Leg { edge, start, end });
            (edge, end) = (entry.from as usize, start);
        }
        legs.reverse();
        Some((cost, legs))
    }
}

#[cfg(test)]
#[path = "path_tests.rs"]
mod tests;
