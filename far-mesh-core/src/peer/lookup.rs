//! Look-ups under way, and when they have heard enough.
//!
//! Kademlia ends a query when every close node has answered or its connection attempt has failed, which takes seconds
//! where one is dead. A look-up ends earlier: when some have answered and no other did for a while.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::kad::{self, QueryId, RecordKey};
use tokio::sync::mpsc;

use super::store::AdvertStore;

/// How long a look-up that was answered waits for the next answer: more than the round trip to a far node, so that a query
/// that is still getting closer goes on.
const SETTLE: Duration = Duration::from_millis(800);

/// How often it is looked whether answers came: Kademlia tells of records, not of nodes that have none.
const CHECK: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub(super) struct Lookups {
    queries: HashMap<QueryId, Lookup>,
    next_check: Option<Instant>,
}

#[derive(Debug)]
struct Lookup {
    found: mpsc::Sender<Vec<u8>>,
    answers: u32,
    since: Instant,
}

impl Lookups {
    /// Looks a key up; what is found goes to `found`, which is dropped at the end.
    pub(super) fn start(
        &mut self,
        kad: &mut kad::Behaviour<AdvertStore>,
        key: RecordKey,
        found: mpsc::Sender<Vec<u8>>,
        now: Instant,
    ) {
        self.queries.insert(kad.get_record(key), Lookup { found, answers: 0, since: now });
        self.next_check.get_or_insert(now + CHECK);
    }

    /// A query made progress.
    pub(super) fn on_result(&mut self, id: QueryId, result: kad::GetRecordResult, last: bool) {
        if let (Some(lookup), Ok(kad::GetRecordOk::FoundRecord(found))) = (self.queries.get(&id), result) {
            // The queue has room for every node that holds a key; one that sends more is not missed.
            let _ = lookup.found.try_send(found.record.value);
        }
        if last {
            self.queries.remove(&id);
        }
    }

    /// When to call [`Lookups::settle`] next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.next_check
    }

    /// Ends what has heard enough, or what nobody waits for any more.
    pub(super) fn settle(&mut self, kad: &mut kad::Behaviour<AdvertStore>, now: Instant) {
        if self.next_check.is_none_or(|at| now < at) {
            return;
        }
        self.next_check = (!self.queries.is_empty()).then_some(now + CHECK);
        for (id, lookup) in &mut self.queries {
            let Some(mut query) = kad.query_mut(id) else { continue };
            let answers = query.stats().num_successes();
            if answers > lookup.answers {
                (lookup.answers, lookup.since) = (answers, now);
            }
            let settled = answers > 0 && now.saturating_duration_since(lookup.since) >= SETTLE;
            if settled || lookup.found.is_closed() {
                query.finish();
            }
        }
    }

    /// Ends all at once.
    pub(super) fn clear(&mut self) {
        self.queries.clear();
    }
}
