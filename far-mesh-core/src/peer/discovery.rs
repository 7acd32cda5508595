//! Who serves what: reading the DHT.
//!
//! Nothing that is read is believed: see [`Merge`].

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::kad::RecordKey;
use tokio::{sync::mpsc, time::timeout_at};

use super::{
    advert::{Advert, AdvertError, ShardOffer},
    bootstrap::BootstrapFailure,
    command::Command,
    dht_key,
    lookup::{Heard, Patience},
    merge::Merge,
    node::{Node, list},
    store::system_clock,
};
use crate::id::ModelHash;

/// How long a look-up may take in all; what was found until then counts. Whoever asks has the table within two seconds.
const LOOKUP_DEADLINE: Duration = Duration::from_millis(1900);

/// What waits to be merged: more than nodes that hold a key.
const FOUND_QUEUE: usize = 64;

/// Why nothing can be said about who serves what.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// No other node is connected.
    #[error("no node of the mesh is connected, so nothing is known about who serves what{}", list(failures))]
    Isolated {
        /// What became of the bootstrap addresses.
        failures: Vec<BootstrapFailure>,
    },
    /// The node has shut down.
    #[error("the node has shut down")]
    Closed,
}

/// Why an offer was not announced.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AnnounceError {
    /// The offer is not acceptable to anybody.
    #[error(transparent)]
    Advert(#[from] AdvertError),
    /// The node has shut down.
    #[error("the node has shut down")]
    Closed,
}

/// A model somebody serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelListing {
    /// Its hash.
    pub model: ModelHash,
    /// Its name, as most of those who serve it say.
    pub name: String,
    /// Its decoder layers.
    pub layers: u32,
}

impl Node {
    /// Offers a shard from now on: announced at once and again before it expires, until it is withdrawn, in place of what
    /// was offered of its model before. Says how many nodes hold the advert; 0 when none is known yet: it goes out as soon
    /// as one is.
    ///
    /// Once others hold it, [`Node::adverts`] of every node in reach of them finds it. Cancel-safe: a dropped future may
    /// have announced.
    ///
    /// # Errors
    /// [`AnnounceError::Advert`] when a field is out of range, [`AnnounceError::Closed`] after shutdown.
    pub async fn announce(&self, offer: ShardOffer) -> Result<usize, AnnounceError> {
        let (reply, accepted) = tokio::sync::oneshot::channel();
        let (placed, holders) = tokio::sync::oneshot::channel();
        let command = Command::Announce { offer: Box::new(offer), reply, placed };
        self.send(command).await.ok_or(AnnounceError::Closed)?;
        accepted.await.map_err(|_| AnnounceError::Closed)??;
        holders.await.map_err(|_| AnnounceError::Closed)
    }

    /// Stops offering every shard and says so, so that tables drop them at once. Returns how many nodes were told.
    pub async fn withdraw(&self) -> usize {
        self.withdraw_some(None).await
    }

    /// Stops offering the shard of one model.
    pub async fn withdraw_model(&self, model: ModelHash) -> usize {
        self.withdraw_some(Some(model)).await
    }

    async fn withdraw_some(&self, model: Option<ModelHash>) -> usize {
        let (told, holders) = tokio::sync::oneshot::channel();
        match self.send(Command::Withdraw { model, told }).await {
            Some(()) => holders.await.unwrap_or(0),
            None => 0,
        }
    }

    /// The adverts of a model that are valid now, in the order of their spans. No advert is no error: nobody may serve it.
    ///
    /// # Errors
    /// [`DiscoveryError::Isolated`] when nobody could be asked, [`DiscoveryError::Closed`] after shutdown.
    pub async fn adverts(&self, model: ModelHash) -> Result<Vec<Advert>, DiscoveryError> {
        let keys = (0..dht_key::SLICES).map(|slice| dht_key::of_slice(model, slice));
        let slices = futures::future::try_join_all(keys.map(|key| self.find(key))).await?;
        let mut adverts = slices.into_iter().flatten().filter(|advert| advert.shard.model == model).collect::<Vec<_>>();
        adverts.sort_by_key(|advert| (advert.shard.span, advert.peer));
        self.unless_isolated(adverts)
    }

    /// The models somebody serves, in the order of their names.
    ///
    /// # Errors
    /// As [`Node::adverts`].
    pub async fn models(&self) -> Result<Vec<ModelListing>, DiscoveryError> {
        let mut votes: BTreeMap<ModelHash, BTreeMap<(String, u32), usize>> = BTreeMap::new();
        for advert in self.find(dht_key::catalogue()).await? {
            let words = votes.entry(advert.shard.model).or_default();
            *words.entry((advert.shard.model_name, advert.shard.layers)).or_default() += 1;
        }
        let listing = |(model, words): (ModelHash, BTreeMap<(String, u32), usize>)| {
            let ((name, layers), _) = words.into_iter().max_by_key(|(_, votes)| *votes)?;
            Some(ModelListing { model, name, layers })
        };
        let mut models = votes.into_iter().filter_map(listing).collect::<Vec<_>>();
        models.sort_by(|a, b| (&a.name, a.model).cmp(&(&b.name, b.model)));
        self.unless_isolated(models)
    }

    fn unless_isolated<T>(&self, found: Vec<T>) -> Result<Vec<T>, DiscoveryError> {
        if found.is_empty() && self.expects_others() && self.connected_peers().is_empty() {
            return Err(DiscoveryError::Isolated { failures: self.bootstrap_failures() });
        }
        Ok(found)
    }

    async fn find(&self, key: RecordKey) -> Result<Vec<Advert>, DiscoveryError> {
        let (found, mut values) = mpsc::channel(FOUND_QUEUE);
        self.send(Command::Find { key: key.clone(), found }).await.ok_or(DiscoveryError::Closed)?;
        let (clock, mut merge) = (system_clock(), Merge::of(key));
        let started = Instant::now();
        let (mut patience, deadline) = (Patience::new(started), started + LOOKUP_DEADLINE);
        loop {
            let until = patience.ends().map_or(deadline, |end| end.min(deadline));
            let Ok(Some(heard)) = timeout_at(until.into(), values.recv()).await else { break };
            match heard {
                Heard::Answers(answers) => patience.answers(answers, Instant::now()),
                Heard::Value(value) if merge.add(&value, clock()) => patience.news(Instant::now()),
                Heard::Value(_) => {}
            }
        }
        Ok(self.recall().complete(merge, clock()))
    }
}
