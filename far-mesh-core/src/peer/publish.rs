//! Bringing sub-records to the nodes that should hold them.

use std::collections::HashMap;

use libp2p::{
    Swarm,
    kad::{self, QueryId, Quorum, Record, RecordKey},
};
use tokio::sync::oneshot;

use super::behaviour::{Behaviour, REPLICAS};
use crate::id::{ModelHash, NodeId};

/// How hard to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The nodes closest to the key, found by Kademlia.
    Routine,
    /// First the closest of those that are connected, at once: finding the closest of all may wait for dead ones.
    Urgent,
}

/// Where an announcement came to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    /// Nobody took it.
    Nowhere,
    /// The time was over before half of those who should hold it took it: who asks others does not find it.
    Thin,
    /// All who could be asked were asked.
    Wide,
}

/// Publications on their way.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    publications: HashMap<u64, Publication>,
    queries: HashMap<QueryId, Query>,
    next: u64,
}

#[derive(Debug)]
struct Publication {
    models: Vec<ModelHash>,
    direct: usize,
    pending: usize,
    holders: usize,
    thin: bool,
    placed: Option<oneshot::Sender<usize>>,
}

#[derive(Clone, Copy, Debug)]
struct Query {
    publication: u64,
    direct: bool,
    peers: usize,
}

impl Publisher {
    /// Sends out records of `models`. `placed` hears how many nodes took them as soon as one did, or none can.
    pub(super) fn publish(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        models: Vec<ModelHash>,
        records: Vec<(RecordKey, Vec<u8>)>,
        reach: Reach,
        placed: Option<oneshot::Sender<usize>>,
    ) {
        let publication = self.next;
        self.next += 1;
        let mut queries = Vec::new();
        for (key, value) in records {
            let record = Record { key, value, publisher: None, expires: None };
            let close = if reach == Reach::Urgent { connected_closest(swarm, &record.key) } else { Vec::new() };
            let kad = &mut swarm.behaviour_mut().kad;
            // All, not one: a query stops sending as soon as its quorum is reached.
            if !close.is_empty() {
                let peers = close.len();
                let id = kad.put_record_to(record.clone(), close.into_iter(), Quorum::All);
                queries.push((id, Query { publication, direct: true, peers }));
            }
            if let Ok(id) = kad.put_record(record, Quorum::All) {
                queries.push((id, Query { publication, direct: false, peers: REPLICAS.get() }));
            }
        }
        let direct = queries.iter().filter(|(_, query)| query.direct).count();
        let mut new = Publication { models, direct, pending: queries.len(), holders: 0, thin: false, placed };
        if queries.is_empty() {
            new.say();
            return;
        }
        self.queries.extend(queries);
        self.publications.insert(publication, new);
    }

    /// A query ended. When it was the last of its publication: its models, and where they lie.
    pub(super) fn on_put(&mut self, id: QueryId, result: &kad::PutRecordResult) -> Option<(Vec<ModelHash>, Spread)> {
        let query = self.queries.remove(&id)?;
        let (holders, late) = match result {
            Ok(_) => (query.peers, false),
            Err(kad::PutRecordError::QuorumFailed { success, .. }) => (success.len(), false),
            Err(kad::PutRecordError::Timeout { success, .. }) => (success.len(), true),
        };
        let publication = self.publications.get_mut(&query.publication)?;
        publication.holders = publication.holders.max(holders);
        publication.thin |= late && !query.direct && holders < REPLICAS.get() / 2;
        publication.pending -= 1;
        publication.direct -= usize::from(query.direct);
        let told_enough = query.direct && publication.direct == 0 && publication.holders > 0;
        if told_enough || publication.pending == 0 {
            publication.say();
        }
        if publication.pending > 0 {
            return None;
        }
        let Publication { models, holders, thin, .. } = self.publications.remove(&query.publication)?;
        let spread = match (holders, thin) {
            (0, _) => Spread::Nowhere,
            (_, true) => Spread::Thin,
            (_, false) => Spread::Wide,
        };
        Some((models, spread))
    }

    /// Whether nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.publications.is_empty()
    }
}

impl Publication {
    fn say(&mut self) {
        if let Some(placed) = self.placed.take() {
            // Whoever no longer waits does not want to know.
            let _ = placed.send(self.holders);
        }
    }
}

/// The connected peers closest to the key, as many as hold a record.
fn connected_closest(swarm: &mut Swarm<Behaviour>, key: &RecordKey) -> Vec<NodeId> {
    let target = kad::KBucketKey::new(key.clone());
    let known = swarm.behaviour_mut().kad.get_closest_local_peers(&target);
    let known = known.map(|peer| *peer.preimage()).collect::<Vec<_>>();
    known.into_iter().filter(|peer| swarm.is_connected(peer)).take(REPLICAS.get()).collect()
}
