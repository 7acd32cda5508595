//! The settings of payments: which chain, which contracts, whose key, for what fees, whom.

use std::path::{Path, PathBuf};

use far_ledger::{Amount, WalletAddress};

use super::{
    chain::{BatchItems, BlockNumber, ChainId, Confirmations, Gwei, PollSeconds, Weeks},
    entry::Origin,
    error::{ConfigError, ValueError},
    settings::{Origins, Reader, parse_money},
    value::SecretUrl,
};

/// 1 FAR: about what sending less costs.
pub const DEFAULT_PAYOUT_MINIMUM: Amount = Amount::from_nano_u32(1_000_000_000);

/// What payments are made with. [`super::KEYS`] says what each setting means and why its default is what it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Payments {
    /// JSON-RPC endpoint of a node of the chain.
    pub rpc_url: Option<SecretUrl>,
    /// The chain that it must be.
    pub chain_id: Option<ChainId>,
    /// The token.
    pub token_contract: Option<WalletAddress>,
    /// Who pays batches.
    pub payout_contract: Option<WalletAddress>,
    /// Block before which there is nothing to look for.
    pub deployment_block: BlockNumber,
    /// The payer's key, encrypted.
    pub keystore: Option<PathBuf>,
    /// Its password.
    pub keystore_password_file: Option<PathBuf>,
    /// Wallets with less wait.
    pub payout_minimum: Amount,
    /// Wallets of a transaction.
    pub payout_batch_items: BatchItems,
    /// Time between two payouts.
    pub payout_weeks: Weeks,
    /// How deep is settled.
    pub confirmations: Confirmations,
    /// Cap on the whole fee per gas.
    pub max_fee: Option<Gwei>,
    /// Cap on the tip per gas.
    pub max_tip: Option<Gwei>,
    /// Time between two looks at the chain.
    pub poll: PollSeconds,
    /// Whom users send FAR to.
    pub deposit_address: Option<WalletAddress>,
}

/// What the command line sets of [`Payments`].
#[derive(Clone, Debug, Default)]
pub struct PaymentFlags {
    /// `--rpc-url`
    pub rpc_url: Option<SecretUrl>,
    /// `--chain-id`
    pub chain_id: Option<ChainId>,
    /// `--payout-contract`
    pub payout_contract: Option<WalletAddress>,
    /// `--deployment-block`
    pub deployment_block: Option<BlockNumber>,
    /// `--keystore`
    pub keystore: Option<PathBuf>,
    /// `--keystore-password-file`
    pub keystore_password_file: Option<PathBuf>,
    /// `--minimum`
    pub payout_minimum: Option<Amount>,
    /// `--batch-items`
    pub payout_batch_items: Option<BatchItems>,
    /// `--weeks`
    pub payout_weeks: Option<Weeks>,
    /// `--confirmations`
    pub confirmations: Option<Confirmations>,
    /// `--max-fee-gwei`
    pub max_fee: Option<Gwei>,
    /// `--max-tip-gwei`
    pub max_tip: Option<Gwei>,
    /// `--poll-seconds`
    pub poll: Option<PollSeconds>,
    /// `--deposit-address`
    pub deposit_address: Option<WalletAddress>,
}

/// The JSON-RPC endpoint of a node.
///
/// # Errors
/// [`ValueError::Url`].
pub fn parse_rpc_url(text: &str) -> Result<SecretUrl, ValueError> {
    SecretUrl::new(text, &["http://", "https://"], "http:// or https://")
}

impl Payments {
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            rpc_url: reader.one("rpc_url", parse_rpc_url)?,
            chain_id: reader.parsed("chain_id")?,
            token_contract: reader.one("token_contract", parse_money)?,
            payout_contract: reader.one("payout_contract", parse_money)?,
            deployment_block: reader.parsed("deployment_block")?.unwrap_or_default(),
            keystore: reader.path("keystore")?,
            keystore_password_file: reader.path("keystore_password_file")?,
            payout_minimum: reader.one("payout_minimum_far", parse_money)?.unwrap_or(DEFAULT_PAYOUT_MINIMUM),
            payout_batch_items: reader.parsed("payout_batch_items")?.unwrap_or_default(),
            payout_weeks: reader.parsed("payout_weeks")?.unwrap_or_default(),
            confirmations: reader.parsed("confirmations")?.unwrap_or_default(),
            max_fee: reader.parsed("max_fee_gwei")?,
            max_tip: reader.parsed("max_tip_gwei")?,
            poll: reader.parsed("poll_seconds")?.unwrap_or(PollSeconds::BLOCK),
            deposit_address: reader.one("deposit_address", parse_money)?,
        })
    }

    pub(super) fn apply(&mut self, flags: PaymentFlags, directory: &Path, origins: &mut Origins) {
        macro_rules! take {
            ($($field:ident, $key:literal, $flag:literal, $wrap:expr;)+) => {$(
                if let Some(value) = flags.$field {
                    self.$field = $wrap(value);
                    origins.insert($key, Origin::Flag($flag));
                }
            )+};
        }
        let path = |path: PathBuf| Some(directory.join(path));
        take! {
            rpc_url, "rpc_url", "--rpc-url", Some;
            chain_id, "chain_id", "--chain-id", Some;
            payout_contract, "payout_contract", "--payout-contract", Some;
            deployment_block, "deployment_block", "--deployment-block", |value| value;
            keystore, "keystore", "--keystore", path;
            keystore_password_file, "keystore_password_file", "--keystore-password-file", path;
            payout_minimum, "payout_minimum_far", "--minimum", |value| value;
            payout_batch_items, "payout_batch_items", "--batch-items", |value| value;
            payout_weeks, "payout_weeks", "--weeks", |value| value;
            confirmations, "confirmations", "--confirmations", |value| value;
            max_fee, "max_fee_gwei", "--max-fee-gwei", Some;
            max_tip, "max_tip_gwei", "--max-tip-gwei", Some;
            poll, "poll_seconds", "--poll-seconds", |value| value;
            deposit_address, "deposit_address", "--deposit-address", Some;
        }
    }
}
