//! Which nodes say that they stand where they cannot.
//!
//! A round trip shorter than light takes between two regions shows that one of both is not where it says. The coordinator
//! knows its own region and measures itself, so what it finds out is certain. Between two nodes it takes what both measured
//! alike; one of the two lies, and it is the one that more others contradict. Where that does not tell, neither is believed:
//! who requires a region is better served by too few nodes than by a wrong one.
//!
//! Nobody can be shown to be nearer than he is, so a node that answers late can seem to stand farther away. That is found
//! out only by the neighbours that it answers in time.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{Offer, region::least_rtt};
use crate::{id::NodeId, peer::advert::LinkTag};

/// The nodes of `offers` whose regions are refuted; `home` is the coordinator's own, where it is known.
pub fn refuted(home: Option<&str>, offers: &[Offer]) -> HashSet<NodeId> {
    let impossible = |one: &str, other: &str, rtt: Duration| least_rtt(one, other).is_some_and(|least| rtt < least);
    let by_us = |offer: &&Offer| match (home, offer.rtt) {
        (Some(home), Some(rtt)) => impossible(home, &offer.region, rtt),
        _ => false,
    };
    let mut refuted: HashSet<NodeId> = offers.iter().filter(by_us).map(|offer| offer.node).collect();
    let by_tag: HashMap<LinkTag, &Offer> = offers.iter().map(|offer| (LinkTag::of(&offer.node), offer)).collect();
    let mut against: Vec<(NodeId, NodeId)> = Vec::new();
    for one in offers {
        for link in &one.links {
            let Some(other) = by_tag.get(&link.to).filter(|other| one.node < other.node) else { continue };
            if one.region == other.region {
                continue;
            }
            let own = LinkTag::of(&one.node);
            let Some(back) = other.links.iter().find(|back| back.to == own) else { continue };
            let rtt = Duration::from_micros(link.rtt_us.max(back.rtt_us).into());
            if impossible(&one.region, &other.region, rtt) {
                against.push((one.node, other.node));
            }
        }
    }
    loop {
        against.retain(|(one, other)| !refuted.contains(one) && !refuted.contains(other));
        let mut counts: HashMap<NodeId, usize> = HashMap::new();
        for (one, other) in &against {
            *counts.entry(*one).or_default() += 1;
            *counts.entry(*other).or_default() += 1;
        }
        let Some(most) = counts.values().max().copied() else { return refuted };
        refuted.extend(counts.into_iter().filter(|(_, count)| *count == most).map(|(node, _)| node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{activation::Dtype, id::Span, peer::advert::Link};

    fn offer(region: &str, rtt_ms: Option<u64>) -> Offer {
        Offer {
            node: NodeId::random(),
            addrs: vec![],
            span: Span::new(0, 10).unwrap(),
            dtype: Dtype::F32,
            kernel_class: "cpu".into(),
            layer_time_ns: 1,
            prefill_layer_time_ns: 1,
            rtt: rtt_ms.map(Duration::from_millis),
            region: region.into(),
            region_refuted: false,
            links: vec![],
            queue_ns: 0,
            bandwidth_kib_s: 0,
            slowdown_percent: 100,
            free_tokens: 1,
            price_nano_far: 0,
        }
    }

    fn join(offers: &mut [Offer], one: usize, other: usize, rtt_us: u32) {
        for (from, to) in [(one, other), (other, one)] {
            let to = LinkTag::of(&offers[to].node);
            offers[from].links.push(Link { to, rtt_us });
        }
    }

    fn check(home: Option<&str>, offers: &[Offer], expect: &[usize]) {
        let expect = expect.iter().map(|at| offers[*at].node).collect::<HashSet<_>>();
        assert_eq!(refuted(home, offers), expect);
    }

    #[test]
    fn who_answers_faster_than_light_is_not_where_he_says() {
        let offers = [offer("eu", Some(5)), offer("ap-northeast", Some(5)), offer("ap-northeast", Some(230))];
        check(Some("eu-central"), &offers, &[1]);
        check(Some("rack-7"), &offers, &[]);
        check(None, &offers, &[]);
        check(Some("eu"), &[offer("nowhere", Some(0)), offer("", Some(0)), offer("us", None)], &[]);
    }

    #[test]
    fn of_two_that_contradict_each_other_the_majority_decides() {
        let mut offers = [offer("eu", None), offer("eu", None), offer("eu", None), offer("us-west", None)];
        (0..3).for_each(|honest| join(&mut offers, honest, 3, 9_000));
        join(&mut offers, 0, 1, 9_000);
        check(None, &offers, &[3]);
        // Without one, neither is believed.
        check(None, &[offers[0].clone(), offers[3].clone()], &[0, 1]);
        // What the coordinator measured itself comes first.
        offers[0].rtt = Some(Duration::from_millis(3));
        check(Some("us-west"), &[offers[0].clone(), offers[3].clone()], &[0]);
        // One end alone proves nothing.
        offers[3].links.clear();
        check(None, &offers, &[]);
    }
}
