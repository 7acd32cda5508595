//! Why payments did not go as asked.

use std::{io, path::PathBuf};

use far_ledger::{
    WalletAddress,
    evm::{Address, ArtifactsError, DeployError, KeystoreError, RpcError},
    payout::PayError,
    store::{BackendError, ExportError, ReadError},
};

/// Why a command of `far-mesh payments` failed. Nothing is ever paid twice for it: run the command again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PaymentsError {
    /// A setting is missing.
    #[error(
        "{key} is not set ({meaning}): write it into far-mesh.toml under [payments], set {variable}, or pass {flag}"
    )]
    Unset {
        /// Its name.
        key: &'static str,
        /// What it means.
        meaning: &'static str,
        /// The variable.
        variable: &'static str,
        /// The flag.
        flag: &'static str,
    },
    /// Nobody can be asked for the password.
    #[error(
        "no password for the keystore {}: name a file with --keystore-password-file, set FAR_MESH_KEYSTORE_PASSWORD, or run this on a \
         terminal, where it is asked for",
        path.display()
    )]
    NoPassword {
        /// The keystore.
        path: PathBuf,
    },
    /// The terminal does not give it.
    #[error("cannot read the password from the terminal: name a file with --keystore-password-file")]
    Terminal(#[source] io::Error),
    /// The key cannot be had.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// The payout contract pays in another token.
    #[error("the payout contract pays in {found:?}, and token_contract is {set}: one of the two addresses is wrong")]
    OtherToken {
        /// What was set.
        set: WalletAddress,
        /// What the contract says.
        found: Address,
    },
    /// No token is there.
    #[error("there is no ERC-20 token at {token:?} on chain {chain_id}: check --token and --chain-id")]
    NoToken {
        /// The address.
        token: Address,
        /// The chain.
        chain_id: u64,
    },
    /// The token counts otherwise.
    #[error("the token {token:?} has {found} decimals, payouts count in 18: name another, or let FAR be deployed")]
    Decimals {
        /// The token.
        token: Address,
        /// Its decimals.
        found: String,
    },
    /// The contracts' bytecode is not there.
    #[error(transparent)]
    Artifacts(#[from] ArtifactsError),
    /// The contracts were not all deployed.
    #[error("the deployment ended early{}", token.map(|token| format!(": FAR is at {token:?}, go on with --token {token:?}")).unwrap_or_default())]
    Deploy {
        /// The token, where that one was deployed.
        token: Option<Address>,
        /// What went wrong.
        #[source]
        source: DeployError,
    },
    /// Payouts did not go on.
    #[error(transparent)]
    Pay(#[from] PayError),
    /// The node did not answer.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The database failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Nothing can be paid as things are.
    #[error("nothing can be paid now: {reason}. What is due stays due: run this again after that")]
    Blocked {
        /// What is in the way.
        reason: String,
    },
    /// Not all was settled in time.
    #[error(
        "what is due is not settled after {seconds} s: {}. Nothing is lost: run this again to go on, or with a longer --timeout",
        match open {
            0 => "the week is not over by the chain's newest block yet".to_owned(),
            open => format!("{open} batches were open at the last look"),
        }
    )]
    Late {
        /// How many batches.
        open: usize,
        /// How long it was waited.
        seconds: u32,
    },
    /// Batches are halted.
    #[error("{batches} batches are halted and stay unpaid: far-mesh payments status says why")]
    Halted {
        /// How many.
        batches: u64,
    },
    /// The audit found something.
    #[error("the audit found {count} differences: see above. Pay nothing more before they are understood")]
    Differences {
        /// How many.
        count: usize,
    },
    /// Earnings cannot be exported.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The node is not in the ledger.
    #[error("node {node} is not in the ledger: see how its coordinator names it in GET /models/MODEL/nodes")]
    UnknownNode {
        /// The node.
        node: String,
    },
}
