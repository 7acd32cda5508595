//! What a tick does once an epoch is closed: one look at ledger and chain, a decision, and the actions that follow.

use std::collections::BTreeSet;

use ethers_core::types::{Address, H256};

use crate::{
    evm::{Blocks, FeeHistory, RpcError, SignedTx, Unsigned, payout as calls},
    payout::{
        alert::Alert,
        book::{self, NewTx, Stored},
        decide::{Action, Batch, Owner, Slot, State, Status, View, decide},
        error::PayError,
        gas, item,
        payer::{Payer, Tick},
        view,
    },
    store::database::retry,
    time::UnixMillis,
};

/// Gas of a transaction that does nothing.
const FILL_GAS: u64 = 21_000;

/// One look at ledger and chain, and what follows from it.
pub(super) struct Round<'a> {
    payer: &'a Payer,
    now: UnixMillis,
    blocks: Blocks,
    view: View,
    stored: Stored,
}

impl<'a> Round<'a> {
    pub(super) async fn begin(payer: &'a Payer, now: UnixMillis) -> Result<Self, PayError> {
        let (chain, database, contract) = (payer.chain(), payer.ledger().database(), &payer.config().contract);
        let blocks = chain.blocks(payer.config().depth).await?;
        let mut senders: BTreeSet<Address> =
            retry(|| book::senders(database, contract.chain_id)).await?.into_iter().collect();
        senders.insert(payer.address());
        let nonces = view::nonces(chain, &blocks, senders).await?;
        let spent = nonces.iter().map(|(sender, seen)| (*sender, seen.deep)).collect();
        let stored = retry(|| book::stored(database, contract, &spent)).await?;
        let mut view = View { head: blocks.latest.number, nonces, ..View::default() };
        for batch in &stored.state.batches {
            view.guards.insert(batch.id, view::guard(chain, contract, &blocks, batch.id).await?);
        }
        Ok(Self { payer, now, blocks, view, stored })
    }

    /// Does all that can be done: what fails for one batch keeps no other from going on. The first failure is told.
    pub(super) async fn go(&self, tick: &mut Tick) -> Result<(), PayError> {
        let mut signed = Vec::new();
        let mut failed = None;
        for action in decide(&self.stored.state, &self.view, self.payer.config().fees.bump_after_blocks) {
            match self.act(action, tick).await {
                Ok(new) => signed.extend(new),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        for (tx, owner) in signed {
            tick.signed.push(tx.hash());
            if let Err(error) = self.send(&tx, owner, tick).await {
                failed = failed.or(Some(error));
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// What was signed and stored, and is to be sent.
    async fn act(&self, action: Action, tick: &mut Tick) -> Result<Option<(SignedTx, Owner)>, PayError> {
        let slot = |index: usize| self.state().slots.get(index);
        match action {
            Action::Confirm(batch) => self.confirm(batch, tick).await?,
            Action::Halt { batch, found } => self.halt(batch, found, tick).await?,
            Action::Mark { batch, status } => self.mark(batch, status).await?,
            Action::Sign { batch, try_no } => return self.sign(batch, try_no, tick).await,
            Action::Fill { sender, nonce } => return self.fill(sender, nonce, tick).await,
            Action::Bump { slot: index } => {
                if let Some(slot) = slot(index) {
                    return self.bump(slot, tick).await;
                }
            }
            Action::Send { slot: index } => {
                if let Some(slot) = slot(index) {
                    self.send_slot(slot, tick).await?;
                }
            }
        }
        Ok(None)
    }

    fn state(&self) -> &State {
        &self.stored.state
    }

    fn batch(&self, id: H256) -> Option<&Batch> {
        self.state().batches.iter().find(|batch| batch.id == id)
    }

    async fn mark(&self, batch: H256, status: Status) -> Result<(), PayError> {
        let database = self.payer.ledger().database();
        retry(|| book::mark(database, batch, status)).await
    }

    async fn confirm(&self, batch: H256, tick: &mut Tick) -> Result<(), PayError> {
        let (chain, database) = (self.payer.chain(), self.payer.ledger().database());
        let ours = retry(|| book::transactions_of(database, batch)).await?;
        let ours = ours.iter().map(SignedTx::hash);
        let mined = view::mined(chain, &self.payer.config().contract, batch, ours, &self.blocks.deep).await?;
        if retry(|| book::confirm(database, batch, &mined, self.now)).await? {
            tick.confirmed.push(batch);
        }
        Ok(())
    }

    async fn halt(&self, batch: H256, found: H256, tick: &mut Tick) -> Result<(), PayError> {
        let expected = self.batch(batch).map(|batch| batch.digest).unwrap_or_default();
        let alert = Alert::Halted { batch, found, expected };
        let (database, reason) = (self.payer.ledger().database(), alert.to_string());
        retry(|| book::halt(database, batch, &reason)).await?;
        tick.alerts.push(alert);
        Ok(())
    }

    async fn sign(&self, id: H256, try_no: u32, tick: &mut Tick) -> Result<Option<(SignedTx, Owner)>, PayError> {
        let Some(batch) = self.batch(id) else { return Ok(None) };
        let (database, me) = (self.payer.ledger().database(), self.payer.address());
        let items = retry(|| book::items(database, batch)).await?;
        // Not signed where it cannot be paid: it would only burn gas, or, with the most it may have, revert, spend its nonce
        // and be signed again, for ever. As soon as it could be paid, a tick signs it.
        let needed = match self.payer.estimate(id, &items).await? {
            Ok(needed) => needed,
            Err(why) => {
                tick.alerts.push(Alert::of_batch(id, me, why));
                return Ok(None);
            }
        };
        // Of the newest block, not of the pool: a nonce that others left there may never be mined, and ours would wait for it.
        let seen = self.view.nonces.get(&me).map_or(0, |seen| seen.latest);
        let chain_id = self.payer.config().contract.chain_id;
        let nonce = retry(|| book::next_nonce(database, chain_id, me)).await?.max(seen);
        let fees = self.payer.config().fees.first(&self.fees().await?);
        let (to, data) = (Some(self.payer.config().contract.address), calls::pay(id, &item::pack(&items)));
        let body = Unsigned { chain_id, nonce, to, data, gas: gas::limit(needed), fees };
        self.store(body, Owner::Batch(id), try_no, 0).await
    }

    async fn bump(&self, slot: &Slot, tick: &mut Tick) -> Result<Option<(SignedTx, Owner)>, PayError> {
        let newest = slot.attempts.last().and_then(|newest| self.stored.raw.get(&newest.hash));
        let Some(newest) = newest else { return Ok(None) };
        if slot.sender != self.payer.address() {
            tick.alerts.push(Alert::OtherKey { sender: slot.sender, nonce: slot.nonce });
            return Ok(None);
        }
        let Some(fees) = self.payer.config().fees.bump(newest.body().fees, &self.fees().await?) else {
            tick.alerts.push(Alert::FeeCap { hash: newest.hash() });
            return Ok(None);
        };
        let body = Unsigned { fees, ..newest.body().clone() };
        let attempt = u32::try_from(slot.attempts.len()).unwrap_or(u32::MAX);
        self.store(body, slot.owner, slot.try_no, attempt).await
    }

    async fn fill(&self, sender: Address, nonce: u64, tick: &mut Tick) -> Result<Option<(SignedTx, Owner)>, PayError> {
        if sender != self.payer.address() {
            tick.alerts.push(Alert::OtherKey { sender, nonce });
            return Ok(None);
        }
        let fees = self.payer.config().fees.first(&self.fees().await?);
        let chain_id = self.payer.config().contract.chain_id;
        let body = Unsigned { chain_id, nonce, to: Some(sender), data: Vec::new(), gas: FILL_GAS, fees };
        self.store(body, Owner::Fill, 0, 0).await
    }

    /// Signs and stores; what is not stored is thrown away and never sent.
    async fn store(
        &self,
        body: Unsigned,
        owner: Owner,
        try_no: u32,
        attempt: u32,
    ) -> Result<Option<(SignedTx, Owner)>, PayError> {
        let tx = body.sign(self.payer.signer()).await?;
        let new = NewTx { tx, owner, try_no, attempt, head: self.blocks.latest.number, now: self.now };
        let database = self.payer.ledger().database();
        let stored = retry(|| book::store_signed(database, &new)).await?;
        Ok(stored.then_some((new.tx, owner)))
    }

    async fn send_slot(&self, slot: &Slot, tick: &mut Tick) -> Result<(), PayError> {
        for attempt in &slot.attempts {
            if let Some(tx) = self.stored.raw.get(&attempt.hash) {
                self.send(tx, slot.owner, tick).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, tx: &SignedTx, owner: Owner, tick: &mut Tick) -> Result<(), PayError> {
        match self.payer.chain().send(tx.raw(), tx.hash()).await {
            Ok(()) => {
                let batch = match owner {
                    Owner::Batch(id) => self.batch(id),
                    Owner::Fill => None,
                };
                // A batch that was planned when this round began was signed in it.
                if let Some(batch) = batch.filter(|batch| matches!(batch.status, Status::Planned | Status::Signed)) {
                    self.mark(batch.id, Status::Submitted).await?;
                }
            }
            // What a node says of a transaction decides nothing: the next tick looks at the chain.
            Err(RpcError::Refused { message, .. }) if knows(&message) => {}
            Err(error) => tick.alerts.push(Alert::NotSent { hash: tx.hash(), reason: error.to_string() }),
        }
        Ok(())
    }

    async fn fees(&self) -> Result<FeeHistory, PayError> {
        Ok(self.payer.chain().fees().await?)
    }
}

/// Whether a node refused a transaction because it has it, or a dearer one, or because it is mined: all is well then.
fn knows(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["already known", "already imported", "nonce too low", "underpriced", "known transaction"]
        .iter()
        .any(|known| message.contains(known))
}
