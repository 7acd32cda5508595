//! Places that no cheapest path passes: branch and bound within the search for one path.
//!
//! What the rest of a path costs at least is found by going over the layers backwards as if every edge were entered by the
//! cheapest link into it. That needs no look at pairs. Who follows it forwards, paying the real links, has a path: what it
//! costs is enough. A place that costs more on the way to it and from it at the least is not on the cheapest path, and none
//! of its links needs to be looked at. The rest is consistent (Hart, Nilsson & Raphael 1968), so no place before one of a
//! cheapest path is left out either, and the same path is found as without a bound.

use super::{
    cost::Cost,
    graph::{Edge, Graph, NONE},
};

/// What paths may cost.
#[derive(Debug)]
pub(super) struct Bound {
    /// In all: some path costs no more.
    enough: Cost,
    /// The least from each layer in each edge to the end, that layer included: for each layer, of all edges.
    rest: Vec<Cost>,
    /// For each layer the least from entering any edge for it, the way into it included, and that edge.
    enter: Vec<(Cost, usize)>,
    /// For each layer how many layers there are to the next at which an edge begins or ends, and the least from entering
    /// any edge there.
    relays: Vec<(Cost, Cost)>,
    /// The least that an edge costs for one layer.
    least_leg: Cost,
    /// The least that a link costs, and of an unknown one the part that its end pays.
    least_link: Cost,
    least_into: Cost,
}

impl Bound {
    /// `None` where the first path at hand does not come through: then every place may be on the cheapest.
    pub(super) fn of(graph: &Graph) -> Option<Self> {
        let edges = graph.edges.len();
        let least_into = graph.edges.iter().map(|edge| edge.into).min().unwrap_or(0);
        let mut bound = Self {
            enough: NONE,
            // Zeros cost nothing to write; only places within edges are written and read.
            rest: vec![0; graph.layers * edges],
            enter: vec![(NONE, 0); graph.layers],
            relays: Vec::new(),
            least_leg: graph.edges.iter().map(|edge| edge.hop + edge.layer).min().unwrap_or(0),
            least_link: graph.edges.iter().map(|edge| edge.near.min(edge.out + least_into)).min().unwrap_or(0),
            least_into,
        };
        bound.go_back(graph);
        bound.count_relays(graph);
        bound.enough = bound.go_forth(graph)?;
        Some(bound)
    }

    /// A path that costs as much before it runs this layer in this edge is too dear.
    pub(super) fn limit(&self, graph: &Graph, index: usize, layer: usize) -> Cost {
        (self.enough + 1).saturating_sub(self.rest_of(graph, index, layer))
    }

    /// A path that costs as much before it leaves an edge for another is too dear.
    pub(super) fn limit_to_leave(&self, layer: usize) -> Cost {
        (self.enough + 1).saturating_sub(self.enter[layer].0)
    }

    /// A path that costs as much, with the way to the next edge, does not run that one for one layer alone.
    pub(super) fn limit_to_relay(&self, layer: usize) -> Cost {
        // After the last layer there is nothing to enter, and a path may run that one alone in its last edge.
        let enter = self.enter.get(layer + 1).map_or(0, |(enter, _)| *enter);
        (self.enough + 1).saturating_sub(enter + self.least_leg)
    }

    /// The same after a longer leg: legs of one layer go on from here to a layer where an edge begins or ends.
    pub(super) fn limit_to_first_relay(&self, layer: usize) -> Cost {
        let (legs, enter) = self.relays[layer];
        let between = (legs - 1).saturating_mul(self.least_link);
        (self.enough + 1).saturating_sub(enter + between + legs.saturating_mul(self.least_leg))
    }

    /// The least part of an unknown link that its end pays.
    pub(super) fn least_into(&self) -> Cost {
        self.least_into
    }

    fn rest_of(&self, graph: &Graph, index: usize, layer: usize) -> Cost {
        self.rest[layer * graph.edges.len() + index]
    }

    fn go_back(&mut self, graph: &Graph) {
        let least_out = graph.edges.iter().map(|edge| edge.out).min().unwrap_or(0);
        let enter = |edge: &Edge| edge.hop + (edge.into + least_out).min(edge.near);
        // What each step needs of an edge, side by side.
        let costs = graph.edges.iter().map(|edge| (edge.layer, enter(edge))).collect::<Vec<_>>();
        let mut ending: Vec<Vec<usize>> = vec![Vec::new(); graph.layers + 1];
        for (index, edge) in graph.edges.iter().enumerate() {
            ending[edge.end].push(index);
        }
        // The rest from after the layer, in each edge and where another is entered.
        let edges = graph.edges.len();
        let (mut inside, mut entering) = (vec![NONE; edges], NONE);
        let mut active: Vec<usize> = Vec::with_capacity(graph.edges.len());
        for layer in (0..graph.layers).rev() {
            active.retain(|&index| graph.edges[index].start <= layer);
            active.extend(&ending[layer + 1]);
            if layer + 1 == graph.layers {
                active.iter().for_each(|&index| inside[index] = graph.edges[index].last);
            }
            let rest = &mut self.rest[layer * edges..][..edges];
            let mut least = (NONE, 0);
            for &index in &active {
                let (own, enter) = costs[index];
                let cost = inside[index].min(entering) + own;
                (inside[index], rest[index]) = (cost, cost);
                if cost + enter < least.0 {
                    least = (cost + enter, index);
                }
            }
            (entering, self.enter[layer]) = (least.0, least);
        }
    }

    fn count_relays(&mut self, graph: &Graph) {
        let mut ends = vec![false; graph.layers + 1];
        for edge in &graph.edges {
            (ends[edge.start], ends[edge.end]) = (true, true);
        }
        // A path ends after the last layer.
        self.relays = vec![(1, 0); graph.layers];
        for layer in (1..graph.layers).rev() {
            let (legs, enter) = self.relays[layer];
            self.relays[layer - 1] = if ends[layer] { (1, self.enter[layer].0) } else { (legs + 1, enter) };
        }
    }

    /// What a path costs that goes on wherever the least is left.
    fn go_forth(&self, graph: &Graph) -> Option<Cost> {
        let begin = |(index, edge): (usize, &Edge)| {
            let cost = edge.first + edge.hop;
            (edge.start == 0).then(|| (cost + self.rest_of(graph, index, 0), cost, index))
        };
        let (_, mut cost, mut at) = graph.edges.iter().enumerate().filter_map(begin).min()?;
        for layer in 0..graph.layers {
            if layer > 0 {
                let edge = &graph.edges[at];
                let stay = (edge.end > layer).then(|| (self.rest_of(graph, at, layer), 0, at));
                let enter = |(next, link): (usize, Cost)| {
                    let to = &graph.edges[next];
                    let fits = to.start <= layer && layer < to.end && to.node != edge.node;
                    let cost = fits.then_some(link + to.hop)?;
                    Some((cost + self.rest_of(graph, next, layer), cost, next))
                };
                let near = graph.links_of(at).iter().map(|link| (link.to as usize, link.cost));
                let (_, cheapest) = self.enter[layer];
                let unknown = (!graph.knows(at, cheapest)).then(|| (cheapest, edge.out + graph.edges[cheapest].into));
                let (_, paid, next) = near.chain(unknown).filter_map(enter).chain(stay).min()?;
                (cost, at) = (cost + paid, next);
            }
            cost += graph.edges[at].layer;
        }
        (cost < NONE).then(|| cost + graph.edges[at].last)
    }
}
