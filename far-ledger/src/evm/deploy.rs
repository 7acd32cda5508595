//! Puts the contracts on a chain.

use std::{
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use ethers_core::types::{Address, H256, U256};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::evm::{
    abi,
    chain::Chain,
    error::RpcError,
    fee::FeePolicy,
    signer::{SignError, Signer},
    transaction::Unsigned,
    types::{At, Call, Receipt},
};

/// Most bytes of an artifact; ours take 20 KB.
const MAX_ARTIFACT_BYTES: u64 = 4 << 20;

/// Time between two looks for a receipt.
const POLL: Duration = Duration::from_millis(500);

/// Room above the estimate: it is made for the block before.
const GAS_MARGIN: u64 = 50_000;

/// Bytecode of the contracts, as `npm run build` in `far-ledger/contracts` writes it.
#[derive(Clone, PartialEq, Eq)]
pub struct Artifacts {
    token: Vec<u8>,
    payout: Vec<u8>,
}

/// Why there is no bytecode.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactsError {
    /// A file is not there.
    #[error(
        "{} cannot be read: build the contracts with `npm ci --omit=optional && npm run build` in far-ledger/contracts, \
         or name the folder that holds them",
        .path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file is not an artifact.
    #[error("{} holds no bytecode: build the contracts again with `npm run build` in far-ledger/contracts", .path.display())]
    Form {
        /// The file.
        path: PathBuf,
    },
}

impl Artifacts {
    /// Reads `FarToken.json` and `FarPayout.json` in a folder.
    ///
    /// # Errors
    /// [`ArtifactsError`].
    pub fn read(folder: &Path) -> Result<Self, ArtifactsError> {
        Ok(Self { token: bytecode(&folder.join("FarToken.json"))?, payout: bytecode(&folder.join("FarPayout.json"))? })
    }
}

impl std::fmt::Debug for Artifacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Artifacts({} and {} bytes)", self.token.len(), self.payout.len())
    }
}

fn bytecode(path: &Path) -> Result<Vec<u8>, ArtifactsError> {
    let missing = |source| ArtifactsError::Missing { path: path.to_owned(), source };
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(missing)?;
    file.take(MAX_ARTIFACT_BYTES).read_to_end(&mut text).map_err(missing)?;
    let json: Option<Value> = serde_json::from_slice(&text).ok();
    let code = json.as_ref().and_then(|json| json["bytecode"].as_str()?.strip_prefix("0x"));
    code.and_then(|code| hex::decode(code).ok())
        .filter(|code| !code.is_empty())
        .ok_or_else(|| ArtifactsError::Form { path: path.to_owned() })
}

/// What to deploy, and for whom.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Deployment {
    /// The chain that it is meant for.
    pub chain_id: u64,
    /// The token to pay in; `None` deploys FAR with the whole supply in the treasury.
    pub token: Option<Address>,
    /// Supply of a new token, in units of 10^-18.
    pub supply: U256,
    /// Whose allowance batches are paid from.
    pub treasury: Address,
    /// Who names payers and the treasury.
    pub admin: Address,
    /// Who may pay.
    pub payers: Vec<Address>,
    /// What the contract may take from the treasury; approved where the deployer is the treasury, else the treasury's owner
    /// does it.
    pub allowance: U256,
    /// What transactions may cost.
    pub fees: FeePolicy,
    /// How long each transaction may take to be mined.
    pub timeout: Duration,
}

impl Deployment {
    /// One account is everything: for tests and trials. Production gives each role a key of its own.
    pub fn for_one(chain_id: u64, owner: Address, supply: U256) -> Self {
        Self {
            chain_id,
            token: None,
            supply,
            treasury: owner,
            admin: owner,
            payers: vec![owner],
            allowance: supply,
            fees: FeePolicy::default(),
            timeout: Duration::from_secs(300),
        }
    }
}

/// A moment of a deployment, for who watches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A transaction was handed to the node.
    Sent {
        /// What it does.
        what: &'static str,
        /// Its hash.
        tx: H256,
    },
    /// It was mined.
    Mined {
        /// What it did.
        what: &'static str,
        /// The contract that it made.
        contract: Option<Address>,
        /// Its block.
        block: u64,
        /// What it took.
        gas: u64,
    },
}

/// What was deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// The token.
    pub token: Address,
    /// The payout contract.
    pub payout: Address,
    /// Block of the payout contract: nothing of it is older.
    pub block: u64,
    /// Whether the treasury approved the contract; else its owner has to.
    pub approved: bool,
}

/// Why a deployment ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeployError {
    /// The node serves another chain.
    #[error("the node serves chain {found}, the deployment is for chain {expected}: nothing was sent")]
    OtherChain {
        /// What the node said.
        found: u64,
        /// What was asked for.
        expected: u64,
    },
    /// A transaction reverted.
    #[error("deploying {what} reverted in transaction {tx:?}: look there why before deploying again")]
    Reverted {
        /// What was deployed.
        what: &'static str,
        /// The transaction.
        tx: H256,
    },
    /// A transaction was not mined in time.
    #[error("transaction {tx:?} ({what}) was not mined in time: look for it on the chain before deploying again")]
    Late {
        /// What was deployed.
        what: &'static str,
        /// The transaction.
        tx: H256,
    },
    /// The node failed.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The signer failed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// Deploys the contracts and, where the deployer is the treasury, approves the payout contract. Each step is told as it is
/// taken.
///
/// Not repeatable by itself: a second call makes other contracts. One that ended after the token goes on with
/// [`Deployment::token`] set to it.
///
/// # Errors
/// [`DeployError`].
pub async fn deploy(
    chain: &Chain,
    signer: &dyn Signer,
    artifacts: &Artifacts,
    deployment: &Deployment,
    step: &(dyn Fn(Step) + Send + Sync),
) -> Result<Deployed, DeployError> {
    let found = chain.id().await?;
    if found != deployment.chain_id {
        return Err(DeployError::OtherChain { found, expected: deployment.chain_id });
    }
    let send = Sender { chain, signer, deployment, step };
    let token = match deployment.token {
        Some(token) => token,
        None => {
            let arguments = abi::token::constructor(deployment.treasury, deployment.supply);
            made(&send.mined("the token", None, [&artifacts.token[..], &arguments].concat()).await?)?
        }
    };
    let Deployment { treasury, admin, payers, .. } = deployment;
    let arguments = abi::payout::constructor(token, *treasury, *admin, payers);
    let receipt = send.mined("the payout contract", None, [&artifacts.payout[..], &arguments].concat()).await?;
    let payout = made(&receipt)?;
    let approved = *treasury == signer.address() && !deployment.allowance.is_zero();
    if approved {
        send.mined("the allowance", Some(token), abi::token::approve(payout, deployment.allowance)).await?;
    }
    Ok(Deployed { token, payout, block: receipt.block_number, approved })
}

fn made(receipt: &Receipt) -> Result<Address, DeployError> {
    let none = || {
        RpcError::bad("eth_getTransactionReceipt", "no contract in the receipt of", format!("{:?}", receipt.tx_hash))
    };
    Ok(receipt.contract.ok_or_else(none)?)
}

struct Sender<'a> {
    chain: &'a Chain,
    signer: &'a dyn Signer,
    deployment: &'a Deployment,
    step: &'a (dyn Fn(Step) + Send + Sync),
}

impl Sender<'_> {
    async fn mined(&self, what: &'static str, to: Option<Address>, data: Vec<u8>) -> Result<Receipt, DeployError> {
        let from = Some(self.signer.address());
        let gas = self.chain.estimate_gas(&Call { from, to, data: data.clone() }).await?;
        let body = Unsigned {
            chain_id: self.deployment.chain_id,
            nonce: self.chain.nonce(self.signer.address(), At::Latest).await?,
            to,
            data,
            gas: gas.saturating_add(GAS_MARGIN),
            fees: self.deployment.fees.first(&self.chain.fees().await?),
        };
        let signed = body.sign(self.signer).await?;
        let tx = signed.hash();
        self.chain.send(signed.raw(), tx).await?;
        (self.step)(Step::Sent { what, tx });
        let deadline = Instant::now().checked_add(self.deployment.timeout);
        loop {
            match self.chain.receipt(tx).await? {
                Some(receipt) if receipt.succeeded => {
                    let Receipt { contract, block_number: block, gas_used: gas, .. } = receipt;
                    (self.step)(Step::Mined { what, contract, block, gas });
                    return Ok(receipt);
                }
                Some(_) => return Err(DeployError::Reverted { what, tx }),
                None if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                    return Err(DeployError::Late { what, tx });
                }
                None => sleep(POLL).await,
            }
        }
    }
}
