//! From offers to the graph that routes are searched in.

use super::{
    Offer, PlanRequest,
    cost::{Cost, Load},
    graph::{Edge, Graph, NONE},
    link::{End, Said},
    region::RegionWish,
};
use crate::{id::NodeId, peer::advert::LinkTag};

/// Builds the graph. `offers` are those that may be hops, those of a node side by side; `known` are all of them, also
/// those of the nodes before and after.
pub(super) fn graph(offers: &[&Offer], known: &[Offer], request: &PlanRequest) -> Graph {
    let load = Load::of(request);
    let ends: Vec<End> = offers.iter().map(|offer| End::of(Some(offer))).collect();
    let (before, after) = (Outside::of(request.from, known), Outside::of(request.to, known));
    let mut edges = Vec::with_capacity(offers.len());
    let mut node = 0;
    for (index, offer) in offers.iter().enumerate() {
        if index > 0 && offers[index - 1].node != offer.node {
            node += 1;
        }
        let (cost, end, first) = (load.cost(offer), &ends[index], request.span.start());
        let share = end.share(load.steps);
        let first_way = before.as_ref().map_or(end.home(load.steps), |from| from.way(offer, end, &load) + cost.payload);
        let last_way = match &after {
            Some(to) => to.way(offer, end, &load) + cost.payload,
            None => end.home(load.steps) + cost.results,
        };
        edges.push(Edge {
            node,
            start: offer.span.start().saturating_sub(first) as usize,
            end: (offer.span.end().min(request.span.end()) - first) as usize,
            hop: cost.hop,
            layer: cost.layer + outside(offer, request),
            first: first_way,
            last: last_way,
            into: share + cost.payload,
            out: share + cost.payload,
            near: NONE,
            links: 0..0,
            faster: 0,
        });
    }
    // What a known link costs beside its way is what both parts cost beside theirs.
    let payload: Vec<Cost> = edges.iter().zip(&ends).map(|(edge, end)| edge.out - end.share(load.steps)).collect();
    let mut known = Vec::with_capacity(offers.iter().map(|offer| offer.links.len()).sum());
    pairs(offers, &edges, request.seed, |one, two, said| {
        if let Some(way) = ends[one].way(&ends[two], said, load.steps) {
            known.push((one as u32, two as u32, way + payload[one] + payload[two]));
        }
    });
    Graph::new(request.span.len() as usize, edges, &known)
}

/// What a layer costs more outside the preferred region: more than any route would take, so as few as can be run there.
pub(super) fn outside(offer: &Offer, request: &PlanRequest) -> Cost {
    const HOURS: Cost = 1 << 44;
    match &request.region {
        Some(RegionWish::Prefer(region)) if !offer.is_in(region) => HOURS,
        _ => 0,
    }
}

/// The node before or after what is planned.
struct Outside<'a> {
    tag: LinkTag,
    offer: Option<&'a Offer>,
    end: End,
}

impl<'a> Outside<'a> {
    fn of(node: Option<NodeId>, known: &'a [Offer]) -> Option<Self> {
        let node = node?;
        let offer = known.iter().find(|offer| offer.node == node);
        Some(Self { tag: LinkTag::of(&node), offer, end: End::of(offer) })
    }

    fn way(&self, offer: &Offer, end: &End, load: &Load) -> Cost {
        let tag = LinkTag::of(&offer.node);
        let says = |offer: &Offer, tag| offer.links.iter().find(|link| link.to == tag).map(|link| link.rtt_us);
        let said = match (self.offer.and_then(|own| says(own, tag)), says(offer, self.tag)) {
            (Some(here), Some(there)) => Said::ByBoth(here, there),
            (Some(one), None) | (None, Some(one)) => Said::ByOne(one),
            (None, None) => Said::Nothing,
        };
        let shares = || self.end.share(load.steps) + end.share(load.steps);
        self.end.way(end, said, load.steps).unwrap_or_else(shares)
    }
}

/// Whether there is a layer before which a path may go over from one edge to the other.
fn follows(from: &Edge, to: &Edge) -> bool {
    (from.start + 1).max(to.start) <= from.end.min(to.end - 1)
}

/// Tells `found` each two edges of which at least one end says how far they are apart, once.
fn pairs(offers: &[&Offer], edges: &[Edge], seed: u64, mut found: impl FnMut(usize, usize, Said)) {
    let told = told(offers, edges, seed);
    let heard = turned(&told, edges.len());
    // What the edge at hand says of each other.
    let mut says: Vec<Option<u32>> = vec![None; edges.len()];
    let (mut told, mut heard) =
        (told.chunk_by(|a, b| a.0 == b.0).peekable(), heard.chunk_by(|a, b| a.1 == b.1).peekable());
    for one in 0..edges.len() {
        let own = told.next_if(|of| of[0].0 as usize == one).unwrap_or_default();
        let others = heard.next_if(|of| of[0].1 as usize == one).unwrap_or_default();
        own.iter().for_each(|&(_, two, rtt_us)| says[two as usize] = Some(rtt_us));
        for &(two, _, there) in others {
            let said = match says[two as usize].take() {
                Some(here) => Said::ByBoth(here, there),
                None => Said::ByOne(there),
            };
            // Each two meet twice; where one alone speaks, once here and once below.
            if one < two as usize {
                found(one, two as usize, said);
            }
        }
        for &(_, two, _) in own {
            if let Some(here) = says[two as usize].take().filter(|_| one < two as usize) {
                found(one, two as usize, Said::ByOne(here));
            }
        }
    }
}

/// Who says of whom how many microseconds a round trip takes, in the order of who says it. A node with several offers says
/// it of all of them to all of the other's.
fn told(offers: &[&Offer], edges: &[Edge], seed: u64) -> Vec<(u32, u32, u32)> {
    let tags = Tags::of(offers, seed);
    let mut told = Vec::with_capacity(offers.iter().map(|offer| offer.links.len()).sum());
    for (one, offer) in offers.iter().enumerate() {
        for link in &offer.links {
            let Some(first) = tags.find(link.to).filter(|first| edges[*first].node != edges[one].node) else {
                continue;
            };
            let same = (first..edges.len()).take_while(|two| edges[*two].node == edges[first].node);
            let useful = same.filter(|two| follows(&edges[one], &edges[*two]) || follows(&edges[*two], &edges[one]));
            told.extend(useful.map(|two| (one as u32, two as u32, link.rtt_us)));
        }
    }
    told
}

/// The same in the order of whom it is said of (counting sort).
fn turned(told: &[(u32, u32, u32)], edges: usize) -> Vec<(u32, u32, u32)> {
    let mut at = vec![0; edges + 1];
    for (_, two, _) in told {
        at[*two as usize + 1] += 1;
    }
    for index in 1..at.len() {
        at[index] += at[index - 1];
    }
    let mut turned = vec![(0, 0, 0); told.len()];
    for said in told {
        let place = &mut at[said.1 as usize];
        turned[*place] = *said;
        *place += 1;
    }
    turned
}

/// Finds the first of a node's offers by its tag: a table with open addressing, since the map of the standard library takes
/// longer than the search. The hash is seeded, so that nobody can make keys that fall together.
struct Tags {
    seed: u64,
    slots: Vec<(LinkTag, u32)>,
}

impl Tags {
    const EMPTY: u32 = u32::MAX;

    fn of(offers: &[&Offer], seed: u64) -> Self {
        // A quarter of the slots is taken at most.
        let mut tags =
            Self { seed, slots: vec![(LinkTag([0; 8]), Self::EMPTY); (offers.len() * 4).next_power_of_two()] };
        for (index, offer) in offers.iter().enumerate() {
            if index == 0 || offers[index - 1].node != offer.node {
                let tag = LinkTag::of(&offer.node);
                if let Some(slot) = tags.probe(tag).find(|slot| tags.slots[*slot].1 == Self::EMPTY) {
                    tags.slots[slot] = (tag, index as u32);
                }
            }
        }
        tags
    }

    fn find(&self, tag: LinkTag) -> Option<usize> {
        let taken = self.probe(tag).map(|slot| self.slots[slot]).take_while(|(_, index)| *index != Self::EMPTY);
        taken.into_iter().find(|(other, _)| *other == tag).map(|(_, index)| index as usize)
    }

    fn probe(&self, tag: LinkTag) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len() - 1;
        let hash = (u64::from_le_bytes(tag.0) ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        (0..=mask).map(move |step| (hash as usize + step) & mask)
    }
}
