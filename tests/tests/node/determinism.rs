//! The same request gives the same answer, alone or in a crowd, however the model is cut.

use far_mesh_client::{Client, schema::GenerateRequest};
use far_mesh_tests::Testnet;
use futures::future::join_all;

use super::text::{ANSWER, PRICE_NANO, PROMPT, nano};

const TOKENS: u32 = 24;

async fn say(client: &Client, temperature: f64, seed: i64) -> String {
    let request = GenerateRequest::text(PROMPT).max_tokens(TOKENS).temperature(temperature).seed(seed);
    let answer = client.chat_whole(&request).await.unwrap();
    let cost = nano(&answer.cost_far);
    assert_eq!(cost, i64::from(answer.usage.completion_tokens) * PRICE_NANO);
    assert_eq!(answer.contributions.iter().map(|part| nano(&part.payment_far)).sum::<i64>(), cost);
    answer.text
}

#[tokio::test]
async fn twenty_at_once_hear_what_each_would_hear_alone() {
    let net = Testnet::start(3).await;
    let client = net.client();
    let mut alone = Vec::new();
    for seed in 0..4 {
        alone.push(say(&client, 1.0, seed).await);
    }
    assert!(alone.iter().any(|text| *text != alone[0]), "seeds tell: {alone:?}");
    let crowd = join_all((0..20).map(|at| say(&client, 1.0, at % 4))).await;
    for (at, text) in crowd.iter().enumerate() {
        assert_eq!(*text, alone[at % 4], "seed {}", at % 4);
    }
    let greedy = join_all((0..3).map(|seed| say(&client, 0.0, seed))).await;
    assert!(greedy.iter().all(|text| ANSWER.starts_with(text.as_str()) && text.len() > 60), "{greedy:?}");
    net.stop().await;

    let whole = Testnet::start(1).await;
    assert_eq!(say(&whole.client(), 1.0, 3).await, alone[3], "the same bits from one node as from three");
    whole.stop().await;
}
