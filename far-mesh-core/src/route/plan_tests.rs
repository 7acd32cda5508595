//! Routes are whole, the best there are, and their absence is explained.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use libp2p::identity::Keypair;
use proptest::prelude::*;

use super::*;

fn node(seed: u16) -> NodeId {
    let mut bytes = [5; 32];
    bytes[..2].copy_from_slice(&seed.to_le_bytes());
    Keypair::ed25519_from_bytes(bytes).unwrap().public().to_peer_id()
}

fn offer(seed: u16, start: u32, end: u32) -> Offer {
    Offer {
        node: node(seed),
        addrs: Vec::new(),
        span: Span::new(start, end).unwrap(),
        dtype: Dtype::F32,
        kernel_class: "cpu".into(),
        layer_time_ns: 150_000,
        prefill_layer_time_ns: 40_000,
        rtt: Some(Duration::from_millis(1)),
        free_tokens: 4096,
        price_nano_far: 100,
    }
}

fn request(start: u32, end: u32) -> PlanRequest {
    PlanRequest {
        model: "smollm2-135m-instruct".into(),
        span: Span::new(start, end).unwrap(),
        from: None,
        to: None,
        busy: Vec::new(),
        max_hops: MAX_HOPS,
        kernel_class: None,
        dtype: Dtype::F32,
        prompt_tokens: 20,
        max_tokens: 100,
        context_tokens: 120,
        seed: 0,
    }
}

fn spans(route: &Route) -> Vec<(u32, u32)> {
    route.hops.iter().map(|hop| hop.span.into()).collect()
}

#[test]
fn three_thirds_make_a_route() {
    let offers = [offer(2, 20, 30), offer(0, 0, 10), offer(1, 10, 20)];
    let route = plan(30, &offers, &request(0, 30)).unwrap();
    assert_eq!(spans(&route), [(0, 10), (10, 20), (20, 30)]);
    assert_eq!(route.hops.iter().map(|hop| hop.node).collect::<Vec<_>>(), [node(0), node(1), node(2)]);
    assert!(route.expected > Duration::ZERO);
}

#[test]
fn a_hop_may_run_a_part_of_its_span_for_its_part_of_the_price() {
    let mut offers = [offer(0, 0, 20), offer(1, 10, 30)];
    offers[0].layer_time_ns = 900_000;
    let route = plan(30, &offers, &request(0, 30)).unwrap();
    assert_eq!(spans(&route), [(0, 10), (10, 30)]);
    assert_eq!(route.hops.iter().map(|hop| hop.price_nano_far).collect::<Vec<_>>(), [50, 100]);
}

#[test]
fn fewer_hops_and_nearer_nodes_win() {
    let mut offers = vec![offer(0, 0, 10), offer(1, 10, 20), offer(2, 0, 20)];
    assert_eq!(spans(&plan(20, &offers, &request(0, 20)).unwrap()), [(0, 20)]);
    offers[2].rtt = Some(Duration::from_millis(300));
    assert_eq!(spans(&plan(20, &offers, &request(0, 20)).unwrap()), [(0, 10), (10, 20)]);
    offers[2].rtt = None;
    assert_eq!(spans(&plan(20, &offers, &request(0, 20)).unwrap()), [(0, 10), (10, 20)]);
}

#[test]
fn the_missing_layers_are_named() {
    let error = plan(30, &[offer(0, 0, 10), offer(1, 20, 30)], &request(0, 30)).unwrap_err();
    assert_eq!(error.to_string(), "no node serves layers 10..20 of smollm2-135m-instruct: start a provider for them");
    let error = plan(30, &[offer(0, 1, 10), offer(1, 11, 30)], &request(0, 30)).unwrap_err();
    assert!(error.to_string().contains("layers 0..1, 10..11 of"), "{error}");
    assert!(matches!(plan(30, &[], &request(0, 30)), Err(PlanError::Uncovered { .. })));
    // An offer beyond the model's end is of another model, whatever it says.
    assert!(matches!(plan(30, &[offer(0, 0, 31)], &request(0, 30)), Err(PlanError::Uncovered { .. })));
    assert!(matches!(plan(0, &[], &request(0, 30)), Err(PlanError::Layers { layers: 0 })));
    assert!(matches!(plan(20, &[offer(0, 0, 20)], &request(10, 30)), Err(PlanError::Span { layers: 20, .. })));
    assert!(matches!(plan(u32::MAX, &[], &request(0, 30)), Err(PlanError::Layers { .. })));
}

#[test]
fn full_and_incompatible_nodes_are_told_from_absent_ones() {
    let mut offers = vec![offer(0, 0, 20), offer(1, 15, 30)];
    offers[1].free_tokens = 119;
    let error = plan(30, &offers, &request(0, 30)).unwrap_err();
    let full = vec![Span::new(20, 30).unwrap()];
    assert_eq!(error, PlanError::NoRoom { model: request(0, 30).model, full, needed_tokens: 120 });
    offers[1].dtype = Dtype::F16;
    assert!(matches!(plan(30, &offers, &request(0, 30)), Err(PlanError::Dtype { .. })));
    offers.push(offer(2, 18, 30));
    let route = plan(30, &offers, &request(0, 30)).unwrap();
    assert_eq!(route.hops.iter().map(|hop| hop.node).collect::<Vec<_>>(), [node(0), node(2)]);
}

#[test]
fn a_session_has_one_type_of_activations_and_takes_the_quickest() {
    let mut offers = vec![offer(0, 0, 10), offer(1, 10, 20), offer(2, 0, 10), offer(3, 10, 20)];
    for gpu in &mut offers[2..] {
        (gpu.dtype, gpu.layer_time_ns, gpu.prefill_layer_time_ns) = (Dtype::Bf16, 9_000, 1_000);
    }
    let (route, dtype) = plan_in_any_dtype(20, &offers, &request(0, 20)).unwrap();
    assert_eq!((dtype, route.hops[0].node, route.hops[1].node), (Dtype::Bf16, node(2), node(3)));
    // A GPU and a processor do not make a route together.
    let (route, dtype) = plan_in_any_dtype(20, &offers[..3], &request(0, 20)).unwrap();
    assert_eq!((dtype, route.hops[0].node), (Dtype::F32, node(0)));
    let (_, dtype) = plan_in_any_dtype(20, &offers[2..], &request(0, 20)).unwrap();
    assert_eq!(dtype, Dtype::Bf16, "whatever the head computes in");
    let error = plan_in_any_dtype(20, &offers[1..3], &request(0, 20)).unwrap_err();
    assert!(matches!(error, PlanError::Dtype { .. }), "{error}");
}

#[test]
fn a_lost_span_is_covered_by_nodes_that_have_no_other_part() {
    let mut offers = vec![offer(0, 0, 20), offer(1, 10, 20), offer(2, 5, 15), offer(3, 12, 30), offer(4, 20, 30)];
    let whole = PlanRequest { from: Some(node(0)), to: Some(node(4)), ..request(10, 20) };
    assert_eq!(spans(&plan(30, &offers, &whole).unwrap()), [(10, 20)]);
    let lost = PlanRequest { busy: vec![node(1)], ..whole };
    let route = plan(30, &offers, &lost).unwrap();
    assert_eq!(route.hops.iter().map(|hop| hop.node).collect::<Vec<_>>(), [node(2), node(3)]);
    assert_eq!((route.hops[0].span.start(), route.hops[1].span.end()), (10, 20));
    let one = PlanRequest { max_hops: 1, ..lost.clone() };
    assert!(matches!(plan(30, &offers, &one), Err(PlanError::TooManyHops { most: 1, .. })));
    // Only the class that the session began with gives its bits.
    offers[3].kernel_class = "gpu".into();
    let same = PlanRequest { kernel_class: Some("cpu".into()), ..lost };
    let missing = vec![Span::new(15, 20).unwrap()];
    let error = PlanError::KernelClass { model: same.model.clone(), missing, class: "cpu".into() };
    assert_eq!(plan(30, &offers, &same), Err(error));
}

#[test]
fn a_node_is_not_used_twice() {
    // Alone, 0 is slow in the middle; 1 is fast but only there. The cheapest path would be 0, 1, 0.
    let mut offers = [offer(0, 0, 30), offer(1, 10, 20), offer(2, 20, 30)];
    offers[0].layer_time_ns = 4_000_000;
    offers[1].layer_time_ns = 100_000;
    offers[2].layer_time_ns = 9_000_000;
    let route = plan(30, &offers, &request(0, 30)).unwrap();
    let nodes = route.hops.iter().map(|hop| hop.node).collect::<HashSet<_>>();
    assert_eq!(nodes.len(), route.hops.len(), "{route:?}");
}

#[test]
fn seeds_spread_the_load_over_equals_and_repeat_themselves() {
    let mut offers = (0..8).map(|seed| offer(seed, 0, 30)).collect::<Vec<_>>();
    offers[3].layer_time_ns = 151_000;
    let mut taken: HashMap<NodeId, usize> = HashMap::new();
    for seed in 0..400 {
        let request = PlanRequest { seed, ..request(0, 30) };
        let route = plan(30, &offers, &request).unwrap();
        offers.reverse();
        assert_eq!(plan(30, &offers, &request).unwrap(), route, "the order of the offers is of no importance");
        *taken.entry(route.hops[0].node).or_default() += 1;
    }
    assert!(taken.len() == 8 && taken.values().all(|count| *count > 20), "{taken:?}");
}

#[test]
fn a_model_in_crumbs_is_routed_within_the_limit_or_refused() {
    let crumbs = (0..100).map(|at| offer(at as u16, at, at + 1)).collect::<Vec<_>>();
    assert!(matches!(plan(100, &crumbs, &request(0, 100)), Err(PlanError::TooManyHops { .. })));
    // Slow long spans that nobody would choose, were it not for the limit.
    let mut offers = crumbs;
    offers.iter_mut().for_each(|offer| offer.rtt = Some(Duration::ZERO));
    for (seed, start) in [(200, 0), (201, 50)] {
        let mut long = offer(seed, start, start + 50);
        long.layer_time_ns = 2_000_000;
        offers.push(long);
    }
    let route = plan(100, &offers, &request(0, 100)).unwrap();
    assert!(route.hops.len() <= MAX_HOPS && route.hops.len() > 2);
    assert_whole(&route, 100);
}

#[test]
fn hundreds_of_offers_are_planned_quickly() {
    let offers = (0..500u16)
        .map(|seed| {
            let start = u32::from(seed) * 37 % 110;
            let mut offer = offer(seed, start, (start + 16 + u32::from(seed) % 9).min(126));
            offer.layer_time_ns = 100_000 + u32::from(seed) * 7919 % 400_000;
            offer
        })
        .collect::<Vec<_>>();
    let start = Instant::now();
    let route = plan(126, &offers, &request(0, 126)).unwrap();
    let took = start.elapsed();
    println!("500 offers, 126 layers: {} hops in {took:?}", route.hops.len());
    assert_whole(&route, 126);
    assert!(took < Duration::from_millis(200), "{took:?}");
}

fn assert_whole(route: &Route, layers: u32) {
    let mut next = 0;
    for hop in &route.hops {
        assert_eq!(hop.span.start(), next);
        next = hop.span.end();
    }
    assert_eq!(next, layers);
}

/// The least cost of all routes that use no node twice, by trying each.
fn brute_force(layers: u32, offers: &[Offer], request: &PlanRequest) -> Option<Cost> {
    fn from(at: u32, layers: u32, offers: &[Offer], request: &PlanRequest, used: &mut Vec<NodeId>) -> Option<Cost> {
        if at == layers {
            return Some(0);
        }
        let mut least: Option<Cost> = None;
        for offer in offers {
            let fits = offer.span.start() <= at && at < offer.span.end() && !used.contains(&offer.node);
            if !fits || offer.free_tokens < u64::from(request.context_tokens) {
                continue;
            }
            let cost = cost::of(offer, request);
            used.push(offer.node);
            for end in at + 1..=offer.span.end().min(layers) {
                if let Some(rest) = from(end, layers, offers, request, used) {
                    let whole = cost.hop + cost.layer * Cost::from(end - at) + rest;
                    least = Some(least.map_or(whole, |least| least.min(whole)));
                }
            }
            used.pop();
        }
        least
    }
    from(0, layers, offers, request, &mut Vec::new())
}

fn offers() -> impl Strategy<Value = Vec<Offer>> {
    let one = (0u32..6, 1u32..7, 1u32..3_000_000, 0u64..4, prop::bool::weighted(0.9));
    proptest::collection::vec(one, 1..7).prop_map(|all| {
        let build = |(seed, (start, length, layer_time_ns, rtt_ms, room)): (usize, (u32, u32, u32, u64, bool))| {
            let mut offer = offer(seed as u16, start, (start + length).min(6).max(start + 1));
            offer.layer_time_ns = layer_time_ns;
            offer.rtt = Some(Duration::from_millis(rtt_ms));
            offer.free_tokens = if room { 4096 } else { 0 };
            offer
        };
        all.into_iter().enumerate().map(build).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_route_is_whole_and_none_is_faster(offers in offers(), seed in any::<u64>()) {
        let request = PlanRequest { seed, ..request(0, 6) };
        let best = brute_force(6, &offers, &request);
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
                prop_assert!(best.is_none() && matches!(error, PlanError::NoRoom { .. }), "{}", error);
            }
        }
    }
}
