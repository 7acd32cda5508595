//! What a tick does: a pure function of what the ledger holds and what the chain says.
//!
//! The ledger's side is [`State`]: batches that are not settled, and for every nonce that still matters all transactions ever
//! signed on it. The chain's side is [`View`]: guards and nonces at the newest block and at a deep one, each read from one
//! block. Nothing else is known and nothing is remembered, so a payer may stop anywhere and any other goes on.

use std::collections::BTreeMap;

use ethers_core::types::{Address, H256};

use crate::evm::Fees;

/// What the ledger holds of payouts that are under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Batches that are neither confirmed nor halted, in the order of epochs and places.
    pub batches: Vec<Batch>,
    /// Nonces of open batches, and all others that are not spent, by sender and nonce.
    pub slots: Vec<Slot>,
}

/// A batch that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Its name.
    pub id: H256,
    /// keccak256 of its items.
    pub digest: H256,
    /// How far the ledger says it is.
    pub status: Status,
}

/// How far a batch is that is neither confirmed nor halted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has no transaction.
    Planned,
    /// It has one that was perhaps sent, perhaps not.
    Signed,
    /// A node took it.
    Submitted,
    /// The newest block says it is paid.
    Mined,
}

/// A nonce of a sender, and what was signed on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The account.
    pub sender: Address,
    /// The nonce.
    pub nonce: u64,
    /// What for.
    pub owner: Owner,
    /// Which try of its owner this is.
    pub try_no: u32,
    /// What was signed, oldest first; never empty.
    pub attempts: Vec<Attempt>,
}

/// What a nonce is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Pays a batch; it may be settled meanwhile.
    Batch(H256),
    /// Pays nobody: it closes a gap before other nonces.
    Fill,
}

/// One signed transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its hash.
    pub hash: H256,
    /// Its fees.
    pub fees: Fees,
    /// The newest block when it was signed.
    pub signed_block: u64,
}

/// What the chain says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Number of the newest block.
    pub head: u64,
    /// For each sender its next nonce.
    pub nonces: BTreeMap<Address, Seen<u64>>,
    /// For each open batch its guard; zero where it is not paid.
    pub guards: BTreeMap<H256, Seen<H256>>,
}

/// A value in two blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen<T> {
    /// In the newest block, which may go away again.
    pub latest: T,
    /// In a block that is as deep as the operator trusts.
    pub deep: T,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The batch is paid for good: settle it.
    Confirm(H256),
    /// The guard holds the digest of other items: stop and call the operator.
    Halt {
        /// The batch.
        batch: H256,
        /// What the guard holds.
        found: H256,
    },
    /// The ledger says something else about how far the batch is.
    Mark {
        /// The batch.
        batch: H256,
        /// How far it is.
        status: Status,
    },
    /// Sign the batch on a new nonce.
    Sign {
        /// The batch.
        batch: H256,
        /// Which try it is.
        try_no: u32,
    },
    /// Sign again on the same nonce for more.
    Bump {
        /// Index into [`State::slots`].
        slot: usize,
    },
    /// Nobody knows a transaction for this nonce, and later ones wait for it: sign one that pays nobody.
    Fill {
        /// The account.
        sender: Address,
        /// The nonce.
        nonce: u64,
    },
    /// Send what is stored; again, where it was sent.
    Send {
        /// Index into [`State::slots`].
        slot: usize,
    },
}

/// What a tick does, in this order. Sending comes last, lowest nonces first, and what is signed in the same tick is sent after.
///
/// `patience` is the number of blocks after which fees rise or a gap is closed.
pub fn decide(state: &State, view: &View, patience: u64) -> Vec<Action> {
    let mut actions = Vec::new();
    for batch in &state.batches {
        actions.extend(of_batch(batch, state, view));
    }
    let mut senders: Vec<Address> = state.slots.iter().map(|slot| slot.sender).collect();
    senders.dedup();
    for sender in senders {
        actions.extend(of_sender(sender, state, view, patience));
    }
    actions
}

fn of_batch(batch: &Batch, state: &State, view: &View) -> Option<Action> {
    // A batch whose guard was not read is left alone.
    let guard = view.guards.get(&batch.id)?;
    if !guard.deep.is_zero() {
        return Some(if guard.deep == batch.digest {
            Action::Confirm(batch.id)
        } else {
            Action::Halt { batch: batch.id, found: guard.deep }
        });
    }
    if !guard.latest.is_zero() {
        // Somebody else's items: that may still go away, so it is no alert yet; and nothing is signed against it.
        let new = guard.latest == batch.digest && batch.status != Status::Mined;
        return new.then_some(Action::Mark { batch: batch.id, status: Status::Mined });
    }
    let slots = || state.slots.iter().filter(|slot| slot.owner == Owner::Batch(batch.id));
    // Deep and not by the newest block: a reorganisation may give the nonce back, and with it the transaction.
    let spent = |slot: &Slot| view.nonces.get(&slot.sender).is_some_and(|nonce| slot.nonce < nonce.deep);
    if slots().all(spent) {
        let next = slots().map(|slot| slot.try_no).max().map_or(0, |last| last.saturating_add(1));
        return Some(Action::Sign { batch: batch.id, try_no: next });
    }
    // A reorganisation took the payment back.
    let lost = batch.status == Status::Mined;
    lost.then_some(Action::Mark { batch: batch.id, status: Status::Submitted })
}

fn of_sender(sender: Address, state: &State, view: &View, patience: u64) -> Vec<Action> {
    let Some(nonce) = view.nonces.get(&sender) else { return Vec::new() };
    let open = |slot: &Slot| match slot.owner {
        Owner::Batch(id) => state.batches.iter().any(|batch| batch.id == id),
        Owner::Fill => false,
    };
    // Below the chain's nonce nothing can be sent; above the last open batch nothing needs to be.
    let live = || {
        let slots = state.slots.iter().enumerate();
        slots.filter(|(_, slot)| slot.sender == sender && slot.nonce >= nonce.latest)
    };
    let Some(last_needed) = live().filter(|(_, slot)| open(slot)).map(|(_, slot)| slot.nonce).max() else {
        return Vec::new();
    };
    let needed = || live().filter(|(_, slot)| slot.nonce <= last_needed);
    let waited = |slot: &Slot| {
        let signed = slot.attempts.last().map_or(0, |attempt| attempt.signed_block);
        view.head.saturating_sub(signed) >= patience
    };
    let mut actions = Vec::new();
    if let Some((index, first)) = needed().min_by_key(|(_, slot)| slot.nonce) {
        if first.nonce > nonce.latest {
            // Another transaction of this account was there, and is gone.
            if waited(first) {
                actions.push(Action::Fill { sender, nonce: nonce.latest });
            }
        } else if waited(first) {
            // Only the next nonce can be stuck for its fee; the others wait for it.
            actions.push(Action::Bump { slot: index });
        }
    }
    let mut sends: Vec<(u64, usize)> = needed().map(|(index, slot)| (slot.nonce, index)).collect();
    sends.sort_unstable();
    actions.extend(sends.into_iter().map(|(_, slot)| Action::Send { slot }));
    actions
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
