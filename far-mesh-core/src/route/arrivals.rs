//! Where paths go over from one edge to another.
//!
//! That a path leaves an edge for another before *this* layer and not before one beside it is of use in few places: along
//! known links it pays to stay in the faster of two edges. So a slower one is entered only where the faster ends, or for one
//! layer on the way to a third, and a faster one where it begins, or after one layer in the edge that is left. (Any other
//! path can be moved towards one of these, change by change, and gets no dearer.)

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
    /// A path that costs as much, with the way to the next edge, does not leave that one after one layer.
    pub(super) relay: Cost,
}

/// The paths that may go over to another edge before a layer.
pub(super) struct Arrivals {
    /// Cost of the path that ends in an edge here, with the part of an unknown link that its end pays: the cheapest first.
    first: (Cost, usize),
    /// The others, in no order; sorted as far as anybody looked, and the rest, once somebody looks.
    others: Vec<(Cost, usize)>,
    sorted: Vec<(Cost, usize)>,
    rest: Option<BinaryHeap<Reverse<(Cost, usize)>>>,
    /// Cost of the path that ends in an edge here.
    ended: Vec<Cost>,
    /// For each edge the cheapest way into it over a known link, and the edge it comes from.
    near: Vec<(Cost, usize)>,
}

impl Arrivals {
    pub(super) fn new(graph: &Graph) -> Self {
        Self {
            first: (NONE, 0),
            others: Vec::new(),
            sorted: Vec::new(),
            rest: None,
            ended: vec![NONE; graph.edges.len()],
            near: vec![(NONE, 0); graph.edges.len()],
        }
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
        (self.first, self.rest) = ((NONE, 0), None);
        self.others.clear();
        self.sorted.clear();
        self.near.fill((NONE, 0));
        if !cut.starting.is_empty() {
            self.ended.fill(NONE);
        }
        for &index in edges {
            let (cost, fresh) = cost(index);
            if cost >= cut.leave {
                continue;
            }
            let edge = &graph.edges[index];
            let mut ended = (cost + edge.out, index);
            if ended < self.first {
                std::mem::swap(&mut ended, &mut self.first);
            }
            self.others.push(ended);
            self.ended[index] = cost;
            let links = if edge.end == cut.layer || cost + edge.near < cut.relay {
                edge.links.clone()
            } else if fresh {
                edge.links.start..edge.faster
            } else {
                continue;
            };
            for link in &graph.links[links] {
                let (cost, near) = (cost + link.cost, &mut self.near[link.to as usize]);
                if cost <= near.0 {
                    *near = (cost, index).min(*near);
                }
            }
        }
        for &index in cut.starting {
            for link in graph.links_of(index) {
                let from = link.to as usize;
                self.near[index] = (self.ended[from] + link.cost, from).min(self.near[index]);
            }
        }
    }

    /// No way into an edge costs less.
    pub(super) fn least_into(&self, edge: &Edge, index: usize) -> Cost {
        self.near[index].0.min(self.first.0 + edge.into)
    }

    /// The cheapest way into an edge, where it is below `limit`, and the edge it comes from.
    pub(super) fn cheapest(&mut self, graph: &Graph, index: usize, limit: Cost) -> Option<(Cost, usize)> {
        let (edge, mut best) = (&graph.edges[index], self.near[index].min((limit, 0)));
        for at in 0.. {
            let Some((cost, from)) = self.sorted_at(at) else { break };
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

    /// The paths that end here in the order of their costs, unknown links included.
    fn sorted_at(&mut self, at: usize) -> Option<(Cost, usize)> {
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
