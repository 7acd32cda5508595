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
        let edges: Vec<Edge> = edges.into_iter().map(edge).collect();
        let mut links: Vec<(u32, u32, Cost)> = Vec::new();
        for (one, two, cost) in said {
            let (one, two) = (one.index(edges.len()), two.index(edges.len()));
            let (one, two) = (one.min(two) as u32, one.max(two) as u32);
            let again = links.iter().any(|link| (link.0, link.1) == (one, two));
            if edges[one as usize].node != edges[two as usize].node && !again {
                links.push((one, two, cost));
            }
        }
        Graph::new(LAYERS, edges, &links)
    })
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
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_path_is_cheaper_than_the_one_found(graph in graphs()) {
        let found = search(&graph, &Rules::default(), LAYERS);
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
    fn what_a_bound_leaves_out_is_on_no_cheapest_path(graph in graphs()) {
        let rules = Rules::default();
        let whole = Pass::run(&graph, &rules, Before::Itself, None);
        let bounded = Pass::run(&graph, &rules, Before::Itself, Bound::of(&graph).as_ref());
        prop_assert_eq!(bounded.last.map(|(cost, _)| cost), whole.last.map(|(cost, _)| cost));
    }
}
