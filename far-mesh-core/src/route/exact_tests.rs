//! No route is faster than the planned one: compared with all routes of small random meshes.

use std::collections::HashSet;

use proptest::prelude::*;

use super::{
    super::{
        cost::Load,
        link::{End, Said},
    },
    tests::{assert_whole, link, node, offer, request},
    *,
};
use crate::peer::advert::LinkTag;

/// The least cost of all routes of at most `max_hops` that use no node twice, by trying each.
fn brute_force(offers: &[Offer], request: &PlanRequest) -> Option<Cost> {
    let load = Load::of(request);
    let of = |node: NodeId| offers.iter().find(|offer| offer.node == node);
    let says = |from: NodeId, to: NodeId| {
        let links = of(from).map(|offer| offer.links.as_slice()).unwrap_or_default();
        links.iter().find(|link| link.to == LinkTag::of(&to)).map(|link| link.rtt_us)
    };
    let way = |one: NodeId, two: NodeId| {
        let said = match (says(one, two), says(two, one)) {
            (Some(here), Some(there)) => Said::ByBoth(here, there),
            (Some(said), None) | (None, Some(said)) => Said::ByOne(said),
            (None, None) => Said::Nothing,
        };
        let (one, two) = (End::of(of(one)), End::of(of(two)));
        one.way(&two, said, load.steps).unwrap_or(one.share(load.steps) + two.share(load.steps))
    };
    let enter = |before: Option<&Offer>, offer: &Offer| {
        let cost = load.cost(offer);
        cost.hop
            + match (before, request.from) {
                (Some(before), _) => way(before.node, offer.node) + load.cost(before).payload + cost.payload,
                (None, Some(from)) => way(from, offer.node) + cost.payload,
                (None, None) => End::of(Some(offer)).home(load.steps),
            }
    };
    let leave = |offer: &Offer| match request.to {
        Some(to) => way(offer.node, to) + load.cost(offer).payload,
        None => End::of(Some(offer)).home(load.steps) + load.cost(offer).results,
    };
    let usable = |offer: &&Offer| {
        let taken = [request.from, request.to].contains(&Some(offer.node)) || request.busy.contains(&offer.node);
        !taken && offer.free_tokens >= u64::from(request.context_tokens)
    };
    let offers = offers.iter().filter(usable).collect::<Vec<_>>();
    let mut least: Option<Cost> = None;
    // What was paid, the layer reached, and the offers used.
    let mut open: Vec<(Cost, u32, Vec<&Offer>)> = vec![(0, request.span.start(), Vec::new())];
    while let Some((paid, at, used)) = open.pop() {
        for offer in &offers {
            let again = used.iter().any(|other| other.node == offer.node);
            if again || used.len() == request.max_hops || !(offer.span.start()..offer.span.end()).contains(&at) {
                continue;
            }
            let entered = paid + enter(used.last().copied(), offer);
            for end in at + 1..=offer.span.end().min(request.span.end()) {
                let cost = entered + load.cost(offer).layer * Cost::from(end - at);
                if end == request.span.end() {
                    let whole = cost + leave(offer);
                    least = Some(least.map_or(whole, |least| least.min(whole)));
                } else {
                    open.push((cost, end, [&used[..], &[offer]].concat()));
                }
            }
        }
    }
    least
}

fn offers() -> impl Strategy<Value = Vec<Offer>> {
    let one = (0u32..6, 1u32..7, 1u32..3_000_000, prop::option::weighted(0.9, 0u64..90), prop::bool::weighted(0.9));
    let said = proptest::collection::vec((0u16..7, 0u16..7, 0u32..100_000), 0..30);
    let slow = proptest::collection::vec((100u32..400, 0u32..9_000_000, 0u32..50_000), 7);
    (proptest::collection::vec(one, 1..7), said, slow).prop_map(|(all, said, slow)| {
        type One = (u32, u32, u32, Option<u64>, bool);
        let build = |(seed, (start, length, layer_time_ns, rtt_ms, room)): (usize, One)| {
            let mut offer = offer(seed as u16, start, (start + length).min(6).max(start + 1));
            offer.layer_time_ns = layer_time_ns;
            offer.rtt = rtt_ms.map(Duration::from_millis);
            offer.free_tokens = if room { 4096 } else { 0 };
            (offer.slowdown_percent, offer.queue_ns, offer.bandwidth_kib_s) = slow[seed];
            offer
        };
        let mut offers = all.into_iter().enumerate().map(build).collect::<Vec<_>>();
        for (from, to, rtt_us) in said {
            let tag = LinkTag::of(&node(to));
            if let Some(offer) = offers.get_mut(usize::from(from))
                && offer.links.iter().all(|link| link.to != tag)
            {
                link(offer, to, rtt_us);
            }
        }
        offers
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_route_is_whole_and_none_is_faster(offers in offers(), seed in any::<u64>(), max_hops in 1usize..7) {
        let request = PlanRequest { seed, max_hops, ..request(0, 6) };
        let best = brute_force(&offers, &request);
        match plan(6, &offers, &request) {
            Ok(route) => {
                assert_whole(&route, 6);
                prop_assert_eq!(Some(route.expected), best.map(duration));
                let nodes = route.hops.iter().map(|hop| hop.node).collect::<HashSet<_>>();
                prop_assert_eq!(nodes.len(), route.hops.len());
                for hop in &route.hops {
                    let offer = offers.iter().find(|offer| offer.node == hop.node).unwrap();
                    prop_assert!(offer.span.covers(hop.span) && offer.free_tokens >= 120);
                }
            }
            Err(PlanError::Uncovered { missing, .. }) => {
                for layer in 0..6 {
                    let one = Span::new(layer, layer + 1).unwrap();
                    let served = offers.iter().any(|offer| offer.span.covers(one));
                    prop_assert_eq!(served, !missing.iter().any(|span| span.covers(one)));
                }
            }
            Err(error) => {
                use PlanError::{NoRoom, Repeats, TooManyHops};
                let explained = matches!(error, NoRoom { .. } | TooManyHops { .. } | Repeats { .. });
                prop_assert!(best.is_none() && explained, "{}", error);
            }
        }
    }

    #[test]
    fn none_is_faster_for_a_part_between_two_hops(
        offers in offers(),
        (start, length) in (0u32..5, 1u32..6),
        (from, to, busy) in (prop::option::of(0u16..7), prop::option::of(0u16..7), prop::option::of(0u16..7)),
    ) {
        let part = PlanRequest {
            from: from.map(node),
            to: to.map(node),
            busy: busy.map(node).into_iter().collect(),
            ..request(start, (start + length).min(6))
        };
        let best = brute_force(&offers, &part);
        prop_assert_eq!(plan(6, &offers, &part).ok().map(|route| route.expected), best.map(duration));
    }
}
