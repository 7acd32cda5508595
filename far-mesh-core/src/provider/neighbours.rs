//! How far a provider is from the nodes that hold the layers beside its own: what routes between hops are planned with.
//!
//! The task looks up the model's adverts, keeps a connection to the nodes whose layers begin, end or go on where its own
//! do, and lets the ping of those connections measure. Both ends of a connection ping, so a node that was dialed learns of
//! its neighbour too, and what both say is believed most.

use std::{collections::HashMap, time::Duration};

use tokio::{sync::watch, time::Instant};

use crate::{
    id::{ModelHash, NodeId, Span},
    peer::{
        Advert, Node, SHARD_PROTOCOL,
        advert::{Link, LinkTag, MAX_LINK_US, MAX_LINKS},
    },
};

/// How soon neighbours are looked for again at first, when the mesh may just be starting; then twice as long each time, up to
/// [`LOOK`].
const FIRST_LOOK: Duration = Duration::from_secs(4);

/// How often neighbours are looked for: seldomer than adverts are announced, since a look-up costs as much.
const LOOK: Duration = Duration::from_secs(60);

/// How long the first pings of a new connection may take before what is known is told.
const PING: Duration = Duration::from_secs(1);

/// How long a measurement counts after its connection has closed: ways change seldom.
const KEEP: Duration = Duration::from_secs(10 * 60);

/// A round trip that changed by less is the same: each change is announced anew.
const LEAST_CHANGE: Duration = Duration::from_millis(1);

/// A round trip to a node, and when it was last measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Measured {
    rtt: Duration,
    at: Instant,
}

/// Measures the neighbours of the `span` that `node` serves at the time and tells of changes, until dropped.
pub(super) async fn keep_measured(
    node: Node,
    model: ModelHash,
    span: impl Fn() -> Span + Send,
    links: watch::Sender<Vec<Link>>,
) {
    let mut measured: HashMap<NodeId, Measured> = HashMap::new();
    let mut pauses = std::iter::successors(Some(FIRST_LOOK), |pause| Some((*pause * 2).min(LOOK)));
    let mut pause = Duration::ZERO;
    loop {
        tokio::time::sleep(pause).await;
        pause = pauses.next().unwrap_or(LOOK);
        let adverts = match node.adverts(model).await {
            Ok(adverts) => adverts,
            Err(error) => {
                tracing::debug!(%error, "no look at the neighbours");
                continue;
            }
        };
        let own = span();
        let beside = |advert: &&Advert| advert.peer != node.id() && touches(own, advert.shard.span);
        let neighbours = adverts.iter().filter(beside).collect::<Vec<_>>();
        note(&mut measured, &node, &neighbours);
        let chosen = chosen(node.id(), &neighbours, &measured);
        let unknown = chosen.iter().filter(|advert| node.rtt(&advert.peer).is_none()).map(|advert| async {
            // Opening a stream makes the connection; who does not answer stays unmeasured.
            let opened = node.open_stream(advert.peer, &advert.shard.addrs, SHARD_PROTOCOL).await;
            opened.is_ok()
        });
        if futures::future::join_all(unknown).await.contains(&true) {
            tokio::time::sleep(PING).await;
            note(&mut measured, &node, &neighbours);
        }
        let now = told(&chosen, &measured);
        links.send_if_modified(|before| {
            let differs = differ(before, &now);
            if differs {
                *before = now;
            }
            differs
        });
    }
}

/// Whether layers of both may follow each other in a route.
fn touches(own: Span, other: Span) -> bool {
    own.start() <= other.end() && other.start() <= own.end()
}

/// Takes what the pings say and drops what is old or gone.
fn note(measured: &mut HashMap<NodeId, Measured>, node: &Node, neighbours: &[&Advert]) {
    let at = Instant::now();
    for advert in neighbours {
        if let Some(rtt) = node.rtt(&advert.peer) {
            measured.insert(advert.peer, Measured { rtt, at });
        }
    }
    measured.retain(|peer, known| known.at.elapsed() < KEEP && neighbours.iter().any(|advert| advert.peer == *peer));
}

/// Whom to measure: the nearest of those known, and of the others those that would choose this node too, so that both ends
/// come to know the way. One place is left for a stranger, so that in the end the nearest of all are known.
fn chosen<'a>(own: NodeId, neighbours: &[&'a Advert], measured: &HashMap<NodeId, Measured>) -> Vec<&'a Advert> {
    let distance = |peer: &NodeId| {
        let (own, other) = (LinkTag::of(&own), LinkTag::of(peer));
        u64::from_le_bytes(own.0) ^ u64::from_le_bytes(other.0)
    };
    let (mut known, mut strangers): (Vec<_>, Vec<_>) =
        neighbours.iter().copied().partition(|advert| measured.contains_key(&advert.peer));
    known.sort_by_key(|advert| (measured.get(&advert.peer).map(|known| known.rtt), distance(&advert.peer)));
    strangers.sort_by_key(|advert| distance(&advert.peer));
    let places = MAX_LINKS - usize::from(!strangers.is_empty());
    known.truncate(places);
    known.extend(strangers);
    known.truncate(MAX_LINKS);
    known
}

/// The measured of the chosen, as an advert says it.
fn told(chosen: &[&Advert], measured: &HashMap<NodeId, Measured>) -> Vec<Link> {
    let link = |advert: &&Advert| {
        let rtt_us = u32::try_from(measured.get(&advert.peer)?.rtt.as_micros()).ok().filter(|us| *us <= MAX_LINK_US)?;
        Some(Link { to: LinkTag::of(&advert.peer), rtt_us })
    };
    chosen.iter().filter_map(link).collect()
}

/// Whether two lists tell of different neighbours, or of ways that are longer or shorter by a quarter.
fn differ(before: &[Link], now: &[Link]) -> bool {
    let same = |link: &Link| {
        let Some(old) = before.iter().find(|old| old.to == link.to) else { return false };
        let change = u64::from(old.rtt_us.abs_diff(link.rtt_us));
        change < LEAST_CHANGE.as_micros() as u64 || change * 4 <= u64::from(old.rtt_us)
    };
    before.len() != now.len() || !now.iter().all(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::{Config, Keypair, ShardOffer, offer};

    const MODEL: ModelHash = ModelHash([3; 32]);

    fn span(start: u32, end: u32) -> Span {
        Span::new(start, end).unwrap()
    }

    fn shard(span: Span) -> ShardOffer {
        ShardOffer { model: MODEL, span, addrs: vec![], links: vec![], ..offer((span.start(), span.end())) }
    }

    fn advert(span: Span) -> Advert {
        Advert { peer: NodeId::random(), seq: 1, expires_unix_s: u64::MAX, shard: shard(span) }
    }

    #[test]
    fn neighbours_are_those_that_may_come_before_or_after() {
        for (other, beside) in [((0, 10), true), ((20, 30), true), ((12, 15), true), ((0, 9), false), ((21, 30), false)]
        {
            assert_eq!(touches(span(10, 20), span(other.0, other.1)), beside, "{other:?}");
        }
    }

    #[test]
    fn the_nearest_are_kept_and_a_stranger_is_always_tried() {
        let all = (0..40).map(|_| advert(span(0, 10))).collect::<Vec<_>>();
        let all = all.iter().collect::<Vec<_>>();
        let own = NodeId::random();
        let at = |ms| Measured { rtt: Duration::from_millis(ms), at: Instant::now() };
        let measured = |count: usize| {
            all[..count].iter().enumerate().map(|(ms, advert)| (advert.peer, at(ms as u64))).collect::<HashMap<_, _>>()
        };
        assert_eq!(chosen(own, &all, &HashMap::new()).len(), MAX_LINKS);
        let some = chosen(own, &all, &measured(30));
        let nearest = all[..MAX_LINKS - 1].iter().map(|advert| advert.peer).collect::<Vec<_>>();
        assert_eq!(some[..MAX_LINKS - 1].iter().map(|advert| advert.peer).collect::<Vec<_>>(), nearest);
        assert!(!measured(30).contains_key(&some[MAX_LINKS - 1].peer) && some.len() == MAX_LINKS);
        assert_eq!(told(&some, &measured(30)).len(), MAX_LINKS - 1);
        assert_eq!(told(&chosen(own, &all, &measured(40)), &measured(40)).len(), MAX_LINKS);
        assert_eq!(chosen(own, &all[..3], &measured(2)).len(), 3);
    }

    #[test]
    fn only_what_changed_much_is_told_again() {
        let link = |rtt_us| Link { to: LinkTag([1; 8]), rtt_us };
        assert!(!differ(&[link(200)], &[link(900)]), "less than a busy core makes");
        assert!(!differ(&[link(40_000)], &[link(48_000)]) && differ(&[link(40_000)], &[link(52_000)]));
        assert!(differ(&[], &[link(1)]) && differ(&[link(1)], &[]));
        assert!(differ(&[link(1)], &[Link { to: LinkTag([2; 8]), rtt_us: 1 }]));
    }

    #[tokio::test]
    async fn both_ends_learn_how_far_they_are_apart() {
        let listening = || async {
            let mut config = Config::new(Keypair::generate_ed25519());
            config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
            config
        };
        let first = Node::spawn(listening().await).await.unwrap();
        let mut config = listening().await;
        config.bootstrap = first.listen_addrs();
        let second = Node::spawn(config).await.unwrap();
        second.bootstrapped(Duration::from_secs(10)).await.unwrap();
        first.announce(shard(span(0, 10))).await.unwrap();
        second.announce(shard(span(10, 30))).await.unwrap();
        let learned = |node: &Node, own: Span| {
            let (links, mut heard) = watch::channel(Vec::new());
            let task = keep_measured(node.clone(), MODEL, move || own, links);
            async move {
                let heard = async { heard.wait_for(|links: &Vec<Link>| !links.is_empty()).await.unwrap().clone() };
                let heard = std::pin::pin!(heard);
                match futures::future::select(std::pin::pin!(task), heard).await {
                    futures::future::Either::Right((links, _)) => links,
                    futures::future::Either::Left(_) => unreachable!("it goes on until it is dropped"),
                }
            }
        };
        let both = async { tokio::join!(learned(&first, span(0, 10)), learned(&second, span(10, 30))) };
        let (one, two) = tokio::time::timeout(Duration::from_secs(40), both).await.unwrap();
        assert_eq!(one.iter().map(|link| link.to).collect::<Vec<_>>(), [LinkTag::of(&second.id())]);
        assert_eq!(two.iter().map(|link| link.to).collect::<Vec<_>>(), [LinkTag::of(&first.id())]);
        assert!(one[0].rtt_us > 0 && two[0].rtt_us < 10_000_000);
        first.shutdown().await;
        second.shutdown().await;
    }
}
