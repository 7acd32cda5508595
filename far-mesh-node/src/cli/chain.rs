//! Flags of commands that speak to a chain.

use std::path::PathBuf;

use clap::Args;
use far_ledger::{Amount, WalletAddress};

use crate::config::{
    BatchItems, BlockNumber, ChainId, Confirmations, Flags, Gwei, PaymentFlags, PollSeconds, SecretUrl, Weeks,
    parse_money, parse_rpc_url,
};

/// Which chain.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Chain")]
pub struct ChainArgs {
    /// JSON-RPC endpoint of a node of the chain. One that holds a secret belongs in far-mesh.toml or FAR_MESH_RPC_URL, where
    /// other users of this machine do not see it
    #[arg(long, value_name = "URL", value_parser = parse_rpc_url)]
    pub rpc_url: Option<SecretUrl>,

    /// Number of the chain; a node that serves another is refused
    #[arg(long, value_name = "N")]
    pub chain_id: Option<ChainId>,
}

/// Which payout contract, and what of it is settled.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Chain")]
pub struct ContractArgs {
    /// Which chain.
    #[command(flatten)]
    pub chain: ChainArgs,

    /// Address of the payout contract, as far-mesh payments deploy printed it
    #[arg(long, value_name = "0x...", value_parser = parse_money::<WalletAddress>)]
    pub payout_contract: Option<WalletAddress>,

    /// What counts as settled: finalized, or a number of blocks above it [default: finalized]
    #[arg(long, value_name = "finalized|N")]
    pub confirmations: Option<Confirmations>,

    /// Block in which the payout contract was deployed: nothing before it is looked at [default: 0, slow on a long chain]
    #[arg(long, value_name = "N")]
    pub deployment_block: Option<BlockNumber>,
}

/// Whose key.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Key")]
pub struct KeyArgs {
    /// Encrypted file of the payer's key (Web3 secret storage, version 3, as geth and foundry write it)
    #[arg(long, value_name = "FILE")]
    pub keystore: Option<PathBuf>,

    /// File whose first line is the password of the keystore [default: the variable FAR_MESH_KEYSTORE_PASSWORD, else it is
    /// asked for on the terminal]
    #[arg(long, value_name = "FILE")]
    pub keystore_password_file: Option<PathBuf>,
}

/// For what fees.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Fees")]
pub struct FeeArgs {
    /// Most that a transaction pays per gas; where the chain asks for more, it waits [default: 200]
    #[arg(long, value_name = "GWEI")]
    pub max_fee_gwei: Option<Gwei>,

    /// Most of it that goes to the proposer of the block [default: 10]
    #[arg(long, value_name = "GWEI")]
    pub max_tip_gwei: Option<Gwei>,
}

/// Whom to pay.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Payout")]
pub struct RuleArgs {
    /// Least that a wallet is paid; less carries over to the next week [default: 1]
    #[arg(long, value_name = "FAR", value_parser = parse_money::<Amount>)]
    pub minimum: Option<Amount>,

    /// Wallets paid by one transaction, at most 500 [default: 400]
    #[arg(long, value_name = "N")]
    pub batch_items: Option<BatchItems>,

    /// Weeks between two payouts, which are closed on a Monday, 00:00 UTC [default: 1]
    #[arg(long, value_name = "N")]
    pub weeks: Option<Weeks>,
}

/// Everything that paying takes.
#[derive(Clone, Debug, Default, Args)]
pub struct PayArgs {
    /// Where.
    #[command(flatten)]
    pub contract: ContractArgs,
    /// With whose key.
    #[command(flatten)]
    pub key: KeyArgs,
    /// For what fees.
    #[command(flatten)]
    pub fees: FeeArgs,
    /// Whom.
    #[command(flatten)]
    pub rules: RuleArgs,

    /// Seconds between two looks at the chain [default: 12, a block of Ethereum]
    #[arg(long, value_name = "N", help_heading = "Chain")]
    pub poll_seconds: Option<PollSeconds>,
}

impl ChainArgs {
    pub(super) fn set(&self, flags: &mut PaymentFlags) {
        flags.rpc_url = self.rpc_url.clone();
        flags.chain_id = self.chain_id;
    }
}

impl ContractArgs {
    /// What these flags set.
    pub fn flags(&self) -> Flags {
        let mut flags = PaymentFlags::default();
        self.set(&mut flags);
        Flags { payments: flags, ..Flags::default() }
    }

    fn set(&self, flags: &mut PaymentFlags) {
        self.chain.set(flags);
        flags.payout_contract = self.payout_contract;
        flags.confirmations = self.confirmations;
        flags.deployment_block = self.deployment_block;
    }
}

impl KeyArgs {
    pub(super) fn set(&self, flags: &mut PaymentFlags) {
        flags.keystore = self.keystore.clone();
        flags.keystore_password_file = self.keystore_password_file.clone();
    }
}

impl FeeArgs {
    pub(super) fn set(&self, flags: &mut PaymentFlags) {
        flags.max_fee = self.max_fee_gwei;
        flags.max_tip = self.max_tip_gwei;
    }
}

impl PayArgs {
    /// What these flags set.
    pub fn flags(&self) -> Flags {
        let mut flags = PaymentFlags::default();
        self.contract.set(&mut flags);
        self.key.set(&mut flags);
        self.fees.set(&mut flags);
        flags.payout_minimum = self.rules.minimum;
        flags.payout_batch_items = self.rules.batch_items;
        flags.payout_weeks = self.rules.weeks;
        flags.poll = self.poll_seconds;
        Flags { payments: flags, ..Flags::default() }
    }
}
