//! What routes are searched in.

use std::ops::Range;

use super::cost::Cost;

/// No path; far above every sum of costs, and twice it still fits.
pub(super) const NONE: Cost = 1 << 62;

/// An offer as the search sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Edge {
    /// Number of its node.
    pub(super) node: usize,
    /// First layer.
    pub(super) start: usize,
    /// Layer after the last.
    pub(super) end: usize,
    /// For being in the path.
    pub(super) hop: Cost,
    /// For each layer.
    pub(super) layer: Cost,
    /// Of the way from where the path begins, when it is the first.
    pub(super) first: Cost,
    /// Of the way to where the path ends, when it is the last.
    pub(super) last: Cost,
    /// Its part of an unknown link from the edge before.
    pub(super) into: Cost,
    /// Its part of an unknown link to the edge after.
    pub(super) out: Cost,
    /// The cheapest known link to it or from it.
    pub(super) near: Cost,
    /// Known links to and from other edges: a part of [`Graph::links`].
    pub(super) links: Range<usize>,
    /// Before it in [`Graph::links`] are those to edges that are faster.
    pub(super) faster: usize,
}

/// A known link between an edge and another, either way: its cost stands instead of both parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) cost: Cost,
    /// Index of the other edge.
    pub(super) to: u32,
}

/// Everything that paths are made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    pub(super) layers: usize,
    pub(super) edges: Vec<Edge>,
    pub(super) links: Vec<Link>,
    /// A bit for each two edges: whether there is a known link from the one to the other.
    known: Vec<u64>,
}

impl Graph {
    /// Takes known links, in whatever order: two edges, and what going over from one to the other costs.
    pub(super) fn new(layers: usize, mut edges: Vec<Edge>, links: &[(u32, u32, Cost)]) -> Self {
        let words = edges.len().div_ceil(64);
        let mut known = vec![0; words * edges.len()];
        // Those of an edge side by side, faster ones first: a counting sort.
        let mut counts = vec![0; 2 * edges.len() + 1];
        let of = |edges: &[Edge], from: usize, to: usize| 2 * from + usize::from(edges[to].layer >= edges[from].layer);
        let both = || {
            links
                .iter()
                .flat_map(|&(one, two, cost)| [(one as usize, two as usize, cost), (two as usize, one as usize, cost)])
        };
        for (from, to, cost) in both() {
            counts[of(&edges, from, to) + 1] += 1;
            edges[from].near = cost.min(edges[from].near);
            known[from * words + to / 64] |= 1 << (to % 64);
        }
        for index in 1..counts.len() {
            counts[index] += counts[index - 1];
        }
        for (index, edge) in edges.iter_mut().enumerate() {
            edge.links = counts[2 * index]..counts[2 * index + 2];
            edge.faster = counts[2 * index + 1];
        }
        let mut sorted = vec![Link { cost: 0, to: 0 }; 2 * links.len()];
        for (from, to, cost) in both() {
            let place = &mut counts[of(&edges, from, to)];
            sorted[*place] = Link { cost, to: to as u32 };
            *place += 1;
        }
        Self { layers, edges, links: sorted, known }
    }

    /// Whether the link from one edge to another is known.
    pub(super) fn knows(&self, from: usize, to: usize) -> bool {
        self.known[from * self.edges.len().div_ceil(64) + to / 64] >> (to % 64) & 1 == 1
    }

    /// The known links of an edge.
    pub(super) fn links_of(&self, from: usize) -> &[Link] {
        &self.links[self.edges[from].links.clone()]
    }
}
