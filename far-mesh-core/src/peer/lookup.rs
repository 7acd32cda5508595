//! Look-ups under way, and when they have heard enough.
//!
//! Kademlia ends a query when every close node has answered or its connection attempt has failed, which takes seconds
//! where one is dead or many connections are new. A look-up ends earlier: when some have answered and no other did for a
//! while, or when as many answered as hold a key and none told anything new for a while.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::kad::{self, QueryId, RecordKey};
use tokio::sync::mpsc;

use super::{behaviour::REPLICAS, store::AdvertStore};

/// How long a look-up that was answered waits for the next answer: more than the round trip to a far node, so that a query
/// that is still getting closer goes on.
const SETTLE: Duration = Duration::from_millis(800);

/// How often it is looked whether answers came: Kademlia tells of records, not of nodes that have none.
const CHECK: Duration = Duration::from_millis(50);

/// What a look-up hears.
#[derive(Debug)]
pub(super) enum Heard {
    /// What a node holds under the key.
    Value(Vec<u8>),
    /// How many nodes have answered, also those that hold nothing.
    Answers(u32),
}

/// When a look-up has heard enough.
#[derive(Debug)]
pub(super) struct Patience {
    answers: u32,
    answered: Instant,
    news: Instant,
}

impl Patience {
    pub(super) fn new(now: Instant) -> Self {
        Self { answers: 0, answered: now, news: now }
    }

    /// So many nodes have answered.
    pub(super) fn answers(&mut self, answers: u32, now: Instant) {
        if answers > self.answers {
            (self.answers, self.answered) = (answers, now);
        }
    }

    /// Something was told that was not known.
    pub(super) fn news(&mut self, now: Instant) {
        self.news = now;
    }

    /// When it ends unless more is heard; `None` until somebody answers.
    pub(super) fn ends(&self) -> Option<Instant> {
        let quiet_since = match self.answers as usize {
            0 => return None,
            answers if answers < REPLICAS.get() => self.answered,
            // The one that answered last may have told it.
            _ => self.news,
        };
        Some(quiet_since + SETTLE)
    }
}

#[derive(Debug, Default)]
pub(super) struct Lookups {
    queries: HashMap<QueryId, Lookup>,
    next_check: Option<Instant>,
}

#[derive(Debug)]
struct Lookup {
    found: mpsc::Sender<Heard>,
    answers: u32,
}

impl Lookups {
    /// Looks a key up; what is heard goes to `found`, which is dropped at the end.
    pub(super) fn start(
        &mut self,
        kad: &mut kad::Behaviour<AdvertStore>,
        key: RecordKey,
        found: mpsc::Sender<Heard>,
        now: Instant,
    ) {
        self.queries.insert(kad.get_record(key), Lookup { found, answers: 0 });
        self.next_check.get_or_insert(now + CHECK);
    }

    /// A query made progress.
    pub(super) fn on_result(&mut self, id: QueryId, result: kad::GetRecordResult, last: bool) {
        if let (Some(lookup), Ok(kad::GetRecordOk::FoundRecord(found))) = (self.queries.get(&id), result) {
            // The queue has room for every node that holds a key; one that sends more is not missed.
            let _ = lookup.found.try_send(Heard::Value(found.record.value));
        }
        if last {
            self.queries.remove(&id);
        }
    }

    /// When to call [`Lookups::check`] next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.next_check
    }

    /// Says how many have answered, and ends what nobody waits for any more.
    pub(super) fn check(&mut self, kad: &mut kad::Behaviour<AdvertStore>, now: Instant) {
        if self.next_check.is_none_or(|at| now < at) {
            return;
        }
        self.next_check = (!self.queries.is_empty()).then_some(now + CHECK);
        for (id, lookup) in &mut self.queries {
            let Some(mut query) = kad.query_mut(id) else { continue };
            if lookup.found.is_closed() {
                query.finish();
                continue;
            }
            let answers = query.stats().num_successes();
            if answers > lookup.answers && lookup.found.try_send(Heard::Answers(answers)).is_ok() {
                lookup.answers = answers;
            }
        }
    }

    /// Ends all at once.
    pub(super) fn clear(&mut self) {
        self.queries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn few_answers_are_waited_for_and_many_only_while_they_tell_something_new() {
        let start = Instant::now();
        let mut patience = Patience::new(start);
        assert_eq!(patience.ends(), None, "nobody answered");
        patience.answers(1, start + 10 * MS);
        patience.news(start + 10 * MS);
        patience.answers(2, start + 700 * MS);
        assert_eq!(patience.ends(), Some(start + 700 * MS + SETTLE), "few have answered");
        patience.answers(2, start + 750 * MS);
        assert_eq!(patience.ends(), Some(start + 700 * MS + SETTLE), "no other answered");
        patience.answers(10, start + 900 * MS);
        assert_eq!(patience.ends(), Some(start + 10 * MS + SETTLE), "as many as hold a key, and nothing new since");
        patience.news(start + 950 * MS);
        assert_eq!(patience.ends(), Some(start + 950 * MS + SETTLE));
    }
}
