//! Nodes that join and move, against every other way they could have.

use proptest::prelude::*;

use super::*;

fn span(text: &str) -> Span {
    text.parse().unwrap()
}

/// The node with this number: its identity has no more to it.
fn node(number: u8) -> NodeId {
    let digest = [&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20][..], &[number; 32]].concat();
    NodeId::from_bytes(&digest).unwrap()
}

fn holder(number: u8, layers: &str, layer_time_ns: u32) -> Holder {
    Holder { node: node(number), span: span(layers), layer_time_ns }
}

fn slowest(layers: u32, holders: &[Holder]) -> Rate {
    Profile::of(layers, holders).slowest().0
}

/// Every node in turn takes the best place, then all move until nobody does. Gives the holders and the moves made.
fn settle(layers: u32, nodes: &[(u32, u32)]) -> (Vec<Holder>, usize) {
    let mut holders: Vec<Holder> = Vec::new();
    for (number, &(length, layer_time_ns)) in nodes.iter().enumerate() {
        let span = place(layers, &holders, length, Some(layer_time_ns)).unwrap().span;
        holders.push(Holder { node: node(number as u8), span, layer_time_ns });
    }
    let moves = move_all(layers, &mut holders);
    (holders, moves)
}

/// Moves everybody whose turn it is, all of a round at once as in a mesh, until nobody wants to. Those who would leave a
/// layer to nobody stay, as they look again before they leave.
fn move_all(layers: u32, holders: &mut Vec<Holder>) -> usize {
    let mut moves = 0;
    for round in 0..2000 {
        let before = holders.clone();
        if before.iter().all(|holder| Profile::of(layers, &before).better(holder).is_none()) {
            return moves;
        }
        for at in 0..holders.len() {
            let Some(found) = rebalance(layers, &before, &before[at].node, round) else { continue };
            if may_leave(holders, &before[at].node, found.from, found.to) {
                holders[at].span = found.to;
                moves += 1;
            }
        }
    }
    panic!("{moves} moves and no end: {holders:?}");
}

#[test]
fn a_node_takes_the_slowest_layers() {
    let check = |length: u32, holders: &[Holder], want: &str| {
        let placement = place(30, holders, length, None).unwrap();
        assert_eq!(placement.span, span(want), "{placement} of {holders:?}");
    };
    check(30, &[], "0..30");
    check(10, &[], "0..10");
    check(99, &[], "0..30");
    check(10, &[holder(1, "0..10", 100)], "10..20");
    check(10, &[holder(1, "0..10", 100), holder(2, "20..30", 100)], "10..20");
    check(10, &[holder(1, "0..10", 100), holder(2, "10..20", 300), holder(3, "20..30", 200)], "10..20");
    // Longer spans are slower: the second half has less to give.
    check(12, &[holder(1, "0..12", 100), holder(2, "12..30", 100)], "12..24");
    // A count of nodes would send it elsewhere: two slow ones are less than one fast one.
    check(15, &[holder(1, "0..15", 100), holder(2, "15..30", 500), holder(3, "15..30", 500)], "15..30");
    assert_eq!(place(0, &[], 3, None), None);
}

#[test]
fn the_choice_is_told_in_a_line() {
    let line = |length, holders: &[Holder]| place(30, holders, length, Some(1_000_000)).unwrap().to_string();
    assert_eq!(line(10, &[]), "layers 0..10: nobody serves 0..30 yet, and more nodes are needed");
    assert_eq!(line(30, &[]), "layers 0..30: nobody serves 0..30 yet; the mesh comes to 33.3 tokens/s");
    let two = [holder(1, "0..15", 1_000_000), holder(2, "15..30", 2_000_000)];
    let told = "layers 15..30: the slowest layers are 15..30; the mesh goes from 33.3 tokens/s to 66.7 tokens/s";
    assert_eq!(line(15, &two), told);
}

#[test]
fn a_node_moves_when_that_is_worth_it_and_its_layers_stay_served() {
    let moves = |holders: &[Holder], number: u8| {
        (0..64).find_map(|round| rebalance(20, holders, &node(number), round)).map(|found| (found.from, found.to))
    };
    let crowd = [holder(1, "0..10", 100), holder(2, "0..10", 100), holder(3, "0..10", 100), holder(4, "10..20", 100)];
    assert_eq!(moves(&crowd, 1), Some((span("0..10"), span("10..20"))));
    assert_eq!(moves(&crowd, 4), None, "the last holder");
    assert_eq!(moves(&crowd, 9), None, "not there");
    // 10..20 has 1.15 times less: not worth it.
    let close = [holder(1, "0..10", 100), holder(2, "0..10", 100), holder(3, "10..20", 100), holder(4, "10..20", 130)];
    assert_eq!((1..=4).find_map(|number| moves(&close, number)), None);
    // A hole is always worth it.
    let hole = [holder(1, "0..10", 100), holder(2, "0..10", 900)];
    assert_eq!(moves(&hole, 1), Some((span("0..10"), span("10..20"))));
    assert!(is_worth(20, &hole, &node(1), span("10..20")) && !is_worth(20, &hole, &node(1), span("0..10")));
    assert!(!is_worth(20, &hole[..1], &node(1), span("10..20")) && !is_worth(20, &hole, &node(9), span("10..20")));
    assert_eq!(moves(&hole[..1], 1), None, "the hole would only be elsewhere");
}

#[test]
fn few_move_at_once_and_everybody_has_a_turn() {
    let mut holders: Vec<_> = (0..40).map(|number| holder(number, "0..10", 100)).collect();
    holders.push(holder(40, "10..20", 100));
    let movers = |round| (0..40).filter(|number| rebalance(20, &holders, &node(*number), round).is_some()).count();
    assert!((0..20).all(|round| movers(round) == 5));
    let first = |round| (0..40).find(|number| rebalance(20, &holders, &node(*number), round).is_some());
    assert!((1..20).any(|round| first(round) != first(0)));
}

#[test]
fn who_may_leave_is_seen_from_the_others() {
    let holders = [holder(1, "0..10", 100), holder(2, "5..20", 100)];
    assert!(!may_leave(&holders, &node(1), span("0..10"), span("10..20")));
    assert!(may_leave(&holders, &node(1), span("0..10"), span("0..5")));
    assert!(may_leave(&holders, &node(2), span("5..20"), span("7..20")));
    assert!(!may_leave(&holders, &node(2), span("5..20"), span("0..15")));
}

/// The best slowest layer that these nodes could give together, in any places.
fn optimum(layers: u32, nodes: &[(u32, u32)]) -> Rate {
    fn search(profile: &Profile, nodes: &[(u32, u32)]) -> Rate {
        let Some((&(length, time), rest)) = nodes.split_first() else { return profile.slowest().0 };
        let length = length.min(profile.rates.len() as u32);
        let with = |start: u32| {
            let mut with = profile.clone();
            with.change(Span::new(start, start + length).unwrap(), |before| before + rate(length, time));
            search(&with, rest)
        };
        (0..=profile.rates.len() as u32 - length).map(with).max().unwrap_or(0)
    }
    search(&Profile::of(layers, &[]), nodes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_mesh_comes_to_rest_and_no_layer_is_ever_lost(
        layers in 1u32..40,
        nodes in proptest::collection::vec((1u32..40, 50u32..2000), 1..40),
        gone in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
    ) {
        let (mut holders, _) = settle(layers, &nodes);
        for index in gone {
            if holders.len() > 1 {
                holders.remove(index.index(holders.len()));
            }
        }
        let covered = |holders: &[Holder]| {
            (0..layers).filter(|layer| holders.iter().any(|h| h.span.start() <= *layer && *layer < h.span.end())).count()
        };
        let (before, slow) = (covered(&holders), slowest(layers, &holders));
        let moves = move_all(layers, &mut holders);
        prop_assert!(covered(&holders) >= before);
        prop_assert!(moves == 0 || covered(&holders) > before || slowest(layers, &holders) > slow, "{} moves for nothing", moves);
    }

    #[test]
    fn a_move_keeps_every_layer_and_raises_the_slowest(
        spans in proptest::collection::vec((0u32..20, 1u32..20, 50u32..2000), 1..12),
        round in any::<u64>(),
    ) {
        let holders: Vec<_> = spans.iter().enumerate().map(|(number, &(start, length, layer_time_ns))| {
            let span = Span::new(start.min(20 - length), start.min(20 - length) + length).unwrap();
            Holder { node: node(number as u8), span, layer_time_ns }
        }).collect();
        let before = Profile::of(20, &holders);
        for at in 0..holders.len() {
            let Some(found) = rebalance(20, &holders, &holders[at].node, round) else { continue };
            let mut moved = holders.clone();
            moved[at].span = found.to;
            let after = Profile::of(20, &moved);
            prop_assert!(before.rates.iter().zip(&after.rates).all(|(before, after)| *before == 0 || *after > 0));
            prop_assert!(may_leave(&holders, &holders[at].node, found.from, found.to));
            let (times, parts) = WORTH_MOVING;
            prop_assert!(before.slowest().0 == 0 || after.slowest().0 * parts >= before.slowest().0 * times);
        }
    }

    #[test]
    fn places_taken_one_by_one_are_not_far_from_the_best(
        layers in 2u32..8,
        nodes in proptest::collection::vec((1u32..8, 100u32..400), 1..5),
    ) {
        let (holders, _) = settle(layers, &nodes);
        let (got, best) = (slowest(layers, &holders), optimum(layers, &nodes));
        prop_assert!(best == 0 || got * 2 >= best, "{got} of {best}");
    }
}
