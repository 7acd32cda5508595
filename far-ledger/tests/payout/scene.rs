//! A ledger with providers who earned something, contracts on a chain, and payers between them.

use std::{sync::Arc, time::Duration};

use far_ledger::{
    Amount, Contribution, Ledger, NewSession, Node, Outcome, Store, UnixMillis, WalletAddress,
    evm::{
        Address, Artifacts, Chain, Deployed, Deployment, Depth, FeePolicy, LocalSigner, Signer, Transport, U256,
        deploy, payout, token,
    },
    payout::{Epoch, Payer, PayerConfig, PayoutContract, Tick},
};
use serde_json::{Value, json};

use crate::{
    anvil::{Anvil, CHAIN_ID},
    bed::Bed,
    both::{Kind, artifacts},
};

/// Blocks above what counts as settled.
pub(crate) const DEPTH: u64 = 4;

/// Ticks, with a block after each, in which every batch must be settled: a few depths.
const MAX_TICKS: usize = 80;

pub(crate) const BATCH_ITEMS: usize = 200;

/// Chain, contracts and a ledger.
pub(crate) struct Scene {
    pub(crate) anvil: Anvil,
    pub(crate) deployed: Deployed,
    pub(crate) bed: Bed,
    pub(crate) ledger: Ledger,
    pub(crate) wallets: usize,
}

/// Monday, 23 November 2026, 00:00 UTC, and an hour.
pub(crate) fn now() -> UnixMillis {
    UnixMillis::new(1_795_392_000_000 + 3_600_000).unwrap()
}

/// [`now`], some weeks later.
pub(crate) fn weeks_later(weeks: u32) -> UnixMillis {
    now().after(Duration::from_secs(7 * 24 * 3600) * weeks)
}

pub(crate) fn epoch() -> Epoch {
    Epoch::due(now()).unwrap()
}

/// The treasury's and admin's key, which deployed everything.
pub(crate) fn owner() -> LocalSigner {
    LocalSigner::from_secret(&[1; 32]).unwrap()
}

/// Payers' keys: all may pay.
pub(crate) fn key(index: u8) -> LocalSigner {
    LocalSigner::from_secret(&[10 + index; 32]).unwrap()
}

pub(crate) fn wallet(index: usize) -> WalletAddress {
    let mut bytes = [0x5a; 20];
    bytes[..8].copy_from_slice(&(index as u64).to_be_bytes());
    WalletAddress::from_bytes(bytes).unwrap()
}

/// What the provider with this number earned, in nano-FAR: in two sessions.
pub(crate) fn earned(index: usize) -> [i64; 2] {
    let index = i64::try_from(index).unwrap();
    [1_000_000_000 + index * 7, index * 3 + 1]
}

/// A chain whose blocks are of [`now`] and after.
pub(crate) fn chain() -> Anvil {
    Anvil::start(CHAIN_ID, Some(now()))
}

pub(crate) async fn contracts(anvil: &Anvil, token: Option<Address>) -> Deployed {
    let (chain, owner) = (anvil.chain(), owner());
    anvil.fund(owner.address()).await;
    for index in 0..3 {
        anvil.fund(key(index).address()).await;
    }
    let mut deployment = Deployment::for_one(anvil.chain_id, owner.address(), U256::exp10(27));
    deployment.payers = (0..3).map(|index| key(index).address()).collect();
    deployment.token = token;
    deployment.timeout = Duration::from_secs(60);
    anvil.tell("evm_setAutomine", json!([true])).await;
    let deployed = deploy(&chain, &owner, &Artifacts::read(&artifacts()).unwrap(), &deployment, &|_| ()).await.unwrap();
    anvil.tell("evm_setAutomine", json!([false])).await;
    // Deep enough for the guard to be there in the deep block from the start.
    anvil.mine(DEPTH).await;
    deployed
}

/// Providers with one node each, who earned in two sessions of the week before [`now`].
pub(crate) async fn earn(ledger: &Ledger, wallets: usize) {
    earn_before(ledger, wallets, epoch().end(), "session").await;
}

/// The same in two sessions that ended an hour before `end`.
pub(crate) async fn earn_before(ledger: &Ledger, wallets: usize, end: UnixMillis, sessions: &str) {
    let at = end.before(Duration::from_secs(3600));
    for index in 0..wallets {
        let mut node = Node::new(format!("node-{index:04}"), at);
        node.wallet = Some(wallet(index));
        ledger.upsert_node(&node).await.unwrap();
    }
    for session in 0..2 {
        let id = format!("{sessions}-{session}");
        ledger.begin_session(&NewSession::new(&id, "model", at)).await.unwrap();
        let parts: Vec<Contribution> = (0..wallets)
            .map(|index| Contribution {
                node_id: format!("node-{index:04}"),
                layers_start: 0,
                layers_end: 1,
                tokens: 1,
                token_layers: 1,
                compute_ms: 1,
                exact: true,
                payment: Amount::from_nano(earned(index)[session]).unwrap(),
            })
            .collect();
        let cost = Amount::checked_sum(parts.iter().map(|part| part.payment)).unwrap();
        ledger.finalize_session(&id, &Outcome::new(1, cost, parts, at).unwrap()).await.unwrap();
    }
}

impl Scene {
    pub(crate) async fn new(kind: Kind, wallets: usize) -> Self {
        let anvil = chain();
        let deployed = contracts(&anvil, None).await;
        Self::on(kind, anvil, deployed, wallets).await
    }

    pub(crate) async fn on(kind: Kind, anvil: Anvil, deployed: Deployed, wallets: usize) -> Self {
        let bed = kind.bed().await;
        let ledger = bed.open().await;
        earn(&ledger, wallets).await;
        Self { anvil, deployed, bed, ledger, wallets }
    }

    pub(crate) fn contract(&self) -> PayoutContract {
        PayoutContract { chain_id: self.anvil.chain_id, address: self.deployed.payout }
    }

    pub(crate) fn payer(&self) -> Payer {
        self.payer_over(self.anvil.transport(), &self.ledger, 0)
    }

    pub(crate) fn payer_over(&self, transport: impl Transport + 'static, ledger: &Ledger, key_index: u8) -> Payer {
        let chain = Chain::new(transport);
        Payer::new(
            ledger.clone(),
            chain,
            Arc::new(key(key_index)),
            config(self.contract()),
            format!("payer-{key_index}"),
        )
    }

    /// One tick, which must not fail, and a block.
    pub(crate) async fn step(&self, payer: &Payer) -> Tick {
        let tick = payer.tick(now()).await.unwrap();
        self.anvil.mine(1).await;
        tick
    }

    /// Ticks and blocks until everything is settled; how many ticks it took.
    pub(crate) async fn settle(&self, payer: &Payer) -> usize {
        for ticks in 1..=MAX_TICKS {
            let tick = payer.tick(now()).await;
            if tick.is_ok_and(|tick| tick.open == 0 && !tick.leased) {
                return ticks;
            }
            self.anvil.mine(1).await;
        }
        panic!("a batch is stalled: {:#?}", self.ledger.payout_batches(10).await.unwrap());
    }

    /// Every wallet has what it earned, on the chain and in the ledger; nothing else moved.
    pub(crate) async fn assert_paid_once(&self) {
        self.assert_chain().await;
        self.assert_ledger(&self.ledger).await;
    }

    pub(crate) async fn assert_chain(&self) {
        let mut total = U256::zero();
        let calls = (0..self.wallets).map(|index| self.balance_of(Address::from(*wallet(index).as_bytes()))).collect();
        for (index, answer) in self.anvil.batch(calls).await.iter().enumerate() {
            let expected = U256::from(earned(index).iter().sum::<i64>()) * U256::exp10(9);
            assert_eq!(number(answer), expected, "wallet {index}");
            total += expected;
        }
        let rest = [owner().address(), self.deployed.payout].map(|account| self.balance_of(account)).to_vec();
        let rest = self.anvil.batch(rest).await;
        assert_eq!(number(&rest[0]), U256::exp10(27) - total, "what the treasury still has");
        assert_eq!(number(&rest[1]), U256::zero(), "nothing stays in the contract");
    }

    pub(crate) async fn assert_ledger(&self, ledger: &Ledger) {
        let batches = ledger.payout_batches(100).await.unwrap();
        assert_eq!(batches.len(), self.wallets.div_ceil(BATCH_ITEMS));
        for batch in &batches {
            assert_eq!((batch.status.as_str(), batch.halted.as_deref()), ("confirmed", None));
            assert!(batch.tx_hash.is_some() && batch.block_number.is_some(), "{batch:?}");
        }
        assert_eq!(ledger.audit().await.unwrap(), [], "journal, balances and contributions agree");
        for index in (0..self.wallets).step_by(37) {
            let node = format!("node-{index:04}");
            let sums = ledger.node_earnings(&node).await.unwrap().unwrap();
            assert_eq!((sums.paid.nano(), sums.unpaid.nano()), (earned(index).iter().sum(), 0), "{node}");
            let payments = ledger.node_payments(&node, 10).await.unwrap();
            assert_eq!(payments.len(), 1);
            assert_eq!(payments[0].amount, sums.paid);
            assert!(payments[0].tx_hash.is_some() && payments[0].block_number.is_some());
        }
    }

    pub(crate) fn balance_of(&self, account: Address) -> Value {
        json!({"to": self.deployed.token, "data": format!("0x{}", hex::encode(token::balance_of(account)))})
    }

    pub(crate) async fn credit_of(&self, account: Address) -> U256 {
        let call = json!({"to": self.deployed.payout, "data": format!("0x{}", hex::encode(payout::credit(account)))});
        number(&self.anvil.batch(vec![call]).await[0])
    }
}

/// Payouts as all these tests make them: a block a tick, four blocks deep, fees that rise after three.
pub(crate) fn config(contract: PayoutContract) -> PayerConfig {
    let mut config = PayerConfig::new(contract);
    config.rules.batch_items = BATCH_ITEMS;
    config.depth = Depth::Blocks(DEPTH);
    config.lease = None;
    config.interval = Duration::from_millis(1);
    config.fees = fees();
    config
}

pub(crate) fn fees() -> FeePolicy {
    let mut fees = FeePolicy::default();
    fees.bump_after_blocks = 3;
    fees
}

pub(crate) fn number(answer: &Value) -> U256 {
    U256::from_str_radix(answer.as_str().unwrap(), 16).unwrap()
}

/// Tells on standard error, past the capture of a test that passes: these figures are what the suite is for.
pub(crate) fn tell(line: &str) {
    use std::io::Write;
    std::io::stderr().write_all(format!("payout: {line}\n").as_bytes()).unwrap();
}
