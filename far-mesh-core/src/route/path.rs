//! The shortest way through the layers.
//!
//! Layers are points on a line and an offer is an edge between any two points of its span. A path pays for each edge it
//! enters, each layer, and the link between each two edges. Links of which nobody said anything are a sum of a part of each
//! end; those that were measured are few at each node. So one pass over the layers finds the shortest path: it keeps, for
//! each offer, the least cost of being in the middle of it, and enters an offer either from the cheapest of all that may end
//! here (no link to look at) or from one of its measured neighbours. That is `layers * offers` steps and a few more, where
//! looking at each pair would be `layers * offers^2`; neighbours are tried nearest first, and none that could not win.
//!
//! Every layer is a place to cut. That cuts lie where an offer begins or ends suffices only where a detour through a third
//! node is never shorter; measured links keep no triangle inequality.

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range};

use super::cost::Cost;

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
    /// Known links from edges before, the cheapest first: a part of [`Graph::links`].
    pub(super) links: Range<usize>,
}

/// A known link to an edge: its cost stands instead of both parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Link {
    pub(super) cost: Cost,
    /// Index of the edge it comes from.
    pub(super) from: usize,
}

/// Everything that paths are made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    pub(super) layers: usize,
    pub(super) edges: Vec<Edge>,
    pub(super) links: Vec<Link>,
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

/// No path; far above every sum of costs, and twice it still fits.
const NONE: Cost = 1 << 62;

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
    let table = Table::fill(graph, rules, None);
    let path = table.path(graph, |_| &table)?;
    if path.1.len() <= most { Some(path) } else { search_within(graph, rules, most) }
}

/// As [`search`], where the cheapest path is too long: a table for each number of legs.
fn search_within(graph: &Graph, rules: &Rules, most: usize) -> Option<Path> {
    let mut tables: Vec<Table> = Vec::with_capacity(most);
    let mut best: Option<(Cost, usize)> = None;
    for legs in 0..most {
        let before = tables.last();
        let table = match before {
            Some(before) => Table::fill(graph, rules, Some(before)),
            None => Table::fill(graph, rules, Some(&Table::nothing(graph))),
        };
        if let Some((cost, _)) = table.end(graph)
            && best.is_none_or(|(least, _)| cost < least)
        {
            best = Some((cost, legs));
        }
        tables.push(table);
    }
    let (_, last) = best?;
    tables[last].path(graph, |after| &tables[last.saturating_sub(after)])
}

/// How a place in an edge was reached: where the edge was entered, and from which.
#[derive(Clone, Copy, Debug, Default)]
struct Back {
    entered: u16,
    from: u32,
}

/// For each edge and layer of it, the least cost of a path that has just run that layer there.
struct Table {
    /// Where an edge's places begin.
    places: Vec<usize>,
    costs: Vec<Cost>,
    backs: Vec<Back>,
    /// Paths begin here too.
    begins: bool,
}

impl Rules {
    fn allow(&self, node: usize, layer: usize) -> bool {
        self.barred.iter().all(|(who, start, end)| *who != node || layer < *start || layer >= *end)
            && self.fixed.iter().all(|(at, who)| *at != layer || *who == node)
    }
}

impl Table {
    /// A table with no paths, from which those of one leg begin.
    fn nothing(graph: &Graph) -> Self {
        let mut total = 0;
        let place = |edge: &Edge| {
            let at = total;
            total += edge.end - edge.start;
            at
        };
        let places = graph.edges.iter().map(place).collect();
        Self { places, costs: vec![NONE; total], backs: vec![Back::default(); total], begins: true }
    }

    /// Fills a table from paths of one leg less, those in `before`; without it, from its own, of any number of legs.
    fn fill(graph: &Graph, rules: &Rules, before: Option<&Self>) -> Self {
        let mut table = Self::nothing(graph);
        let begins = before.is_none_or(|before| before.begins);
        table.begins = before.is_none();
        let mut arrivals = Arrivals::new(graph);
        let mut starting: Vec<Vec<usize>> = vec![Vec::new(); graph.layers];
        for (index, edge) in graph.edges.iter().enumerate() {
            starting[edge.start].push(index);
        }
        let mut active: Vec<usize> = Vec::new();
        for layer in 0..graph.layers {
            arrivals.collect(graph, &active, layer, before.unwrap_or(&table));
            active.retain(|&index| graph.edges[index].end > layer);
            active.extend(&starting[layer]);
            for &index in &active {
                let edge = &graph.edges[index];
                if !rules.allow(edge.node, layer) {
                    continue;
                }
                let place = table.places[index] + layer - edge.start;
                let (mut cost, mut back) = match edge.start == layer {
                    true => (NONE, Back::default()),
                    false => (table.costs[place - 1], table.backs[place - 1]),
                };
                let entered = match layer {
                    0 if begins => Some((edge.first, 0)),
                    0 => None,
                    _ => arrivals.cheapest(graph, index, cost.saturating_sub(edge.hop)),
                };
                // Staying wins a tie: fewer hops.
                if let Some((enter, from)) = entered.filter(|(enter, _)| enter + edge.hop < cost) {
                    (cost, back) = (enter + edge.hop, Back { entered: layer as u16, from: from as u32 });
                }
                if cost < NONE {
                    table.costs[place] = cost + edge.layer;
                    table.backs[place] = back;
                }
            }
        }
        table
    }

    /// The cheapest path over all layers, and the edge it ends in.
    fn end(&self, graph: &Graph) -> Option<(Cost, usize)> {
        let last = |(index, edge): (usize, &Edge)| {
            let cost = self.costs[self.places[index] + graph.layers - 1 - edge.start];
            (cost < NONE).then(|| (cost + edge.last, index))
        };
        graph.edges.iter().enumerate().filter(|(_, edge)| edge.end == graph.layers).filter_map(last).min()
    }

    /// That path; `before(n)` is the table that holds what comes `n` legs before its last.
    fn path<'a>(&self, graph: &Graph, before: impl Fn(usize) -> &'a Self) -> Option<Path> {
        let (cost, mut edge) = self.end(graph)?;
        let (mut legs, mut end) = (Vec::new(), graph.layers);
        while end > 0 {
            let table = before(legs.len());
            let back = table.backs[table.places[edge] + end - 1 - graph.edges[edge].start];
            let start = usize::from(back.entered);
            legs.push(Leg { edge, start, end });
            (edge, end) = (back.from as usize, start);
        }
        legs.reverse();
        Some((cost, legs))
    }
}

/// The paths that may go over to another edge before a layer.
struct Arrivals {
    /// Cost of the path that ends in an edge here.
    ended: Vec<Cost>,
    present: Vec<usize>,
    least: Cost,
    /// With the parts of unknown links that their ends pay: sorted as far as anybody looked, and the rest.
    sorted: Vec<(Cost, usize)>,
    rest: BinaryHeap<Reverse<(Cost, usize)>>,
}

impl Arrivals {
    fn new(graph: &Graph) -> Self {
        let ended = vec![NONE; graph.edges.len()];
        Self { ended, present: Vec::new(), least: NONE, sorted: Vec::new(), rest: BinaryHeap::new() }
    }

    /// Takes the paths that have run `layer - 1` in one of `edges`.
    fn collect(&mut self, graph: &Graph, edges: &[usize], layer: usize, table: &Table) {
        for index in self.present.drain(..) {
            self.ended[index] = NONE;
        }
        self.least = NONE;
        self.sorted.clear();
        let mut rest = std::mem::take(&mut self.rest).into_vec();
        rest.clear();
        for &index in edges {
            let edge = &graph.edges[index];
            let cost = table.costs[table.places[index] + layer - 1 - edge.start];
            if cost < NONE {
                self.ended[index] = cost;
                self.least = self.least.min(cost);
                self.present.push(index);
                rest.push(Reverse((cost + edge.out, index)));
            }
        }
        self.rest = rest.into();
    }

    /// The cheapest way into an edge, where it is below `limit`, and the edge it comes from.
    fn cheapest(&mut self, graph: &Graph, index: usize, limit: Cost) -> Option<(Cost, usize)> {
        let edge = &graph.edges[index];
        let links = &graph.links[edge.links.clone()];
        let mut best = (limit, 0);
        for at in 0.. {
            let Some((cost, from)) = self.sorted_at(at) else { break };
            if cost + edge.into >= best.0 {
                break;
            }
            if graph.edges[from].node != edge.node && links.iter().all(|link| link.from != from) {
                best = (cost + edge.into, from);
                break;
            }
        }
        for link in links {
            if self.least + link.cost > best.0 {
                break;
            }
            best = best.min((self.ended[link.from] + link.cost, link.from));
        }
        (best.0 < limit).then_some(best)
    }

    fn sorted_at(&mut self, at: usize) -> Option<(Cost, usize)> {
        if at == self.sorted.len() {
            self.sorted.push(self.rest.pop()?.0);
        }
        self.sorted.get(at).copied()
    }
}
