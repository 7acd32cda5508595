//! Which pages of the key-value arena belong to whom.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{Arc, Mutex, PoisonError},
};

/// The pages of a shard's cache. Clones share them.
///
/// Invariant: a page is either free or in exactly one [`Lease`].
#[derive(Clone, Debug)]
pub(super) struct Arena {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    page_tokens: usize,
    total: usize,
    /// Lowest first: memory is touched when a page is first written, so low pages are used again before new ones.
    free: Mutex<BinaryHeap<Reverse<u32>>>,
}

/// Pages of one session; dropping it frees them.
#[derive(Debug)]
pub(super) struct Lease {
    pages: Vec<u32>,
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
        let free = Mutex::new((0..pages).map(Reverse).collect());
        Self { shared: Arc::new(Shared { page_tokens, total: pages as usize, free }) }
    }

    /// Takes the pages for `tokens` positions.
    pub(super) fn lease(&self, tokens: usize) -> Result<Lease, NoRoom> {
        let needed = tokens.div_ceil(self.shared.page_tokens);
        let mut free = self.shared.free();
        if needed > free.len() {
            return Err(NoRoom { free_tokens: free.len() * self.shared.page_tokens });
        }
        let pages = (0..needed).filter_map(|_| free.pop()).map(|Reverse(page)| page).collect();
        Ok(Lease { pages, arena: Arc::clone(&self.shared) })
    }

    /// Positions that fit the free pages.
    pub(super) fn free_tokens(&self) -> usize {
        self.shared.free().len() * self.shared.page_tokens
    }

    /// Positions that fit all pages.
    pub(super) fn total_tokens(&self) -> usize {
        self.shared.total * self.shared.page_tokens
    }
}

impl Shared {
    fn free(&self) -> std::sync::MutexGuard<'_, BinaryHeap<Reverse<u32>>> {
        // No code panics while it holds the lock, so a poisoned list is still a whole one.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// The pages, in order of position.
    pub(super) fn pages(&self) -> &[u32] {
        &self.pages
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.arena.free().extend(self.pages.drain(..).map(Reverse));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lowest_free_pages_are_used_first() {
        let arena = Arena::new(4, 16);
        let (first, second) = (arena.lease(17).unwrap(), arena.lease(1).unwrap());
        assert_eq!((first.pages(), second.pages()), (&[0, 1][..], &[2][..]));
        drop(first);
        assert_eq!(arena.lease(1).unwrap().pages(), [0]);
        assert_eq!(arena.lease(64).unwrap_err(), NoRoom { free_tokens: 48 });
    }

    proptest! {
        #[test]
        fn every_page_is_free_or_in_one_lease(steps in prop::collection::vec((0usize..200, any::<prop::sample::Index>()), 1..60)) {
            let arena = Arena::new(20, 16);
            let mut leases: Vec<Lease> = vec![];
            for (tokens, drop_at) in steps {
                let free = arena.free_tokens();
                match arena.lease(tokens) {
                    Ok(lease) => {
                        prop_assert_eq!(lease.pages().len(), tokens.div_ceil(16));
                        leases.push(lease);
                    }
                    Err(no_room) => {
                        prop_assert!(tokens > free);
                        prop_assert_eq!(no_room.free_tokens, free);
                        if !leases.is_empty() {
                            leases.swap_remove(drop_at.index(leases.len()));
                        }
                    }
                }
                let used: Vec<u32> = leases.iter().flat_map(|lease| lease.pages().to_vec()).collect();
                prop_assert_eq!(used.iter().collect::<HashSet<_>>().len(), used.len());
                prop_assert_eq!(arena.free_tokens(), (20 - used.len()) * 16);
            }
            leases.clear();
            prop_assert_eq!(arena.free_tokens(), arena.total_tokens());
        }
    }
}
