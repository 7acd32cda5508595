//! The driver: reads, asks, decides, does.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ethers_core::types::{Address, H256};

use crate::{
    evm::{Call, Chain, FeeHistory, FeePolicy, RpcError, SignedTx, Signer, Unsigned, payout as calls},
    payout::{
        book::{self, NewTx, Stored},
        decide::{Action, Batch, Owner, Slot, State, Status, View, decide},
        epoch::Epoch,
        error::PayError,
        item::{self, PayoutContract},
        plan::{Plan, Rules},
        view::{self, Blocks},
    },
    store::{Ledger, database::retry},
    time::UnixMillis,
};

/// Most gas of a transaction (EIP-7825).
const MAX_GAS: u64 = 1 << 24;

/// Room above the estimate, beside a quarter of it: a recipient that spends its last FAR meanwhile costs four times as much.
const GAS_MARGIN: u64 = 60_000;

/// Gas of a transaction that does nothing.
const FILL_GAS: u64 = 21_000;

/// What counts as settled for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// That many blocks above it. No reorganisation may be deeper.
    Blocks(u64),
    /// What the chain's consensus calls final.
    Finalized,
}

/// How a payer pays.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PayerConfig {
    /// Where.
    pub contract: PayoutContract,
    /// Whom, and how many at a time.
    pub rules: Rules,
    /// For what fees.
    pub fees: FeePolicy,
    /// What counts as settled.
    pub depth: Depth,
    /// Time between two ticks of [`Payer::run`].
    pub interval: Duration,
    /// How long a payer that looks after payouts keeps others from it when it is gone; `None` lets all of them work at once,
    /// which wastes requests and nothing else.
    pub lease: Option<Duration>,
}

impl PayerConfig {
    /// Payouts from `contract` with everything else as it is by default: final blocks, a tick every 12 seconds, a lease of
    /// two minutes.
    pub fn new(contract: PayoutContract) -> Self {
        Self {
            contract,
            rules: Rules::default(),
            fees: FeePolicy::default(),
            depth: Depth::Finalized,
            interval: Duration::from_secs(12),
            lease: Some(Duration::from_secs(120)),
        }
    }
}

/// Pays what a ledger owes its providers. Any number may run, in any number of processes.
#[derive(Clone, Debug)]
pub struct Payer {
    ledger: Ledger,
    chain: Chain,
    signer: Arc<dyn Signer>,
    config: PayerConfig,
    /// Name in the lease.
    holder: String,
}

/// What a tick did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Tick {
    /// Another payer has the lease: nothing was done.
    pub leased: bool,
    /// An epoch was closed.
    pub closed: Option<Closed>,
    /// Batches that are neither settled nor halted after it.
    pub open: usize,
    /// Batches that were settled.
    pub confirmed: Vec<H256>,
    /// Transactions that were signed.
    pub signed: Vec<H256>,
    /// What an operator has to know.
    pub alerts: Vec<Alert>,
}

/// An epoch that was closed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Closed {
    /// Which.
    pub epoch: Epoch,
    /// What is paid for it, and what carries over.
    pub plan: Plan,
}

/// What keeps payouts from going on until somebody does something, or until the chain changes.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Alert {
    /// Somebody pays other items under our names.
    #[error(
        "batch {batch:?} is halted: the contract paid it with other items (digest {found:?}, ours {expected:?}); another ledger \
         uses this contract, or this ledger is an old copy: find out before paying on"
    )]
    Halted {
        /// The batch.
        batch: H256,
        /// Digest in the contract.
        found: H256,
        /// Digest of our items.
        expected: H256,
    },
    /// The payment would revert: the treasury, its allowance or the payer's role.
    #[error(
        "batch {batch:?} cannot be paid now: {reason}; see that the treasury holds enough, has approved the contract, and that \
         {payer:?} is a payer"
    )]
    WouldRevert {
        /// The batch.
        batch: H256,
        /// Who would pay.
        payer: Address,
        /// What the node said.
        reason: String,
    },
    /// The fees reached their caps.
    #[error(
        "transaction {hash:?} waits: the chain asks for more than max_fee_cap or tip_cap allow; raise them, or wait"
    )]
    FeeCap {
        /// The newest transaction on that nonce.
        hash: H256,
    },
    /// Only the key of another payer can help.
    #[error("nonce {nonce} of payer {sender:?} is stuck, and this payer has another key: run that payer")]
    OtherKey {
        /// Whose nonce.
        sender: Address,
        /// The nonce.
        nonce: u64,
    },
    /// A node did not take a transaction. It is sent again.
    #[error("transaction {hash:?} was not taken: {reason}")]
    NotSent {
        /// The transaction.
        hash: H256,
        /// What the node said.
        reason: String,
    },
}

impl Payer {
    /// A payer. `holder` names it in the lease: any text of its own.
    pub fn new(
        ledger: Ledger,
        chain: Chain,
        signer: Arc<dyn Signer>,
        config: PayerConfig,
        holder: impl Into<String>,
    ) -> Self {
        Self { ledger, chain, signer, config, holder: holder.into() }
    }

    /// How it pays.
    pub fn config(&self) -> &PayerConfig {
        &self.config
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }

    pub(super) fn address(&self) -> Address {
        self.signer.address()
    }

    /// Ticks until `shutdown` resolves. Errors and alerts are logged; the next tick tries again.
    ///
    /// A tick that is under way is finished; wherever it were cut off, the next one would go on.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            match self.tick(UnixMillis::now()).await {
                Ok(tick) => {
                    for batch in &tick.confirmed {
                        tracing::info!(?batch, "payout batch settled");
                    }
                    for alert in &tick.alerts {
                        tracing::warn!("{alert}");
                    }
                }
                Err(error) => tracing::error!("payouts wait: {error}"),
            }
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(self.config.interval) => {}
            }
        }
    }

    /// Does whatever can be done now: closes the week that is over, and takes every open batch as far as the chain lets it.
    ///
    /// Safe to drop and to repeat at any point.
    ///
    /// # Errors
    /// [`PayError`]; whatever was stored before stays and is taken up again.
    pub async fn tick(&self, now: UnixMillis) -> Result<Tick, PayError> {
        Box::pin(self.go(now)).await
    }

    async fn go(&self, now: UnixMillis) -> Result<Tick, PayError> {
        let mut tick = Tick::default();
        if let Some(span) = self.config.lease {
            let database = self.ledger.database();
            if !retry(|| book::acquire(database, &self.holder, now, span)).await? {
                tick.leased = true;
                return Ok(tick);
            }
        }
        view::check_chain(&self.chain, &self.config.contract).await?;
        tick.closed = self.close(now).await?;
        let database = self.ledger.database();
        tick.open = retry(|| book::open_batches(database)).await?;
        if tick.open > 0 {
            Round::begin(self, now).await?.go(&mut tick).await?;
            tick.open = retry(|| book::open_batches(database)).await?;
        }
        Ok(tick)
    }

    async fn close(&self, now: UnixMillis) -> Result<Option<Closed>, PayError> {
        let Some(epoch) = Epoch::due(now) else { return Ok(None) };
        let database = self.ledger.database();
        if retry(|| book::closed_since(database, epoch)).await? {
            return Ok(None);
        }
        let closing = self.closing(epoch, now).await?;
        let plan = retry(|| book::close(database, &closing)).await?;
        Ok(plan.map(|plan| Closed { epoch, plan }))
    }

    /// What an epoch is closed with now. Asks the chain, so that no epoch is closed for a contract that is not there.
    pub(super) async fn closing(&self, epoch: Epoch, now: UnixMillis) -> Result<book::Closing, PayError> {
        let PayerConfig { contract, rules, .. } = self.config;
        let token = view::token(&self.chain, &contract).await?;
        Ok(book::Closing { epoch, contract, rules, own: vec![contract.address.0, token.0], now })
    }
}

/// One look at ledger and chain, and what follows from it.
struct Round<'a> {
    payer: &'a Payer,
    now: UnixMillis,
    blocks: Blocks,
    view: View,
    stored: Stored,
}

impl<'a> Round<'a> {
    async fn begin(payer: &'a Payer, now: UnixMillis) -> Result<Self, PayError> {
        let (chain, database, contract) = (&payer.chain, payer.ledger.database(), &payer.config.contract);
        let blocks = view::blocks(chain, payer.config.depth).await?;
        let mut senders: BTreeSet<Address> = retry(|| book::senders(database)).await?.into_iter().collect();
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

    async fn go(&self, tick: &mut Tick) -> Result<(), PayError> {
        let mut signed = Vec::new();
        for action in decide(&self.stored.state, &self.view, self.payer.config.fees.bump_after_blocks) {
            match action {
                Action::Confirm(batch) => self.confirm(batch, tick).await?,
                Action::Halt { batch, found } => self.halt(batch, found, tick).await?,
                Action::Mark { batch, status } => self.mark(batch, status).await?,
                Action::Sign { batch, try_no } => signed.extend(self.sign(batch, try_no, tick).await?),
                Action::Bump { slot } => {
                    if let Some(slot) = self.state().slots.get(slot) {
                        signed.extend(self.bump(slot, tick).await?);
                    }
                }
                Action::Fill { sender, nonce } => signed.extend(self.fill(sender, nonce, tick).await?),
                Action::Send { slot } => {
                    if let Some(slot) = self.state().slots.get(slot) {
                        self.send_slot(slot, tick).await?;
                    }
                }
            }
        }
        for (tx, owner) in signed {
            tick.signed.push(tx.hash());
            self.send(&tx, owner, tick).await?;
        }
        Ok(())
    }

    fn state(&self) -> &State {
        &self.stored.state
    }

    fn batch(&self, id: H256) -> Option<&Batch> {
        self.state().batches.iter().find(|batch| batch.id == id)
    }

    async fn mark(&self, batch: H256, status: Status) -> Result<(), PayError> {
        let database = self.payer.ledger.database();
        retry(|| book::mark(database, batch, status)).await
    }

    async fn confirm(&self, batch: H256, tick: &mut Tick) -> Result<(), PayError> {
        let (chain, database) = (&self.payer.chain, self.payer.ledger.database());
        let ours = retry(|| book::transactions_of(database, batch)).await?;
        let ours = ours.iter().map(SignedTx::hash);
        let mined = view::mined(chain, &self.payer.config.contract, batch, ours, &self.blocks.deep).await?;
        if retry(|| book::confirm(database, batch, &mined, self.now)).await? {
            tick.confirmed.push(batch);
        }
        Ok(())
    }

    async fn halt(&self, batch: H256, found: H256, tick: &mut Tick) -> Result<(), PayError> {
        let expected = self.batch(batch).map(|batch| batch.digest).unwrap_or_default();
        let alert = Alert::Halted { batch, found, expected };
        let (database, reason) = (self.payer.ledger.database(), alert.to_string());
        retry(|| book::halt(database, batch, &reason)).await?;
        tick.alerts.push(alert);
        Ok(())
    }

    async fn sign(&self, id: H256, try_no: u32, tick: &mut Tick) -> Result<Option<(SignedTx, Owner)>, PayError> {
        let Some(batch) = self.batch(id) else { return Ok(None) };
        let (database, me) = (self.payer.ledger.database(), self.payer.address());
        let items = retry(|| book::items(database, batch)).await?;
        let data = calls::pay(id, &item::pack(&items));
        let to = Some(self.payer.config.contract.address);
        let gas = match self.payer.chain.estimate_gas(&Call { from: Some(me), to, data: data.clone() }).await {
            Ok(gas) => gas.saturating_add(gas / 4).saturating_add(GAS_MARGIN).min(MAX_GAS),
            // Not signed: it would only burn gas. As soon as it could be paid, a tick signs it.
            Err(error @ RpcError::Refused { .. }) => {
                tick.alerts.push(Alert::WouldRevert { batch: id, payer: me, reason: error.to_string() });
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        // Of the newest block, not of the pool: a nonce that others left there may never be mined, and ours would wait for it.
        let seen = self.view.nonces.get(&me).map_or(0, |seen| seen.latest);
        let nonce = retry(|| book::next_nonce(database, me)).await?.max(seen);
        let fees = self.payer.config.fees.first(&self.fees().await?);
        let body = Unsigned { chain_id: self.payer.config.contract.chain_id, nonce, to, data, gas, fees };
        self.store(body, Owner::Batch(id), try_no, 0).await
    }

    async fn bump(&self, slot: &Slot, tick: &mut Tick) -> Result<Option<(SignedTx, Owner)>, PayError> {
        let newest = slot.attempts.last().and_then(|newest| self.stored.raw.get(&newest.hash));
        let Some(newest) = newest else { return Ok(None) };
        if slot.sender != self.payer.address() {
            tick.alerts.push(Alert::OtherKey { sender: slot.sender, nonce: slot.nonce });
            return Ok(None);
        }
        let Some(fees) = self.payer.config.fees.bump(newest.body().fees, &self.fees().await?) else {
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
        let fees = self.payer.config.fees.first(&self.fees().await?);
        let chain_id = self.payer.config.contract.chain_id;
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
        let tx = body.sign(&*self.payer.signer).await?;
        let new = NewTx { tx, owner, try_no, attempt, head: self.blocks.latest.number, now: self.now };
        let database = self.payer.ledger.database();
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
        match self.payer.chain.send(tx.raw(), tx.hash()).await {
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
        Ok(self.payer.chain.fees().await?)
    }
}

/// Whether a node refused a transaction because it has it, or a dearer one, or because it is mined: all is well then.
fn knows(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["already known", "already imported", "nonce too low", "underpriced", "known transaction"]
        .iter()
        .any(|known| message.contains(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_can_be_spawned() {
        fn spawnable<F: Future + Send>(_: &F) {}
        fn check(payer: &Payer) {
            spawnable(&payer.tick(UnixMillis::default()));
        }
        let _: fn(&Payer) = check;
    }
}
