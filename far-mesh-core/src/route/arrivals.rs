//! Where paths go over from one edge to another.
//!
//! That a path leaves an edge for another before *this* layer and not before one beside it is of use in few places: the link
//! costs the same, and it pays to stay in the faster of the two. So a slower one is entered only where the faster ends, or
//! for one layer on the way to a third, and a faster one where it begins, or after one layer in the edge that is left. (The
//! changes of any other path can be moved towards such places, one after the other, and it gets no dearer.) Legs of one layer
//! that follow each other can be moved together, so after a longer leg they go on to a layer where an edge begins or ends.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    cost::Cost,
    graph::{Edge, Graph, NONE},
};

/// A place where paths may go over from one edge to another.
#[derive(Clone, Copy)]
pub(super) struct Cut<'a> {
    /// Before which layer.
    pub(super) layer: usize,
    /// The edges that begin here.
    pub(super) starting: &'a [usize],
    /// A path that costs as much need not be looked at.
    pub(super) leave: Cost,
    /// A path that costs as much, with the way to the next edge, does not run that one for one layer alone; not after another
    /// leg of one layer, and not after a longer one.
    pub(super) relay: Cost,
    pub(super) first_relay: Cost,
    /// The least part of an unknown link that its end pays.
    pub(super) least_into: Cost,
}

/// The paths that may go over to another edge before a layer.
pub(super) struct Arrivals {
    layer: usize,
    /// All of them, for edges that begin here, and those that may go over to an edge that is there already.
    all: Queue,
    leaving: Queue,
    /// Cost of the path that ends in an edge here.
    ended: Vec<Cost>,
    /// For each edge the cheapest way into it over a known link, and the edge it comes from.
    near: Vec<(Cost, usize)>,
}

impl Arrivals {
    pub(super) fn new(graph: &Graph) -> Self {
        let edges = graph.edges.len();
        let (all, leaving) = (Queue::default(), Queue::default());
        Self { layer: 0, all, leaving, ended: vec![NONE; edges], near: vec![(NONE, 0); edges] }
    }

    /// Takes the paths that have just ended in one of `edges`: what `cost` says of each, and whether it was entered for one
    /// layer alone.
    pub(super) fn collect(
        &mut self,
        graph: &Graph,
        edges: &[usize],
        cut: &Cut<'_>,
        cost: impl Fn(usize) -> (Cost, bool),
    ) {
        self.layer = cut.layer;
        self.all.clear();
        self.leaving.clear();
        if !cut.starting.is_empty() {
            self.ended.fill(NONE);
        }
        let near = &mut self.near[..graph.edges.len()];
        near.fill((NONE, 0));
        for &index in edges {
            let (cost, fresh) = cost(index);
            if cost >= cut.leave {
                continue;
            }
            let edge = &graph.edges[index];
            if !cut.starting.is_empty() {
                self.all.push((cost + edge.out, index));
                self.ended[index] = cost;
            }
            let way = edge.near.min(edge.out + cut.least_into);
            let relay = if fresh { cut.relay } else { cut.first_relay };
            let links = if edge.end == cut.layer || cost + way < relay {
                edge.links.clone()
            } else if fresh {
                edge.links.start..edge.faster
            } else {
                continue;
            };
            self.leaving.push((cost + edge.out, index));
            for link in &graph.links[links] {
                let (cost, near) = (cost + link.cost, &mut near[link.to as usize]);
                if cost <= near.0 {
                    *near = (cost, index).min(*near);
                }
            }
        }
        for &index in cut.starting {
            for link in graph.links_of(index) {
                let from = link.to as usize;
                near[index] = (self.ended[from] + link.cost, from).min(near[index]);
            }
        }
    }

    /// No way into an edge costs less.
    pub(super) fn least_into(&self, edge: &Edge, index: usize) -> Cost {
        let queue = if edge.start == self.layer { &self.all } else { &self.leaving };
        self.near[index].0.min(queue.first.0 + edge.into)
    }

    /// The cheapest way into an edge, where it is below `limit`, and the edge it comes from.
    pub(super) fn cheapest(&mut self, graph: &Graph, index: usize, limit: Cost) -> Option<(Cost, usize)> {
        let (edge, mut best) = (&graph.edges[index], self.near[index].min((limit, 0)));
        let queue = if edge.start == self.layer { &mut self.all } else { &mut self.leaving };
        for at in 0.. {
            let Some((cost, from)) = queue.get(at) else { break };
            let unknown = (cost + edge.into, from);
            if unknown >= best {
                break;
            }
            if graph.edges[from].node != edge.node && !graph.knows(from, index) {
                best = unknown;
                break;
            }
        }
        (best.0 < limit).then_some(best)
    }
}

/// Paths by the cost of an unknown link from their end: in order as far as anybody looks.
struct Queue {
    first: (Cost, usize),
    others: Vec<(Cost, usize)>,
    sorted: Vec<(Cost, usize)>,
    /// What of the others is not sorted yet, once somebody looks.
    rest: Option<BinaryHeap<Reverse<(Cost, usize)>>>,
}

impl Default for Queue {
    fn default() -> Self {
        Self { first: (NONE, 0), others: Vec::new(), sorted: Vec::new(), rest: None }
    }
}

impl Queue {
    fn clear(&mut self) {
        (self.first, self.rest) = ((NONE, 0), None);
        self.others.clear();
        self.sorted.clear();
    }

    fn push(&mut self, mut path: (Cost, usize)) {
        if path < self.first {
            std::mem::swap(&mut path, &mut self.first);
        }
        if path.0 < NONE {
            self.others.push(path);
        }
    }

    /// The cheapest but `at`.
    fn get(&mut self, at: usize) -> Option<(Cost, usize)> {
        if at == 0 {
            return (self.first.0 < NONE).then_some(self.first);
        }
        let others = &self.others;
        let rest = self.rest.get_or_insert_with(|| others.iter().copied().map(Reverse).collect());
        if at > self.sorted.len() {
            self.sorted.push(rest.pop()?.0);
        }
        self.sorted.get(at - 1).copied()
    }
}
