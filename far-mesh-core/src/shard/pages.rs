//! Which pages of the key-value arena belong to whom.
//!
//! ```text
//! free -- lease --> private -- publish --> shared -- last reader gone --> idle
//!   ^                  |                     ^                             | |
//!   |<-- lease over ---/                     \----------- attach ----------/ |
//!   \------------------------ room is needed (least recently used) ----------/
//! ```
//!
//! A session writes private pages only. A page that is full never changes, so it may be shared under the name of its
//! content ([`PageKey`]): other sessions attach it in place of their own, which is free again. Shared pages that nobody
//! reads are kept while there is room, and count as free.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::prefix::PageKey;

/// The pages of a shard's cache. Clones share them.
///
/// Invariant: a page is either free, idle, private to one [`Lease`], or shared and read by as many as it has `readers`.
#[derive(Clone, Debug)]
pub(super) struct Arena {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    page_tokens: usize,
    total: usize,
    pages: Mutex<Pages>,
}

#[derive(Debug)]
struct Pages {
    /// Lowest first: memory is touched when a page is first written, so low pages are used again before new ones.
    free: BinaryHeap<Reverse<u32>>,
    shared: HashMap<PageKey, SharedPage>,
    /// Shared pages without readers, by the time they lost the last.
    idle: BTreeMap<u64, PageKey>,
    clock: u64,
}

#[derive(Clone, Copy, Debug)]
struct SharedPage {
    page: u32,
    readers: u32,
    /// Since when it is idle, if it is.
    since: u64,
}

/// Pages of one session; dropping it frees them.
#[derive(Debug)]
pub(super) struct Lease {
    pages: Vec<u32>,
    /// Names of those that are shared.
    keys: Vec<Option<PageKey>>,
    arena: Arc<Shared>,
}

/// Fewer pages are free than were asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRoom {
    pub(super) free_tokens: usize,
}

impl Arena {
    /// An arena of `pages` pages of `page_tokens` positions, all free.
    pub(super) fn new(pages: u32, page_tokens: usize) -> Self {
        let free = (0..pages).map(Reverse).collect();
        let all = Pages { free, shared: HashMap::new(), idle: BTreeMap::new(), clock: 0 };
        Self { shared: Arc::new(Shared { page_tokens, total: pages as usize, pages: Mutex::new(all) }) }
    }

    /// Takes the pages for `tokens` positions.
    pub(super) fn lease(&self, tokens: usize) -> Result<Lease, NoRoom> {
        let needed = tokens.div_ceil(self.shared.page_tokens);
        let mut all = self.shared.pages();
        if needed > all.available() {
            return Err(NoRoom { free_tokens: all.available() * self.shared.page_tokens });
        }
        let pages: Vec<u32> = (0..needed).map_while(|_| all.take()).collect();
        Ok(Lease { keys: vec![None; pages.len()], pages, arena: Arc::clone(&self.shared) })
    }

    /// Positions of a page.
    pub(super) fn page_tokens(&self) -> usize {
        self.shared.page_tokens
    }

    /// Positions that fit the pages no session holds.
    pub(super) fn free_tokens(&self) -> usize {
        self.shared.pages().available() * self.shared.page_tokens
    }

    /// Positions that fit all pages.
    pub(super) fn total_tokens(&self) -> usize {
        self.shared.total * self.shared.page_tokens
    }
}

impl Shared {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        // No code panics while it holds the lock, so a poisoned list is still a whole one.
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// A page that nobody reads: a free one, else the one that is idle the longest.
    fn take(&mut self) -> Option<u32> {
        if let Some(Reverse(page)) = self.free.pop() {
            return Some(page);
        }
        let (_, key) = self.idle.pop_first()?;
        self.shared.remove(&key).map(|shared| shared.page)
    }

    /// One reader more for the page of this name.
    fn read(&mut self, key: &PageKey) -> Option<u32> {
        let shared = self.shared.get_mut(key)?;
        if shared.readers == 0 {
            self.idle.remove(&shared.since);
        }
        shared.readers += 1;
        Some(shared.page)
    }

    /// One reader less.
    fn leave(&mut self, key: PageKey) {
        let Some(shared) = self.shared.get_mut(&key) else { return };
        shared.readers -= 1;
        if shared.readers == 0 {
            self.clock += 1;
            shared.since = self.clock;
            self.idle.insert(self.clock, key);
        }
    }
}

impl Lease {
    /// The pages, in order of position.
    pub(super) fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// Reads the shared page of this name as the session's page `at`; false when there is none. The session's own is
    /// free again, so nothing may be written to it any more.
    pub(super) fn attach(&mut self, at: usize, key: PageKey) -> bool {
        let (Some(page), Some(None)) = (self.pages.get_mut(at), self.keys.get(at)) else { return false };
        let mut all = self.arena.pages();
        let Some(shared) = all.read(&key) else { return false };
        all.free.push(Reverse(mem::replace(page, shared)));
        self.keys[at] = Some(key);
        true
    }

    /// Shares the session's page `at`, which is full and will not be written again, under its name. Where there is one
    /// of that name the session reads that from now on, and its own is free again.
    pub(super) fn publish(&mut self, at: usize, key: PageKey) {
        if self.attach(at, key) {
            return;
        }
        let (Some(page), Some(own @ None)) = (self.pages.get(at), self.keys.get_mut(at)) else { return };
        self.arena.pages().shared.insert(key, SharedPage { page: *page, readers: 1, since: 0 });
        *own = Some(key);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut all = self.arena.pages();
        // The last first: of a prompt's pages the first are of use to most, so they stay the longest.
        for (page, key) in self.pages.drain(..).zip(self.keys.drain(..)).rev() {
            match key {
                Some(key) => all.leave(key),
                None => all.free.push(Reverse(page)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    fn key(name: u8) -> PageKey {
        PageKey::of_test(name)
    }

    #[test]
    fn the_lowest_free_pages_are_used_first() {
        let arena = Arena::new(4, 16);
        let (first, second) = (arena.lease(17).unwrap(), arena.lease(1).unwrap());
        assert_eq!((first.pages(), second.pages()), (&[0, 1][..], &[2][..]));
        drop(first);
        assert_eq!(arena.lease(1).unwrap().pages(), [0]);
        assert_eq!(arena.lease(64).unwrap_err(), NoRoom { free_tokens: 48 });
    }

    #[test]
    fn a_shared_page_counts_once_and_stays_until_its_room_is_needed() {
        let arena = Arena::new(4, 16);
        let (mut first, mut second) = (arena.lease(32).unwrap(), arena.lease(32).unwrap());
        (0..2).for_each(|at| first.publish(at, key(at as u8)));
        assert!(second.attach(0, key(0)) && !second.attach(0, key(1)) && !second.attach(1, key(9)));
        assert_eq!((second.pages()[0], arena.free_tokens()), (first.pages()[0], 16));
        second.publish(1, key(1));
        assert_eq!((second.pages(), arena.free_tokens()), (first.pages(), 32), "computed twice, kept once");
        drop(first);
        assert_eq!(arena.free_tokens(), 32, "one still reads them");
        drop(second);
        assert_eq!(arena.free_tokens(), 64);

        let mut third = arena.lease(48).unwrap();
        assert!(third.attach(0, key(0)), "the first page of a prompt is kept the longest");
        assert!(!third.attach(1, key(1)), "room was needed");
        assert_eq!(arena.free_tokens(), 16);
        drop(third);
        assert_eq!(arena.lease(64).unwrap().pages().len(), 4, "idle pages do not stand in the way");
        assert_eq!(arena.free_tokens(), 64);
    }

    #[derive(Clone, Debug)]
    enum Act {
        Lease(usize),
        Publish(prop::sample::Index, usize, u8),
        Attach(prop::sample::Index, usize, u8),
        Drop(prop::sample::Index),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0usize..200).prop_map(Act::Lease),
            (any::<prop::sample::Index>(), 0usize..14, 0u8..10).prop_map(|(who, at, key)| Act::Publish(who, at, key)),
            (any::<prop::sample::Index>(), 0usize..14, 0u8..10).prop_map(|(who, at, key)| Act::Attach(who, at, key)),
            any::<prop::sample::Index>().prop_map(Act::Drop),
        ]
    }

    proptest! {
        #[test]
        fn every_page_is_free_idle_private_or_shared_under_one_name(acts in prop::collection::vec(act(), 1..120)) {
            let arena = Arena::new(20, 16);
            let mut leases: Vec<Lease> = vec![];
            for act in acts {
                match act {
                    Act::Lease(tokens) => {
                        let free = arena.free_tokens();
                        match arena.lease(tokens) {
                            Ok(lease) => {
                                prop_assert_eq!(lease.pages().len(), tokens.div_ceil(16));
                                leases.push(lease);
                            }
                            Err(no_room) => {
                                prop_assert!(tokens > free);
                                prop_assert_eq!(no_room.free_tokens, free);
                            }
                        }
                    }
                    Act::Drop(who) if !leases.is_empty() => drop(leases.swap_remove(who.index(leases.len()))),
                    Act::Publish(who, at, name) if !leases.is_empty() => {
                        let who = who.index(leases.len());
                        leases[who].publish(at, key(name));
                    }
                    Act::Attach(who, at, name) if !leases.is_empty() => {
                        let who = who.index(leases.len());
                        let before = leases[who].pages().to_vec();
                        let attached = leases[who].attach(at, key(name));
                        prop_assert!(attached || leases[who].pages() == before);
                    }
                    _ => {}
                }
                let mut private = HashSet::new();
                let mut shared = HashMap::new();
                for lease in &leases {
                    for (page, key) in lease.pages.iter().zip(&lease.keys) {
                        match key {
                            None => prop_assert!(private.insert(*page), "private to one"),
                            Some(key) => prop_assert_eq!(*shared.entry(*key).or_insert(*page), *page),
                        }
                    }
                }
                let names: HashSet<u32> = shared.values().copied().collect();
                prop_assert!(names.len() == shared.len() && names.is_disjoint(&private));
                prop_assert_eq!(arena.free_tokens(), (20 - private.len() - shared.len()) * 16);
            }
            leases.clear();
            prop_assert_eq!(arena.free_tokens(), arena.total_tokens());
            prop_assert_eq!(arena.lease(320).unwrap().pages().iter().collect::<HashSet<_>>().len(), 20);
            prop_assert!(arena.shared.pages().shared.is_empty());
        }
    }
}
