//! Whatever happens in whatever order, no nano-FAR appears or is lost.

use far_ledger::{NewSession, Node, Outcome, Store, cost::Price};
use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};

use super::{assert_balanced, at, nano, work};

#[derive(Clone, Debug)]
enum Act {
    Finalize { price: i64, tokens: u64, hops: Vec<(usize, u32, u64)> },
    Repeat,
    Other,
    Fail,
}

fn act() -> impl Strategy<Value = Act> {
    let price = prop_oneof![Just(0), 1..10_i64, 1..2_000_000_000_i64];
    let hops = vec((0..5_usize, 1..40_u32, 1..5000_u64), 1..6);
    prop_oneof![
        5 => (price, 0..3000_u64, hops).prop_map(|(price, tokens, hops)| Act::Finalize { price, tokens, hops }),
        1 => Just(Act::Repeat),
        1 => Just(Act::Other),
        1 => Just(Act::Fail),
    ]
}

fn settle(price: i64, tokens: u64, hops: &[(usize, u32, u64)]) -> Outcome {
    let mut start = 0;
    let hops: Vec<_> = hops
        .iter()
        .map(|(node, layers, tokens)| {
            let hop = work(&format!("n{node}"), (start, start + layers), *tokens);
            start += layers;
            hop
        })
        .collect();
    Outcome::settle(Price::new(nano(price)), tokens, &hops, at(9)).unwrap()
}

async fn play(acts: Vec<Act>) -> Result<(), TestCaseError> {
    let bed = super::super::fresh().await;
    let store = bed.open().await;
    for node in 0..5 {
        store.upsert_node(&Node::new(format!("n{node}"), at(1))).await.unwrap();
    }
    let mut expected = 0_i128;
    let mut last: Option<(String, Outcome)> = None;
    let mut ids = Vec::new();
    for (index, act) in acts.into_iter().enumerate() {
        let id = format!("s{index}");
        match act {
            Act::Finalize { price, tokens, hops } => {
                let outcome = settle(price, tokens, &hops);
                store.begin_session(&NewSession::new(&id, "model", at(1))).await.unwrap();
                store.finalize_session(&id, &outcome).await.unwrap();
                expected += i128::from(price) * i128::from(tokens);
                ids.push(id.clone());
                last = Some((id, outcome));
            }
            Act::Repeat => {
                if let Some((id, outcome)) = &last {
                    store.finalize_session(id, outcome).await.unwrap();
                }
            }
            Act::Other => {
                if let Some((id, outcome)) = &last {
                    let tokens = outcome.tokens_generated() + 1;
                    prop_assert!(store.finalize_session(id, &settle(3, tokens, &[(0, 1, 1)])).await.is_err());
                    prop_assert!(store.fail_session(id, "late", at(9)).await.is_err());
                }
            }
            Act::Fail => {
                store.begin_session(&NewSession::new(&id, "model", at(1))).await.unwrap();
                store.fail_session(&id, "lost", at(9)).await.unwrap();
                ids.push(id);
            }
        }
    }
    prop_assert_eq!(i128::from(assert_balanced(&store, &ids).await.nano()), expected);
    store.close().await;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn all_that_was_paid_was_earned(acts in vec(act(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(acts))?;
    }
}
