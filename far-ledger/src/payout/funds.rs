//! What a payout contract pays from: the treasury's tokens, as far as it approved the contract.

use ethers_core::types::{Address, U256};

use crate::{
    evm::{At, Call, Chain, RpcError, payout as calls, token as erc20},
    payout::{error::PayError, item::PayoutContract, view},
};

/// What a contract can pay from at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Funds {
    /// What it pays in.
    pub token: Address,
    /// Whose tokens it pays.
    pub treasury: Address,
    /// What the treasury holds, in the token's units.
    pub held: U256,
    /// What the contract may take from it.
    pub allowance: U256,
}

impl Funds {
    /// Asks the chain.
    ///
    /// # Errors
    /// [`PayError::OtherChain`] and [`PayError::NoContract`] where it is not what payouts are set up for; [`PayError::Rpc`].
    pub async fn read(chain: &Chain, contract: &PayoutContract) -> Result<Self, PayError> {
        view::check_chain(chain, contract).await?;
        let token = view::token(chain, contract).await?;
        let treasury = calls::address(&ask(chain, contract.address, calls::treasury()).await?);
        let treasury = treasury.ok_or_else(|| view::no_contract(contract))?;
        let number = |answer: &[u8]| calls::amount(answer).unwrap_or_default();
        Ok(Self {
            token,
            treasury,
            held: number(&ask(chain, token, erc20::balance_of(treasury)).await?),
            allowance: number(&ask(chain, token, erc20::allowance(treasury, contract.address)).await?),
        })
    }

    /// The most that can be paid.
    pub fn payable(&self) -> U256 {
        self.held.min(self.allowance)
    }
}

impl PayoutContract {
    /// Whether an account may pay batches.
    ///
    /// # Errors
    /// [`PayError::Rpc`].
    pub async fn is_payer(&self, chain: &Chain, account: Address) -> Result<bool, PayError> {
        let answer = ask(chain, self.address, calls::is_payer(account)).await?;
        Ok(calls::truth(&answer).unwrap_or_default())
    }
}

async fn ask(chain: &Chain, to: Address, data: Vec<u8>) -> Result<Vec<u8>, RpcError> {
    chain.call(&Call { from: None, to: Some(to), data }, At::Latest).await
}
