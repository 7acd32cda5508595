//! How deep in the chain something must be to be taken as settled.

use crate::evm::{
    chain::Chain,
    error::RpcError,
    types::{At, Block},
};

/// What counts as settled for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// That many blocks above it. No reorganisation may be deeper.
    Blocks(u64),
    /// What the chain's consensus calls final.
    Finalized,
}

/// The newest block and one that is deep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocks {
    pub(crate) latest: Block,
    pub(crate) deep: Block,
}

impl Chain {
    pub(crate) async fn blocks(&self, depth: Depth) -> Result<Blocks, RpcError> {
        let latest = self.block(At::Latest).await?;
        let deep = match depth {
            Depth::Finalized => self.block(At::Finalized).await?,
            Depth::Blocks(depth) => self.block(At::Number(latest.number.saturating_sub(depth))).await?,
        };
        if deep.number > latest.number {
            return Err(RpcError::NoBlock { block: deep.number.to_string() });
        }
        Ok(Blocks { latest, deep })
    }
}
