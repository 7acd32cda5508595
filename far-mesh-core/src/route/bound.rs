//! Places that no cheapest path passes: branch and bound within the search for one path.
//!
//! What the rest of a path costs at least is found by going over the layers backwards as if every edge were entered by the
//! cheapest link into it. That needs no look at pairs. Who follows it forwards, paying the real links, has a path: what it
//! costs is enough. A place that costs more on the way to it and from it at the least is not on the cheapest path, and none
//! of its links needs to be looked at. The rest is consistent (Hart, Nilsson & Raphael 1968), so no place before one of a
//! cheapest path is left out either, and the same path is found as without a bound.

use super::{
    cost::Cost,
    path::{Edge, Graph, NONE},
};

/// What paths may cost.
#[derive(Debug)]
pub(super) struct Bound {
    /// In all: some path costs no more.
    enough: Cost,
    /// The least from each layer in each edge to the end, that layer included: for each layer, of all edges.
    rest: Vec<Cost>,
    /// The edge that is the cheapest to enter for each layer.
    cheapest: Vec<usize>,
}

impl Bound {
    /// `None` where the first path at hand does not come through: then every place may be on the cheapest.
    pub(super) fn of(graph: &Graph) -> Option<Self> {
        let edges = graph.edges.len();
        let mut bound = Self { enough: NONE, rest: vec![NONE; graph.layers * edges], cheapest: vec![0; graph.layers] };
        bound.go_back(graph);
        bound.enough = bound.go_forth(graph)?;
        Some(bound)
    }

    /// A path that costs as much before it runs this layer in this edge is too dear.
    pub(super) fn limit(&self, graph: &Graph, index: usize, layer: usize) -> Cost {
        (self.enough + 1).saturating_sub(self.rest_of(graph, index, layer))
    }

    fn rest_of(&self, graph: &Graph, index: usize, layer: usize) -> Cost {
        self.rest[layer * graph.edges.len() + index]
    }

    fn go_back(&mut self, graph: &Graph) {
        let least_out = graph.edges.iter().map(|edge| edge.out).min().unwrap_or(0);
        let enter = |edge: &Edge| edge.hop + (edge.into + least_out).min(graph.nearest(edge));
        let enter = graph.edges.iter().map(enter).collect::<Vec<_>>();
        let mut ending: Vec<Vec<usize>> = vec![Vec::new(); graph.layers + 1];
        for (index, edge) in graph.edges.iter().enumerate() {
            ending[edge.end].push(index);
        }
        // The rest from after the layer, in each edge and where another is entered.
        let (mut inside, mut entering) = (vec![NONE; graph.edges.len()], NONE);
        let mut active: Vec<usize> = Vec::with_capacity(graph.edges.len());
        for layer in (0..graph.layers).rev() {
            active.retain(|&index| graph.edges[index].start <= layer);
            active.extend(&ending[layer + 1]);
            let mut least = (NONE, 0);
            for &index in &active {
                let edge = &graph.edges[index];
                let after = if layer + 1 == graph.layers { edge.last } else { inside[index].min(entering) };
                inside[index] = after + edge.layer;
                self.rest[layer * inside.len() + index] = inside[index];
                least = least.min((inside[index] + enter[index], index));
            }
            (entering, self.cheapest[layer]) = least;
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
                // Whoever is near on the way in is so on the way out.
                let near = graph.links[edge.links.clone()].iter().map(|link| link.from);
                let enter = |next: usize| {
                    let to = &graph.edges[next];
                    let fits = to.start <= layer && layer < to.end && to.node != edge.node;
                    let cost = fits.then(|| graph.link(at, next) + to.hop)?;
                    Some((cost + self.rest_of(graph, next, layer), cost, next))
                };
                let (_, paid, next) = near.chain([self.cheapest[layer]]).filter_map(enter).chain(stay).min()?;
                (cost, at) = (cost + paid, next);
            }
            cost += graph.edges[at].layer;
        }
        (cost < NONE).then(|| cost + graph.edges[at].last)
    }
}
