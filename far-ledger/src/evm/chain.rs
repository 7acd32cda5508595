//! Typed calls to a chain.

use std::{sync::Arc, time::Duration};

use ethers_core::types::{Address, H256, U256};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::evm::{
    error::RpcError,
    parse::Answer,
    transport::Transport,
    types::{At, Block, Call, FeeHistory, Log, LogFilter, Receipt},
};

/// Blocks whose fees are looked at: a minute or two, so that one odd block does not set the tip.
const FEE_BLOCKS: u64 = 8;

/// How often a request is made whose answer does not come. All of them may be repeated: a transaction that a node has is not
/// taken twice.
const TRIES: u32 = 3;

/// Wait before the second try; the third comes after four times that.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// A chain behind a node. Cloning shares the connection.
#[derive(Clone, Debug)]
pub struct Chain {
    transport: Arc<dyn Transport>,
}

impl Chain {
    /// The chain that `transport` leads to.
    pub fn new(transport: impl Transport + 'static) -> Self {
        Self { transport: Arc::new(transport) }
    }

    async fn ask(&self, method: &'static str, params: Value) -> Result<Value, RpcError> {
        let mut wait = FIRST_WAIT;
        for _ in 1..TRIES {
            match self.transport.request(method, params.clone()).await {
                Err(error) if error.may_pass() => sleep(wait).await,
                done => return done,
            }
            wait = wait.saturating_mul(4);
        }
        self.transport.request(method, params).await
    }

    /// The chain's id.
    ///
    /// # Errors
    /// [`RpcError`], as every call here.
    pub async fn id(&self) -> Result<u64, RpcError> {
        const METHOD: &str = "eth_chainId";
        let answer = self.ask(METHOD, json!([])).await?;
        Answer::new(METHOD, &answer).quantity("chain id")
    }

    /// Number of the newest block.
    pub async fn block_number(&self) -> Result<u64, RpcError> {
        const METHOD: &str = "eth_blockNumber";
        let answer = self.ask(METHOD, json!([])).await?;
        Answer::new(METHOD, &answer).quantity("block number")
    }

    /// A block; [`RpcError::NoBlock`] where there is none.
    pub async fn block(&self, at: At) -> Result<Block, RpcError> {
        let (method, params) = match at {
            At::Hash(hash) => ("eth_getBlockByHash", json!([hex_of(hash), false])),
            at => ("eth_getBlockByNumber", json!([at.json(), false])),
        };
        let value = self.ask(method, params).await?;
        let answer = Answer::new(method, &value);
        if answer.is_null() {
            return Err(RpcError::NoBlock { block: at.json().to_string() });
        }
        let block = Block {
            number: answer.member("number").quantity("number")?,
            hash: answer.member("hash").hash("hash")?,
            timestamp: answer.member("timestamp").quantity("timestamp")?,
        };
        match at {
            At::Number(number) if number != block.number => {
                Err(answer.member("number").bad("the number of another block,"))
            }
            At::Hash(hash) if hash != block.hash => Err(answer.member("hash").bad("the hash of another block,")),
            _ => Ok(block),
        }
    }

    /// How many transactions of `sender` are mined, which is its next nonce.
    pub async fn nonce(&self, sender: Address, at: At) -> Result<u64, RpcError> {
        const METHOD: &str = "eth_getTransactionCount";
        let answer = self.ask(METHOD, json!([hex_of(sender), at.json()])).await?;
        Answer::new(METHOD, &answer).quantity("transaction count")
    }

    /// What an account holds of the chain's own coin, in units of 10^-18.
    pub async fn balance(&self, account: Address, at: At) -> Result<U256, RpcError> {
        const METHOD: &str = "eth_getBalance";
        let answer = self.ask(METHOD, json!([hex_of(account), at.json()])).await?;
        Answer::new(METHOD, &answer).wide("balance").map(U256::from)
    }

    /// What became of a transaction; `None` while it is not mined.
    pub async fn receipt(&self, hash: H256) -> Result<Option<Receipt>, RpcError> {
        const METHOD: &str = "eth_getTransactionReceipt";
        let value = self.ask(METHOD, json!([hex_of(hash)])).await?;
        let answer = Answer::new(METHOD, &value);
        if answer.is_null() {
            return Ok(None);
        }
        let status = answer.member("status");
        let contract = answer.member("contractAddress");
        let receipt = Receipt {
            tx_hash: answer.member("transactionHash").hash("transaction hash")?,
            block_number: answer.member("blockNumber").quantity("block number")?,
            block_hash: answer.member("blockHash").hash("block hash")?,
            succeeded: match status.quantity("status")? {
                0 => false,
                1 => true,
                _ => return Err(status.bad("status")),
            },
            gas_used: answer.member("gasUsed").quantity("gas used")?,
            contract: if contract.is_null() { None } else { Some(contract.address("contract address")?) },
            logs: answer.member("logs").items("logs")?.map(Answer::log).collect::<Result<_, _>>()?,
        };
        if receipt.tx_hash != hash {
            return Err(answer.member("transactionHash").bad("the receipt of another transaction,"));
        }
        Ok(Some(receipt))
    }

    /// What blocks cost lately.
    pub async fn fees(&self) -> Result<FeeHistory, RpcError> {
        const METHOD: &str = "eth_feeHistory";
        let params = json!([quantity(FEE_BLOCKS), "latest", [50]]);
        let value = self.ask(METHOD, params).await?;
        let answer = Answer::new(METHOD, &value);
        let bases = answer.member("baseFeePerGas");
        let next = bases.items("baseFeePerGas")?.last().ok_or_else(|| bases.bad("baseFeePerGas"))?;
        let rewards = answer.member("reward");
        let mut tips = Vec::new();
        if !rewards.is_null() {
            for block in rewards.items("reward")? {
                let median = block.items("reward")?.next().ok_or_else(|| block.bad("reward"))?;
                tips.push(median.wide("reward")?);
            }
        }
        Ok(FeeHistory { next_base_fee: next.wide("baseFeePerGas")?, tips })
    }

    /// Gas that a call takes now. A call that would revert is [`RpcError::Refused`].
    pub async fn estimate_gas(&self, call: &Call) -> Result<u64, RpcError> {
        const METHOD: &str = "eth_estimateGas";
        let answer = self.ask(METHOD, json!([call.json()])).await?;
        Answer::new(METHOD, &answer).quantity("gas")
    }

    /// Hands a signed transaction to the node. `hash` is the transaction's: a node that answers with another one lies.
    pub async fn send(&self, raw: &[u8], hash: H256) -> Result<(), RpcError> {
        const METHOD: &str = "eth_sendRawTransaction";
        let value = self.ask(METHOD, json!([hex_of(raw)])).await?;
        let answer = Answer::new(METHOD, &value);
        if answer.hash("transaction hash")? != hash {
            return Err(answer.bad("the hash of another transaction,"));
        }
        Ok(())
    }

    /// What a call returns, without a transaction.
    pub async fn call(&self, call: &Call, at: At) -> Result<Vec<u8>, RpcError> {
        const METHOD: &str = "eth_call";
        let answer = self.ask(METHOD, json!([call.json(), at.json()])).await?;
        Answer::new(METHOD, &answer).bytes("return data")
    }

    /// Events of a contract. Nodes bound the range of blocks: ask for a few thousand at a time.
    pub async fn logs(&self, filter: &LogFilter) -> Result<Vec<Log>, RpcError> {
        const METHOD: &str = "eth_getLogs";
        let topics: Vec<Value> =
            filter.topics.iter().map(|topic| topic.map_or(Value::Null, |t| hex_of(t).into())).collect();
        let params = json!([{
            "address": hex_of(filter.address),
            "fromBlock": quantity(filter.from),
            "toBlock": quantity(filter.to),
            "topics": topics,
        }]);
        let value = self.ask(METHOD, params).await?;
        let answer = Answer::new(METHOD, &value);
        let logs: Vec<Log> = answer.items("logs")?.map(Answer::log).collect::<Result<_, _>>()?;
        for log in &logs {
            let in_range = (filter.from..=filter.to).contains(&log.block_number);
            let as_asked = filter
                .topics
                .iter()
                .enumerate()
                .all(|(place, wanted)| wanted.is_none_or(|wanted| log.topics.get(place) == Some(&wanted)));
            if log.address != filter.address || !in_range || !as_asked {
                return Err(RpcError::bad(METHOD, "an event that was not asked for, in", hex_of(log.tx_hash)));
            }
        }
        Ok(logs)
    }
}

impl At {
    fn json(self) -> Value {
        match self {
            Self::Latest => "latest".into(),
            Self::Finalized => "finalized".into(),
            Self::Number(number) => quantity(number).into(),
            Self::Hash(hash) => json!({ "blockHash": hex_of(hash), "requireCanonical": true }),
        }
    }
}

impl Call {
    fn json(&self) -> Value {
        let mut call = json!({ "data": hex_of(&self.data) });
        if let Some(from) = self.from {
            call["from"] = hex_of(from).into();
        }
        if let Some(to) = self.to {
            call["to"] = hex_of(to).into();
        }
        call
    }
}

fn quantity(number: u64) -> String {
    format!("{number:#x}")
}

fn hex_of(bytes: impl AsRef<[u8]>) -> String {
    format!("0x{}", hex::encode(bytes))
}
