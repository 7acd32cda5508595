//! Outgoing activations of shared pages: what a hop sends on without computing it again.

use std::collections::{BTreeMap, HashMap};

use super::prefix::PageKey;
use crate::activation::Activation;

/// Activations of full pages, the least recently used dropped first.
///
/// Invariant: they take no more bytes than were granted.
#[derive(Debug)]
pub(super) struct Outputs {
    most_bytes: usize,
    bytes: usize,
    kept: HashMap<PageKey, (u64, Activation)>,
    by_use: BTreeMap<u64, PageKey>,
    uses: u64,
}

impl Outputs {
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { most_bytes, bytes: 0, kept: HashMap::new(), by_use: BTreeMap::new(), uses: 0 }
    }

    /// Keeps the rows of a page. The caller gives an activation whose bytes are its own, not a part of a greater one's.
    pub(super) fn keep(&mut self, key: PageKey, rows: Activation) {
        if self.get(&key).is_some() || rows.bytes().len() > self.most_bytes {
            return;
        }
        self.bytes += rows.bytes().len();
        self.uses += 1;
        self.by_use.insert(self.uses, key);
        self.kept.insert(key, (self.uses, rows));
        while self.bytes > self.most_bytes {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.bytes -= self.kept.remove(&oldest).map_or(0, |(_, rows)| rows.bytes().len());
        }
    }

    /// The rows of a page, which count as used now.
    pub(super) fn get(&mut self, key: &PageKey) -> Option<Activation> {
        let (used, rows) = self.kept.get_mut(key)?;
        self.by_use.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, *key);
        Some(rows.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_go_first_and_no_more_is_kept_than_granted() {
        let key = |byte: u8| PageKey::of_test(byte);
        let rows = |value: f32| Activation::from_f32(2, 3, vec![value; 6]).unwrap();
        let mut outputs = Outputs::new(3 * 24);
        (0..3).for_each(|i| outputs.keep(key(i), rows(f32::from(i))));
        assert_eq!(outputs.get(&key(0)), Some(rows(0.0)));
        outputs.keep(key(3), rows(3.0));
        let kept: Vec<bool> = (0..4).map(|i| outputs.get(&key(i)).is_some()).collect();
        assert_eq!((kept, outputs.bytes), (vec![true, false, true, true], 72));
        outputs.keep(key(0), rows(9.0));
        assert_eq!(outputs.get(&key(0)), Some(rows(0.0)), "the same page has the same rows");
        outputs.keep(key(4), Activation::from_f32(7, 3, vec![0.0; 21]).unwrap());
        assert!(outputs.get(&key(4)).is_none() && outputs.kept.len() == 3, "what is too great displaces nothing");
        assert_eq!(outputs.by_use.len(), 3);
    }
}
