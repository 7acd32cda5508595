//! Events of many blocks, in windows that the node takes.

use crate::evm::{
    chain::Chain,
    error::RpcError,
    types::{Log, LogFilter},
};

/// Blocks asked for at first: nodes that others run allow a few thousand.
const BLOCKS: u64 = 2_000;

/// Answers in a row after which more is asked for again: what was refused may have been too many events, not blocks.
const WIDEN_AFTER: u32 = 8;

/// How many blocks a node is asked for at a time: fewer, once it refused, or its answer was too long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    blocks: u64,
    answers: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self { blocks: BLOCKS, answers: 0 }
    }
}

impl Window {
    /// Events of the first blocks of the filter's range, and the last block of them.
    pub(crate) async fn first(&mut self, chain: &Chain, filter: &LogFilter) -> Result<(Vec<Log>, u64), RpcError> {
        let to = |blocks: u64| filter.from.saturating_add(blocks.saturating_sub(1)).min(filter.to);
        let (logs, (_, last)) = self.ask(chain, filter, |blocks| (filter.from, to(blocks))).await?;
        Ok((logs, last))
    }

    /// Events of the last blocks of the filter's range, and the first block of them.
    pub(crate) async fn last(&mut self, chain: &Chain, filter: &LogFilter) -> Result<(Vec<Log>, u64), RpcError> {
        let from = |blocks: u64| filter.to.saturating_sub(blocks.saturating_sub(1)).max(filter.from);
        let (logs, (first, _)) = self.ask(chain, filter, |blocks| (from(blocks), filter.to)).await?;
        Ok((logs, first))
    }

    /// Asks for a part of the range, and for less of it where that is too much; what came, and of which part.
    async fn ask(
        &mut self,
        chain: &Chain,
        filter: &LogFilter,
        part: impl Fn(u64) -> (u64, u64),
    ) -> Result<(Vec<Log>, (u64, u64)), RpcError> {
        loop {
            let (from, to) = part(self.blocks);
            match chain.logs(&LogFilter { from, to, ..filter.clone() }).await {
                Err(error) if error.may_be_too_wide() && from < to => {
                    let asked = to.saturating_sub(from).saturating_add(1);
                    (self.blocks, self.answers) = ((asked / 4).max(1), 0);
                }
                done => {
                    let logs = done?;
                    self.answers = self.answers.saturating_add(1);
                    if self.answers >= WIDEN_AFTER && self.blocks < BLOCKS {
                        (self.blocks, self.answers) = (self.blocks.saturating_mul(2).min(BLOCKS), 0);
                    }
                    return Ok((logs, (from, to)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ethers_core::types::{Address, H256};
    use futures::future::{BoxFuture, FutureExt};
    use serde_json::{Value, json};

    use super::*;
    use crate::evm::Transport;

    /// A node with an event in every hundredth block that takes no more than `most` blocks at a time.
    #[derive(Debug)]
    struct Narrow {
        most: u64,
    }

    impl Transport for Narrow {
        fn request(&self, method: &'static str, params: Value) -> BoxFuture<'_, Result<Value, RpcError>> {
            let number = |name: &str| u64::from_str_radix(&params[0][name].as_str().unwrap()[2..], 16).unwrap();
            let (from, to) = (number("fromBlock"), number("toBlock"));
            async move {
                if to - from + 1 > self.most {
                    let message = "query exceeds max block range".to_owned();
                    return Err(RpcError::Refused { method, code: -32602, message, data: None });
                }
                let hash = |number: u64| format!("{:#x}", H256::from_low_u64_be(number + 1));
                let log = |block: u64| {
                    json!({
                        "address": format!("{:#x}", Address::zero()), "topics": [], "data": "0x", "logIndex": "0x0",
                        "blockNumber": format!("{block:#x}"), "blockHash": hash(block), "transactionHash": hash(block),
                    })
                };
                Ok((from..=to).filter(|block| block % 100 == 0).map(log).collect())
            }
            .boxed()
        }
    }

    fn filter(from: u64, to: u64) -> LogFilter {
        LogFilter { address: Address::zero(), from, to, topics: Vec::new() }
    }

    #[tokio::test]
    async fn every_block_is_asked_for_once_whatever_the_node_takes() {
        for most in [1, 7, 500, 2_000, 1_000_000] {
            let chain = Chain::new(Narrow { most });
            let (mut window, mut from, mut forwards) = (Window::default(), 0, Vec::new());
            while from <= 4_321 {
                let (logs, last) = window.first(&chain, &filter(from, 4_321)).await.unwrap();
                forwards.extend(logs.iter().map(|log| log.block_number));
                from = last + 1;
            }
            assert_eq!(forwards, (0..=43).map(|block| block * 100).collect::<Vec<u64>>(), "{most}");
            let (mut window, mut to, mut backwards) = (Window::default(), 4_321, Vec::new());
            loop {
                let (logs, first) = window.last(&chain, &filter(50, to)).await.unwrap();
                backwards.extend(logs.iter().rev().map(|log| log.block_number));
                if first == 50 {
                    break;
                }
                to = first - 1;
            }
            assert_eq!(backwards, (1..=43).rev().map(|block| block * 100).collect::<Vec<u64>>(), "{most}");
        }
    }

    #[tokio::test]
    async fn what_was_too_much_once_is_tried_again_later() {
        let (chain, narrow) = (Chain::new(Narrow { most: BLOCKS }), Chain::new(Narrow { most: 600 }));
        let mut window = Window::default();
        let (_, last) = window.first(&narrow, &filter(0, 100_000)).await.unwrap();
        assert_eq!(last, 499);
        for _ in 1..WIDEN_AFTER {
            assert_eq!(window.first(&chain, &filter(0, 100_000)).await.unwrap().1, 499);
        }
        assert_eq!(window.first(&chain, &filter(0, 100_000)).await.unwrap().1, 999);
        for _ in 0..2 * WIDEN_AFTER {
            window.first(&chain, &filter(0, 100_000)).await.unwrap();
        }
        assert_eq!(window.first(&chain, &filter(0, 100_000)).await.unwrap().1, BLOCKS - 1);
    }

    #[tokio::test]
    async fn who_is_asked_too_often_is_not_asked_more_often() {
        #[derive(Debug, Default)]
        struct Busy(std::sync::atomic::AtomicU32);
        impl Transport for Busy {
            fn request(&self, method: &'static str, _: Value) -> BoxFuture<'_, Result<Value, RpcError>> {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let message = "Your app has exceeded its compute units per second capacity".to_owned();
                async move { Err(RpcError::Refused { method, code: -32005, message, data: None }) }.boxed()
            }
        }
        let busy = std::sync::Arc::new(Busy::default());
        #[derive(Debug)]
        struct Shared(std::sync::Arc<Busy>);
        impl Transport for Shared {
            fn request(&self, method: &'static str, params: Value) -> BoxFuture<'_, Result<Value, RpcError>> {
                self.0.request(method, params)
            }
        }
        let refused = Window::default().first(&Chain::new(Shared(busy.clone())), &filter(0, 9_999)).await;
        assert!(matches!(refused, Err(RpcError::Refused { code: -32005, .. })));
        assert_eq!(
            busy.0.load(std::sync::atomic::Ordering::Relaxed),
            3,
            "tried again with pauses, for the same blocks"
        );
    }

    #[tokio::test]
    async fn a_node_that_takes_nothing_is_an_error() {
        let chain = Chain::new(Narrow { most: 0 });
        assert!(matches!(Window::default().first(&chain, &filter(3, 9)).await, Err(RpcError::Refused { .. })));
    }
}
