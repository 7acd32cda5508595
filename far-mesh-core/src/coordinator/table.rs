//! The adverts of a model, kept fresh beside the requests.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::{
    id::{ModelHash, NodeId},
    peer::{Advert, DiscoveryError, Multiaddr, Node, SHARD_PROTOCOL},
    route::Offer,
};

/// How often the DHT is asked: a look-up costs a few dozen small requests (m: 180 with 100 nodes).
const REFRESH: Duration = Duration::from_secs(2);

/// How long a node that was lost is left out, unless it announces itself anew or answers: longer than its next advert
/// takes.
const SET_ASIDE: Duration = Duration::from_secs(60);

/// How long a node that was lost is left alone at first; twice as long each time it is lost again soon
/// after it came back.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Adverts of one model and nodes not to be used for now.
#[derive(Debug)]
pub(super) struct Table {
    node: Node,
    model: ModelHash,
    adverts: watch::Sender<Option<Vec<Advert>>>,
    aside: Mutex<HashMap<NodeId, Aside>>,
}

#[derive(Debug)]
struct Aside {
    since: Instant,
    seq: u64,
    /// How long it is left alone before it is asked again.
    wait: Duration,
    /// It was asked again and is there.
    answers: bool,
}

impl Aside {
    /// Whether the node may be used again: it answered, or announced itself anew with `seq`. That costs it nothing, so a
    /// node that came back before, and was lost again, is left alone first.
    fn is_back(&self, seq: u64) -> bool {
        let believed = self.wait <= ASK_AGAIN || self.since.elapsed() >= self.wait;
        self.answers || believed && seq > self.seq
    }
}

impl Table {
    pub(super) fn new(node: Node, model: ModelHash) -> Self {
        Self { node, model, adverts: watch::Sender::new(None), aside: Mutex::default() }
    }

    /// Keeps the table fresh until dropped.
    pub(super) async fn keep(&self) {
        tokio::join!(self.keep_adverts(), self.keep_asking());
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
            futures::future::join_all(self.due().into_iter().map(|(node, since, addrs)| async move {
                // A node that is stopped or cut off agrees on no protocol, though its connection may stand.
                if self.node.open_stream(node, &addrs, SHARD_PROTOCOL).await.is_ok() {
                    self.answered(node, since);
                }
            }))
            .await;
        }
    }

    /// The nodes to be asked now, and where they are.
    fn due(&self) -> Vec<(NodeId, Instant, Vec<Multiaddr>)> {
        let aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        let due = |lost: &Aside| !lost.answers && (lost.wait..SET_ASIDE).contains(&lost.since.elapsed());
        let adverts = self.adverts.borrow();
        let addrs = |node: NodeId| {
            adverts.iter().flatten().find(|advert| advert.peer == node).map(|advert| advert.shard.addrs.clone())
        };
        let due = aside.iter().filter(|(_, lost)| due(lost));
        due.filter_map(|(&node, lost)| Some((node, lost.since, addrs(node)?))).collect()
    }

    /// Uses a node again, unless it was lost once more meanwhile.
    fn answered(&self, node: NodeId, since: Instant) {
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lost) = aside.get_mut(&node).filter(|lost| lost.since == since) {
            tracing::info!(%node, "a lost node answers again");
            lost.answers = true;
        }
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
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        aside.retain(|_, lost| lost.since.elapsed() < SET_ASIDE);
        let adverts = self.adverts.borrow();
        let usable = |advert: &&Advert| aside.get(&advert.peer).is_none_or(|lost| lost.is_back(advert.seq));
        adverts.iter().flatten().filter(usable).cloned().collect()
    }

    /// The adverts as offers, with the measured way to each node.
    pub(super) fn offers(&self) -> Vec<Offer> {
        self.adverts().iter().map(|advert| Offer::from_advert(advert, self.node.rtt(&advert.peer))).collect()
    }

    /// Leaves out a node that was lost until it announces itself anew or answers again.
    pub(super) fn set_aside(&self, node: NodeId) {
        let seq = self.adverts.borrow().iter().flatten().find(|advert| advert.peer == node).map_or(0, |a| a.seq);
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        // Many sessions may lose it at once; only a node that came back and is lost again waits longer.
        let wait = match aside.get(&node).filter(|before| before.since.elapsed() < SET_ASIDE) {
            Some(before) if before.is_back(seq) => (before.wait * 2).min(SET_ASIDE),
            Some(before) => before.wait,
            None => ASK_AGAIN,
        };
        aside.insert(node, Aside { since: Instant::now(), seq, wait, answers: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        activation::Dtype,
        id::Span,
        peer::{Config, Keypair, ShardOffer},
    };

    fn advert(peer: NodeId, seq: u64) -> Advert {
        let shard = ShardOffer {
            model: ModelHash([7; 32]),
            model_name: "m".into(),
            layers: 1,
            span: Span::new(0, 1).unwrap(),
            dtype: Dtype::F32,
            kernel_class: String::new(),
            protocol: 1,
            build: String::new(),
            addrs: vec![],
            layer_time_ns: 1,
            prefill_layer_time_ns: 1,
            queue_ns: 0,
            bandwidth_kib_s: 0,
            links: vec![],
            free_tokens: 1,
            price_nano_far: 0,
            wallet: None,
            region: String::new(),
            device: String::new(),
            device_mib: 0,
        };
        Advert { peer, seq, expires_unix_s: u64::MAX, shard }
    }

    #[tokio::test(start_paused = true)]
    async fn announcing_itself_anew_brings_a_lost_node_back_at_once_but_not_again_and_again() {
        let node = Node::spawn(Config::new(Keypair::generate_ed25519())).await.unwrap();
        let (table, peer) = (Table::new(node.clone(), ModelHash([7; 32])), NodeId::random());
        let announce = |seq| drop(table.adverts.send_replace(Some(vec![advert(peer, seq)])));
        let usable = || !table.adverts().is_empty();
        announce(1);
        table.set_aside(peer);
        table.set_aside(peer);
        assert!(!usable());
        announce(2);
        assert!(usable(), "it was started again");
        for (seq, seconds) in [(3, 4), (4, 8), (5, 16)] {
            table.set_aside(peer);
            announce(seq);
            tokio::time::advance(Duration::from_secs(seconds) - Duration::from_millis(1)).await;
            assert!(!usable(), "{seconds} s");
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(usable(), "{seconds} s");
        }
        tokio::time::advance(SET_ASIDE).await;
        table.set_aside(peer);
        announce(6);
        assert!(usable(), "it behaved for a while");
        node.shutdown().await;
    }
}
