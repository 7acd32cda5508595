//! What is left out of a search changes nothing that it finds.

use proptest::prelude::*;

use super::*;

const LAYERS: usize = 9;

/// Some nodes with up to three offers each; costs are small, so that many paths cost the same.
fn graphs() -> impl Strategy<Value = Graph> {
    let edge = (0..6usize, 0..LAYERS, 1..=LAYERS, [0..4u64, 0..4, 0..4, 0..4, 0..6, 0..6]);
    let links = proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..9u64), 0..60);
    (proptest::collection::vec(edge, 1..16), links).prop_map(|(mut edges, said)| {
        edges.sort_by_key(|(node, ..)| *node);
        let edge = |(node, start, length, [hop, layer, first, last, into, out]): (usize, usize, usize, [u64; 6])| {
            let end = (start + length).min(LAYERS);
            Edge { node, start, end, hop, layer, first, last, into, out, near: NONE, links: 0..0, faster: 0 }
        };
        linked(LAYERS, edges.into_iter().map(edge).collect(), said)
    })
}

/// Longer models whose offers begin and end at few layers; a link that nobody measured is long, and most edges are dear to
/// begin with.
fn sparse() -> impl Strategy<Value = Graph> {
    let edge = (0..8usize, 0..5usize, 1..5usize, [0..6u64, 0..5, 0..4, 0..3, 20..60, 20..60], any::<bool>());
    let links = proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..5u64), 2..40);
    let cuts = (4..20usize).prop_flat_map(|layers| (Just(layers), proptest::collection::vec(1..layers, 1..4)));
    (cuts, proptest::collection::vec(edge, 2..9), links).prop_map(|((layers, mut cuts), mut edges, said)| {
        cuts.extend([0, layers]);
        cuts.sort_unstable();
        cuts.dedup();
        edges.sort_by_key(|(node, ..)| *node);
        let edge = |(node, start, length, [hop, layer, first, last, into, out], far): Said| {
            let start = start.min(cuts.len() - 2);
            let (start, end) = (cuts[start], cuts[(start + length).min(cuts.len() - 1)]);
            let first = if far { 500 } else { first };
            Edge { node, start, end, hop, layer, first, last, into, out, near: NONE, links: 0..0, faster: 0 }
        };
        linked(layers, edges.into_iter().map(edge).collect(), said)
    })
}

type Said = (usize, usize, usize, [u64; 6], bool);

fn linked(layers: usize, edges: Vec<Edge>, said: Vec<(prop::sample::Index, prop::sample::Index, Cost)>) -> Graph {
    let mut links: Vec<(u32, u32, Cost)> = Vec::new();
    for (one, two, cost) in said {
        let (one, two) = (one.index(edges.len()), two.index(edges.len()));
        let (one, two) = (one.min(two) as u32, one.max(two) as u32);
        let again = links.iter().any(|link| (link.0, link.1) == (one, two));
        if edges[one as usize].node != edges[two as usize].node && !again {
            links.push((one, two, cost));
        }
    }
    Graph::new(layers, edges, &links)
}

/// What the cheapest path costs, by looking at every way into every edge before every layer.
fn least(graph: &Graph) -> Option<Cost> {
    let link = |from: usize, to: usize| {
        let known = graph.links_of(from).iter().find(|link| link.to as usize == to);
        known.map_or(graph.edges[from].out + graph.edges[to].into, |link| link.cost)
    };
    let mut inside = vec![None; graph.edges.len()];
    for layer in 0..graph.layers {
        let before = inside.clone();
        for (to, edge) in graph.edges.iter().enumerate() {
            let other = |from: &usize| graph.edges[*from].node != edge.node;
            let entered = (0..graph.edges.len()).filter(other).filter_map(|from| Some(before[from]? + link(from, to)));
            let entered = if layer == 0 { Some(edge.first) } else { entered.min() };
            let stay = if layer > edge.start { before[to] } else { None };
            let cost = entered.map(|cost| cost + edge.hop).into_iter().chain(stay).min();
            inside[to] = cost.filter(|_| (edge.start..edge.end).contains(&layer)).map(|cost| cost + edge.layer);
        }
    }
    inside.iter().zip(&graph.edges).filter_map(|(cost, edge)| Some((*cost)? + edge.last)).min()
}

/// What a path costs, leg by leg; `None` where it is none.
fn cost_of(graph: &Graph, legs: &[Leg]) -> Option<Cost> {
    let (first, last) = (legs.first()?, legs.last()?);
    let mut cost = graph.edges[first.edge].first + graph.edges[last.edge].last;
    let mut layer = 0;
    for (at, leg) in legs.iter().enumerate() {
        let edge = &graph.edges[leg.edge];
        let runs = leg.start == layer && leg.start < leg.end && edge.start <= leg.start && leg.end <= edge.end;
        let before = at.checked_sub(1).map(|before| legs[before].edge);
        if !runs || before.is_some_and(|before| graph.edges[before].node == edge.node) {
            return None;
        }
        cost += edge.hop + edge.layer * (leg.end - leg.start) as Cost;
        if let Some(before) = before {
            let known = graph.links_of(before).iter().find(|link| link.to as usize == leg.edge);
            cost += known.map_or(graph.edges[before].out + edge.into, |link| link.cost);
        }
        layer = leg.end;
    }
    (layer == graph.layers).then_some(cost)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn no_path_is_cheaper_than_the_one_found(graph in prop_oneof![graphs(), sparse()]) {
        let found = search(&graph, &Rules::default(), graph.layers);
        prop_assert_eq!(found.as_ref().map(|(cost, _)| *cost), least(&graph));
        if let Some((cost, legs)) = found {
            prop_assert_eq!(cost_of(&graph, &legs), Some(cost));
        }
    }

    /// Where the most hops matter the search goes another way.
    #[test]
    fn neither_is_one_of_few_legs(graph in graphs(), most in 1..LAYERS) {
        let any = search(&graph, &Rules::default(), LAYERS);
        let few = search_within(&graph, &Rules::default(), most);
        if let Some((cost, legs)) = &few {
            prop_assert!(legs.len() <= most);
            prop_assert_eq!(cost_of(&graph, legs), Some(*cost));
        }
        let (any, few) = (any.map(|(cost, _)| cost), few.map(|(cost, _)| cost));
        prop_assert!(few.is_none_or(|few| any.is_some_and(|any| any <= few)));
        prop_assert_eq!(search_within(&graph, &Rules::default(), LAYERS).map(|(cost, _)| cost), any);
    }

    #[test]
    fn what_a_bound_leaves_out_is_on_no_cheapest_path(graph in prop_oneof![graphs(), sparse()]) {
        let rules = Rules::default();
        let whole = Pass::run(&graph, &rules, Before::Itself, None);
        let bounded = Pass::run(&graph, &rules, Before::Itself, Bound::of(&graph).as_ref());
        prop_assert_eq!(bounded.last.map(|(cost, _)| cost), whole.last.map(|(cost, _)| cost));
    }
}

/// Edges of different nodes, each `(start, end, layer, first)` with 5 for a hop, 50 for each end of an unknown link and
/// nothing at the end of the path.
fn few(layers: usize, edges: &[(usize, usize, Cost, Cost)], links: &[(u32, u32, Cost)]) -> Graph {
    let edge = |(node, (start, end, layer, first)): (usize, &(usize, usize, Cost, Cost))| Edge {
        node,
        start: *start,
        end: *end,
        hop: 5,
        layer: *layer,
        first: *first,
        last: 0,
        into: 50,
        out: 50,
        near: NONE,
        links: 0..0,
        faster: 0,
    };
    Graph::new(layers, edges.iter().enumerate().map(edge).collect(), links)
}

/// Legs of one layer that follow the beginning, or the end of an edge: nothing begins or ends where they are left.
#[test]
fn legs_of_one_layer_may_be_held_from_behind() {
    let from_the_beginning = few(7, &[(0, 7, 3, 0), (0, 7, 4, 500), (0, 7, 0, 500)], &[(0, 1, 1), (1, 2, 1)]);
    let (cost, legs) = search(&from_the_beginning, &Rules::default(), 7).unwrap();
    assert_eq!((cost, legs.len(), least(&from_the_beginning)), (24, 3, Some(24)));
    let edges = [(0, 4, 0, 0), (0, 14, 3, 500), (0, 14, 4, 500), (0, 14, 1, 500)];
    let from_an_end = few(14, &edges, &[(0, 1, 1), (1, 2, 1), (2, 3, 1)]);
    let (cost, legs) = search(&from_an_end, &Rules::default(), 14).unwrap();
    assert_eq!((cost, legs.len(), least(&from_an_end)), (38, 4, Some(38)));
}
