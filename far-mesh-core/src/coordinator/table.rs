//! The adverts of a model, kept fresh beside the requests.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::standing::Standing;
use crate::{
    id::{ModelHash, NodeId},
    peer::{Advert, DiscoveryError, MAX_LIFE_S, Multiaddr, Node, SHARD_PROTOCOL},
    route::{Offer, refuted},
};

/// How often the DHT is asked: a look-up costs a few dozen small requests (m: 180 with 100 nodes).
const REFRESH: Duration = Duration::from_secs(2);

/// How long a node that was lost is asked whether it is there: longer than its next advert takes. One that did not answer
/// by then is taken to be gone, until it announces itself anew; then it is asked again.
const SET_ASIDE: Duration = Duration::from_secs(60);

/// How long a node that was lost is left alone at first; twice as long each time it is lost again soon
/// after it came back.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// How long an answer may take, and how long somebody who needs a node now waits for one.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const ANSWER_SOON: Duration = Duration::from_millis(300);

/// How many lost nodes are asked at a time.
const ASKED_AT_ONCE: usize = 32;

/// How many nodes are measured at a time: 500 are known in two minutes, and nobody notices the handshakes.
const MEASURED_AT_ONCE: usize = 8;

/// How long the way to a node is taken to be as it was when the connection closed.
const KEEP_RTT: Duration = Duration::from_secs(10 * 60);

/// Adverts of one model, what was measured and seen of their nodes, and nodes not to be used for now.
#[derive(Debug)]
pub(super) struct Table {
    node: Node,
    model: ModelHash,
    /// The coordinator's own region.
    home: Option<String>,
    adverts: watch::Sender<Option<Vec<Advert>>>,
    aside: Mutex<HashMap<NodeId, Aside>>,
    ways: Mutex<HashMap<NodeId, Way>>,
    standing: Mutex<Standing>,
    /// Nodes that do not stand where they say, and where they say.
    refuted: Mutex<HashMap<NodeId, String>>,
}

/// The way to a node: asked for, and what came of it.
#[derive(Clone, Copy, Debug)]
struct Way {
    rtt: Option<Duration>,
    at: Instant,
}

#[derive(Debug)]
struct Aside {
    since: Instant,
    /// Of its advert when it was lost, or when it was asked last.
    seq: u64,
    /// How long it is left alone before it is asked again.
    wait: Duration,
    /// It was asked again and is there, so it may be used. A newer advert says less: it may be of just before the loss, and
    /// whoever tries a dead node waits for it to open.
    answers: bool,
}

/// A lost node that is to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Due {
    node: NodeId,
    since: Instant,
    /// Of its newest advert.
    seq: u64,
    addrs: Vec<Multiaddr>,
}

impl Aside {
    /// Whether it is to be asked now, where its newest advert has the sequence number `seq`. One that announced itself anew
    /// may have been started again, so it is asked at once the first time.
    fn is_due(&self, seq: u64) -> bool {
        let (elapsed, newer) = (self.since.elapsed(), seq > self.seq);
        let left_alone = elapsed < self.wait && !(newer && self.wait <= ASK_AGAIN);
        !self.answers && !left_alone && (elapsed < SET_ASIDE || newer)
    }
}

impl Table {
    pub(super) fn new(node: Node, model: ModelHash, home: Option<String>) -> Self {
        Self {
            node,
            model,
            home,
            adverts: watch::Sender::new(None),
            aside: Mutex::default(),
            ways: Mutex::default(),
            standing: Mutex::default(),
            refuted: Mutex::default(),
        }
    }

    /// Keeps the table fresh until dropped.
    pub(super) async fn keep(&self) {
        tokio::join!(self.keep_adverts(), self.keep_asking(), self.keep_measuring());
    }

    async fn keep_adverts(&self) {
        let mut ticks = tokio::time::interval(REFRESH);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.refresh().await {
                tracing::debug!(%error, "the table of providers is not refreshed");
            }
        }
    }

    /// A pause or a broken line may be over long before the node announces itself anew, so it is asked.
    async fn keep_asking(&self) {
        let mut ticks = tokio::time::interval(ASK_AGAIN / 2);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.ask().await;
        }
    }

    /// Asks the lost nodes whose time it is whether they are there.
    async fn ask(&self) {
        let ask = |Due { node, since, seq, addrs }| async move {
            // A node that is stopped or cut off agrees on no protocol, though its connection may stand.
            match timeout(ANSWER_WITHIN, self.node.open_stream(node, &addrs, SHARD_PROTOCOL)).await {
                Ok(Ok(_)) => self.answered(node, since),
                _ => self.silent(node, since, seq),
            }
        };
        stream::iter(self.due()).for_each_concurrent(ASKED_AT_ONCE, ask).await;
    }

    /// Routes are planned by the ways to all nodes, so those that no session has used are connected to for a ping.
    async fn keep_measuring(&self) {
        let mut ticks = tokio::time::interval(REFRESH);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let strangers = self.strangers();
            futures::future::join_all(strangers.into_iter().map(|(node, addrs)| async move {
                // Who does not answer stays unmeasured until its turn comes again.
                let _ = self.node.open_stream(node, &addrs, SHARD_PROTOCOL).await;
            }))
            .await;
            self.judge_claims();
        }
    }

    /// Takes what the pings say; the nodes to connect to next, and where they are.
    fn strangers(&self) -> Vec<(NodeId, Vec<Multiaddr>)> {
        let adverts = self.adverts();
        let (mut ways, now) = (lock(&self.ways), Instant::now());
        ways.retain(|node, way| way.at.elapsed() < KEEP_RTT && adverts.iter().any(|advert| advert.peer == *node));
        let mut strangers = Vec::new();
        for advert in &adverts {
            if let Some(rtt) = self.node.rtt(&advert.peer) {
                ways.insert(advert.peer, Way { rtt: Some(rtt), at: now });
            } else if !ways.contains_key(&advert.peer) && strangers.len() < MEASURED_AT_ONCE {
                ways.insert(advert.peer, Way { rtt: None, at: now });
                strangers.push((advert.peer, advert.shard.addrs.clone()));
            }
        }
        strangers
    }

    /// Finds out who does not stand where it says, and tells it once.
    fn judge_claims(&self) {
        let found = refuted(self.home.as_deref(), &self.offers());
        // In this order everywhere: what is locked before the adverts, then they.
        let mut known = lock(&self.refuted);
        let adverts = self.adverts.borrow();
        // Once found out, a node is not believed while it says the same: it could answer later from then on.
        known.retain(|node, region| {
            adverts.iter().flatten().any(|advert| advert.peer == *node && advert.shard.region == *region)
        });
        for advert in adverts.iter().flatten().filter(|advert| found.contains(&advert.peer)) {
            let (node, region) = (advert.peer, &advert.shard.region);
            if known.insert(node, region.clone()).is_none() {
                tracing::warn!(%node, region, "a node answers faster than light could from where it says it stands");
            }
        }
    }

    /// The nodes that do not stand where they say.
    pub(super) fn refuted(&self) -> HashSet<NodeId> {
        lock(&self.refuted).keys().copied().collect()
    }

    /// The nodes to be asked now.
    fn due(&self) -> Vec<Due> {
        let aside = lock(&self.aside);
        let adverts = self.adverts.borrow();
        let due = adverts.iter().flatten().filter_map(|advert| {
            let lost = aside.get(&advert.peer).filter(|lost| lost.is_due(advert.seq))?;
            Some(Due { node: advert.peer, since: lost.since, seq: advert.seq, addrs: advert.shard.addrs.clone() })
        });
        due.collect()
    }

    /// Uses a node again, unless it was lost once more meanwhile.
    fn answered(&self, node: NodeId, since: Instant) {
        let mut aside = lock(&self.aside);
        if let Some(lost) = aside.get_mut(&node).filter(|lost| lost.since == since) {
            tracing::info!(%node, "a lost node answers again");
            lost.answers = true;
        }
    }

    /// A node did not answer. One that is taken to be gone is asked again when it says something new.
    fn silent(&self, node: NodeId, since: Instant, seq: u64) {
        let mut aside = lock(&self.aside);
        if let Some(lost) = aside.get_mut(&node).filter(|lost| lost.since == since && since.elapsed() >= SET_ASIDE) {
            lost.seq = seq;
        }
    }

    /// Asks the DHT now, and lost nodes that may be there again: for somebody who finds no route in what is known.
    /// Cancel-safe.
    pub(super) async fn look(&self) -> Result<(), DiscoveryError> {
        let refreshed = self.refresh().await;
        // Who is late is asked by the clock.
        let _ = timeout(ANSWER_SOON, self.ask()).await;
        refreshed
    }

    /// Asks the DHT now. Cancel-safe.
    pub(super) async fn refresh(&self) -> Result<(), DiscoveryError> {
        let adverts = self.node.adverts(self.model).await?;
        self.adverts.send_replace(Some(adverts));
        Ok(())
    }

    /// Waits until the DHT was asked once, at most for `patience`.
    pub(super) async fn filled(&self, patience: Duration) {
        let mut adverts = self.adverts.subscribe();
        // Whoever waits longer plans with an empty table, and says so.
        let _ = tokio::time::timeout(patience, adverts.wait_for(Option::is_some)).await;
    }

    /// Adverts of nodes that are not set aside.
    pub(super) fn adverts(&self) -> Vec<Advert> {
        self.each_usable(Advert::clone)
    }

    fn each_usable<T>(&self, of: impl Fn(&Advert) -> T) -> Vec<T> {
        let mut aside = lock(&self.aside);
        let adverts = self.adverts.borrow();
        // Its old advert may be read again for as long as that lives, also after a look that did not find it.
        let alive = |lost: &Aside| lost.since.elapsed() < Duration::from_secs(MAX_LIFE_S);
        let listed = |node: &NodeId| adverts.iter().flatten().any(|advert| advert.peer == *node);
        aside.retain(|node, lost| lost.since.elapsed() < SET_ASIDE || !lost.answers && (alive(lost) || listed(node)));
        let usable = |advert: &&Advert| aside.get(&advert.peer).is_none_or(|lost| lost.answers);
        adverts.iter().flatten().filter(usable).map(of).collect()
    }

    /// The adverts as offers, with the measured way to each node and what was seen of it.
    pub(super) fn offers(&self) -> Vec<Offer> {
        let (ways, standing, refuted, now) =
            (lock(&self.ways), lock(&self.standing), lock(&self.refuted), Instant::now());
        self.each_usable(|advert| {
            let rtt = self.node.rtt(&advert.peer).or_else(|| ways.get(&advert.peer)?.rtt);
            Offer {
                region_refuted: refuted.contains_key(&advert.peer),
                slowdown_percent: standing.slowdown_percent(&advert.peer, now),
                ..Offer::from_advert(advert, rtt)
            }
        })
    }

    /// A hop took `factor` times what its advert promises: it costs more in plans for some minutes.
    pub(super) fn slow(&self, node: NodeId, factor: f64) {
        lock(&self.standing).slow(node, factor, Instant::now());
    }

    /// Leaves out a node that was lost until it answers again.
    pub(super) fn set_aside(&self, node: NodeId) {
        lock(&self.standing).lost(node, Instant::now());
        let seq = self.adverts.borrow().iter().flatten().find(|advert| advert.peer == node).map_or(0, |a| a.seq);
        let mut aside = lock(&self.aside);
        // Many sessions may lose it at once; only a node that came back and is lost again waits longer.
        let wait = match aside.get(&node).filter(|before| before.since.elapsed() < SET_ASIDE) {
            // Never so long that it would not be asked any more.
            Some(before) if before.answers => (before.wait * 2).min(SET_ASIDE / 2),
            Some(before) => before.wait,
            None => ASK_AGAIN,
        };
        aside.insert(node, Aside { since: Instant::now(), seq, wait, answers: false });
    }
}

/// Nothing that holds one of these locks leaves what it guards in pieces.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
