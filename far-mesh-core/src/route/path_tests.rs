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
            Edge { node, start, end, hop, layer, first, last, into, out, links: 0..0 }
        };
        let mut graph = Graph { layers: LAYERS, edges: edges.into_iter().map(edge).collect(), links: Vec::new() };
        for to in 0..graph.edges.len() {
            let start = graph.links.len();
            for (from, at, cost) in &said {
                let from = from.index(graph.edges.len());
                let again = graph.links[start..].iter().any(|link| link.from == from);
                if at.index(graph.edges.len()) == to && graph.edges[from].node != graph.edges[to].node && !again {
                    graph.links.push(Link { cost: *cost, from });
                }
            }
            graph.edges[to].links = start..graph.links.len();
        }
        graph
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_path_with_a_bound_is_the_path_without(graph in graphs()) {
        let rules = Rules::default();
        let whole = Pass::run(&graph, &rules, Before::Itself, None);
        let bound = Bound::of(&graph);
        let bounded = Pass::run(&graph, &rules, Before::Itself, bound.as_ref());
        prop_assert_eq!(bounded.path(&graph, |_| &bounded), whole.path(&graph, |_| &whole));
        prop_assert!(bounded.entries.len() <= whole.entries.len());
    }
}
