//! The driver: reads, asks, decides, does.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use ethers_core::types::{Address, H256};
use tokio::time::timeout;

use crate::{
    evm::{At, Chain, Depth, FeePolicy, Signer},
    payout::{
        alert::Alert,
        book,
        epoch::Epoch,
        error::PayError,
        item::{self, PayoutContract},
        plan::{Plan, Rules},
        round::Round,
        view,
    },
    store::{Ledger, database::retry},
    time::UnixMillis,
};

/// Weeks back that the contract is asked for, where some were not closed: five years.
const MISSED_WEEKS: usize = 260;

/// Batches of such a week that it is asked for: one of them may be open still while another is paid.
const MISSED_BATCHES: u32 = 3;

/// How far this machine's clock and the newest block may be apart without a word about it.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// Time between two looks for where batches were paid, and how many are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(600);
const UNTOLD: u32 = 4;

/// For how long after it was settled a batch is looked for: its event is among the last days' then.
const LOOKED_FOR: Duration = Duration::from_secs(5 * 24 * 3600);

/// How long the search for one may take.
const LOOK_WITHIN: Duration = Duration::from_secs(10);

/// How a payer pays.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PayerConfig {
    /// Where.
    pub contract: PayoutContract,
    /// Whom, and how many at a time.
    pub rules: Rules,
    /// Weeks between two payouts.
    pub weeks: NonZeroU32,
    /// For what fees.
    pub fees: FeePolicy,
    /// What counts as settled.
    pub depth: Depth,
    /// Time between two ticks of [`Payer::run`].
    pub interval: Duration,
    /// How long a payer that looks after payouts keeps others from it when it is gone, the same for all of them; `None` lets
    /// all of them work at once, which wastes requests and nothing else.
    pub lease: Option<Duration>,
}

impl PayerConfig {
    /// Payouts from `contract` with everything else as it is by default: every week, final blocks, a tick every 12 seconds, a lease of
    /// two minutes.
    pub fn new(contract: PayoutContract) -> Self {
        Self {
            contract,
            rules: Rules::default(),
            weeks: NonZeroU32::MIN,
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
    /// When it last looked for where batches were paid. Nothing else is remembered from tick to tick.
    looked: Arc<AtomicI64>,
}

/// What a tick did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Tick {
    /// Another payer has the lease: nothing was done.
    pub leased: bool,
    /// An epoch was closed.
    pub closed: Option<Closed>,
    /// A week that is over by this machine's clock and not yet by the chain's, which has the last word.
    pub waits: Option<Epoch>,
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

impl Payer {
    /// A payer. `holder` names it in the lease: any text of its own.
    pub fn new(
        ledger: Ledger,
        chain: Chain,
        signer: Arc<dyn Signer>,
        config: PayerConfig,
        holder: impl Into<String>,
    ) -> Self {
        Self { ledger, chain, signer, config, holder: holder.into(), looked: Arc::default() }
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

    pub(super) fn signer(&self) -> &dyn Signer {
        &*self.signer
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

    /// Does whatever can be done now: closes the week that is over by `now` and by the chain's newest block, and takes every open batch as far as the chain lets it.
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
        // While batches of another contract are open no week is closed for this one: neither payer could go on then.
        let no_senders = BTreeMap::new();
        retry(|| book::stored(self.ledger.database(), &self.config.contract, &no_senders)).await?;
        tick.closed = self.close(now, &mut tick).await?;
        let database = self.ledger.database();
        tick.open = retry(|| book::open_batches(database)).await?;
        if tick.open > 0 {
            Round::begin(self, now).await?.go(&mut tick).await?;
            tick.open = retry(|| book::open_batches(database)).await?;
        }
        // It changes no payment, so it makes no tick fail.
        if let Err(error) = self.look_for_untold(now).await {
            tracing::warn!("where batches were paid is not known yet: {error}");
        }
        Ok(tick)
    }

    /// Looks once in a while for the transactions of batches that are paid, not by one that this ledger knows of.
    async fn look_for_untold(&self, now: UnixMillis) -> Result<(), PayError> {
        let (database, contract) = (self.ledger.database(), &self.config.contract);
        if now.since(UnixMillis::new(self.looked.load(Ordering::Relaxed)).unwrap_or_default()) < LOOK_EVERY {
            return Ok(());
        }
        self.looked.store(now.get(), Ordering::Relaxed);
        let since = now.before(LOOKED_FOR);
        let untold = retry(|| book::untold(database, contract, since, UNTOLD)).await?;
        if untold.is_empty() {
            return Ok(());
        }
        let deep = self.chain.blocks(self.config.depth).await?.deep;
        for batch in untold {
            // One that is not found keeps no other from being looked for, and all of them no transaction from being sent.
            let found = timeout(LOOK_WITHIN, view::elsewhere(&self.chain, contract, batch, &deep)).await;
            match found {
                Ok(Ok(Some(mined))) => retry(|| book::tell(database, batch, &mined)).await?,
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::warn!(?batch, "where it was paid is not known yet: {error}"),
                Err(_) => tracing::warn!(?batch, "where it was paid is not known yet: the node is slow"),
            }
        }
        Ok(())
    }

    async fn close(&self, now: UnixMillis, tick: &mut Tick) -> Result<Option<Closed>, PayError> {
        let (database, weeks) = (self.ledger.database(), self.config.weeks);
        let newest = self.chain.block(At::Latest).await?.time();
        if newest.since(now) > CLOCK_SKEW {
            tick.alerts.push(Alert::SlowClock { behind: newest.since(now) });
        }
        // Were a week closed before it is over, what is earned in the rest of it, and in weeks after, would wait for long: it
        // is over once both clocks say so.
        let due = Epoch::due_every(weeks, now.min(newest));
        if let Some(epoch) = Epoch::due_every(weeks, now).filter(|epoch| Some(*epoch) > due)
            && !retry(|| book::closed_since(database, epoch)).await?
        {
            tick.waits = Some(epoch);
            let ahead = now.since(newest);
            if ahead > CLOCK_SKEW {
                tick.alerts.push(Alert::FastClock { epoch, ahead });
            }
        }
        let Some(epoch) = due else { return Ok(None) };
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
        self.check_missed(epoch).await?;
        Ok(book::Closing { epoch, contract, rules, own: vec![contract.address.0, token.0], now })
    }

    /// Refuses where the contract has paid a week before `epoch` that this ledger did not close. It is a copy from before
    /// that payment: what was paid then is still unpaid in it, and would be paid under the name of another week.
    async fn check_missed(&self, epoch: Epoch) -> Result<(), PayError> {
        let (database, contract) = (self.ledger.database(), &self.config.contract);
        let Some(first) = retry(|| book::first_open(database)).await? else { return Ok(()) };
        for missed in (first.number()..epoch.number()).rev().take(MISSED_WEEKS) {
            let epoch = Epoch::new(missed);
            for batch in 0..MISSED_BATCHES {
                if view::is_paid(&self.chain, contract, item::batch_id(contract, epoch, batch)).await? {
                    return Err(PayError::Behind { contract: contract.address, epoch, batch });
                }
            }
        }
        Ok(())
    }
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
