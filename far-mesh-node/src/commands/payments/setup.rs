//! From settings to a ledger, a chain, a key and a payer. Whatever is missing is named before anything is done.

use std::{
    io::{self, IsTerminal},
    path::Path,
    sync::Arc,
    time::Duration,
};

use console::Term;
use far_ledger::{
    Ledger, UnixMillis,
    evm::{Address, Chain, FeePolicy, HttpOptions, HttpTransport, LocalSigner, Password},
    payout::{Funds, Payer, PayerConfig, PayoutContract},
};

use crate::{
    commands::{CommandError, books},
    config::{Config, KEYS, KEYSTORE_PASSWORD},
};

use super::PaymentsError;

/// The chain behind the endpoint; nothing is asked yet.
pub(super) fn chain(config: &Config) -> Result<Chain, PaymentsError> {
    let url = config.payments.rpc_url.as_ref().ok_or_else(|| unset("rpc_url", "--rpc-url"))?;
    Ok(Chain::new(HttpTransport::new(url.expose(), HttpOptions::default())?))
}

pub(super) fn chain_id(config: &Config) -> Result<u64, PaymentsError> {
    config.payments.chain_id.map(|id| id.get()).ok_or_else(|| unset("chain_id", "--chain-id"))
}

pub(super) fn contract(config: &Config) -> Result<PayoutContract, PaymentsError> {
    let set = config.payments.payout_contract.ok_or_else(|| unset("payout_contract", "--payout-contract"))?;
    Ok(PayoutContract { chain_id: chain_id(config)?, address: address(set) })
}

/// What there is to pay from; refuses another chain, an address without the contract, and one that pays in another token.
pub(super) async fn funds(config: &Config, chain: &Chain, contract: &PayoutContract) -> Result<Funds, PaymentsError> {
    let funds = Funds::read(chain, contract).await?;
    match config.payments.token_contract {
        Some(set) if address(set) != funds.token => Err(PaymentsError::OtherToken { set, found: funds.token }),
        _ => Ok(funds),
    }
}

pub(super) fn fees(config: &Config) -> FeePolicy {
    let mut fees = FeePolicy::default();
    fees.max_fee_cap = config.payments.max_fee.map_or(fees.max_fee_cap, |fee| fee.wei());
    fees.tip_cap = config.payments.max_tip.map_or(fees.tip_cap, |tip| tip.wei());
    fees
}

/// Everything that paying takes, checked against the chain.
#[derive(Clone, Debug)]
pub(super) struct Paying {
    pub(super) ledger: Ledger,
    pub(super) chain: Chain,
    pub(super) contract: PayoutContract,
    pub(super) funds: Funds,
    pub(super) payer: Payer,
    /// The payer's account.
    pub(super) account: Address,
}

impl Paying {
    /// `alone` leaves out the lease that keeps services from doing the same work twice: who waits for the end of a payout
    /// does not wait for another process to have it.
    pub(super) async fn begin(config: &Config, alone: bool) -> Result<Self, CommandError> {
        let (chain, contract) = (chain(config)?, contract(config)?);
        // The cheapest first: settings, then the chain, then the ledger, and only then the key.
        let keystore = keystore(config)?;
        let funds = funds(config, &chain, &contract).await?;
        let ledger = books::open(config).await?;
        let signer = open(config, keystore).await?;
        let account = far_ledger::evm::Signer::address(&signer);
        let mut how = PayerConfig::new(contract);
        how.rules.minimum = config.payments.payout_minimum;
        how.rules.batch_items = config.payments.payout_batch_items.get();
        how.weeks = config.payments.payout_weeks.get();
        how.fees = fees(config);
        how.depth = config.payments.confirmations.depth();
        how.interval = config.payments.poll.interval();
        how.lease = how.lease.filter(|_| !alone);
        let holder = format!("far-mesh-{}-{}", std::process::id(), UnixMillis::now());
        let payer = Payer::new(ledger.clone(), chain.clone(), Arc::new(signer), how, holder);
        Ok(Self { ledger, chain, contract, funds, payer, account })
    }

    /// Time between two looks at the chain.
    pub(super) fn interval(&self) -> Duration {
        self.payer.config().interval
    }
}

/// The key of the keystore.
pub(super) async fn signer(config: &Config) -> Result<LocalSigner, CommandError> {
    open(config, keystore(config)?).await
}

fn keystore(config: &Config) -> Result<&Path, PaymentsError> {
    config.payments.keystore.as_deref().ok_or_else(|| unset("keystore", "--keystore"))
}

async fn open(config: &Config, keystore: &Path) -> Result<LocalSigner, CommandError> {
    warn_if_open(keystore);
    let (path, named) = (keystore.to_owned(), config.payments.keystore_password_file.clone());
    if let Some(file) = &named {
        warn_if_open(file);
    }
    // Deriving the key takes a second, typing a password longer.
    let opened = tokio::task::spawn_blocking(move || {
        let password = match named {
            Some(file) => Password::File(file),
            None if std::env::var_os(KEYSTORE_PASSWORD).is_some() => Password::Env(KEYSTORE_PASSWORD.to_owned()),
            None => typed(&path)?,
        };
        Ok::<_, PaymentsError>(LocalSigner::open(&path, &password)?)
    });
    Ok(opened.await.map_err(|_| CommandError::Aborted)??)
}

fn typed(keystore: &Path) -> Result<Password, PaymentsError> {
    let terminal = Term::stderr();
    if !terminal.is_term() || !io::stdin().is_terminal() {
        return Err(PaymentsError::NoPassword { path: keystore.to_owned() });
    }
    let asked = terminal.write_str(&format!("password of {}: ", keystore.display()));
    let typed = asked.and_then(|()| terminal.read_secure_line());
    typed.map(Password::Typed).map_err(PaymentsError::Terminal)
}

/// A key that others can read is theirs as soon as they have the password, and a password file says it.
#[cfg(unix)]
fn warn_if_open(path: &Path) {
    use std::os::unix::fs::MetadataExt;
    if std::fs::metadata(path).is_ok_and(|file| file.mode() & 0o077 != 0) {
        let path = path.display();
        tracing::warn!("{path} can be read or written by other users of this machine: chmod 600 {path}");
    }
}

#[cfg(not(unix))]
fn warn_if_open(_: &Path) {}

pub(super) fn address(wallet: far_ledger::WalletAddress) -> Address {
    Address::from(*wallet.as_bytes())
}

fn unset(key: &'static str, flag: &'static str) -> PaymentsError {
    let known = KEYS.iter().find(|known| known.name == key);
    PaymentsError::Unset {
        key,
        meaning: known.map_or("", |known| known.meaning),
        variable: known.and_then(|known| known.variables.first()).copied().unwrap_or("its variable"),
        flag,
    }
}
