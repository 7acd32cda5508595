//! Clients that go away.

use far_mesh_client::schema::{Event, GenerateRequest, SessionState};
use far_mesh_tests::Testnet;
use futures::StreamExt;
use serde_json::Value;

use super::{
    process::until,
    text::{PRICE_NANO, PROMPT, nano},
};

/// More than are generated in the time that a hang-up takes to be noticed.
const MANY: u32 = 4000;

async fn state(http: &str) -> Value {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.get(format!("{http}/health")).send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn a_stream_that_is_left_ends_on_every_hop_and_costs_what_was_heard() {
    let net = Testnet::start(3).await;
    let client = net.client();
    let providers: Vec<String> = net.mesh.providers().iter().map(|part| part.ready.http.clone().unwrap()).collect();
    let mut before = Vec::new();
    for http in &providers {
        before.push(state(http).await["free_tokens"].clone());
    }

    let request = GenerateRequest::chat([far_mesh_client::schema::Message::user(PROMPT)]).max_tokens(MANY).seed(1);
    let mut events = client.chat(&request).await.unwrap();
    for index in 0..3 {
        let Some(Ok(Event::Token(token))) = events.next().await else { panic!("tokens come") };
        assert_eq!(token.index, index);
    }
    assert_eq!(client.status().await.unwrap().live_sessions, 1);
    for http in &providers {
        assert_eq!(state(http).await["sessions"], 1);
    }
    drop(events);

    until("the session ends", async || (client.status().await.unwrap().live_sessions == 0).then_some(())).await;
    for (http, free) in providers.iter().zip(&before) {
        until("the hop has its room again", async || {
            let state = state(http).await;
            (state["sessions"] == 0 && state["free_tokens"] == *free).then_some(())
        })
        .await;
    }
    net.stop().await;
}

#[tokio::test]
async fn what_a_client_heard_before_it_left_is_in_its_account() {
    let net = Testnet::start(2).await;
    let client = net.client();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = serde_json::json!({ "prompt": PROMPT, "max_tokens": MANY, "seed": 2 });
    let mut answer = http.post(format!("{}/api/inference/chat", net.http())).json(&body).send().await.unwrap();
    let session = answer.headers()["x-far-session"].to_str().unwrap().to_owned();
    answer.chunk().await.unwrap().expect("a token");
    drop(answer);
    let account = until("the account is written", async || {
        let account = client.session(&session).await.unwrap();
        (account.status != SessionState::Running).then_some(account)
    })
    .await;
    assert_eq!(account.status, SessionState::Completed);
    assert!((1..u64::from(MANY)).contains(&account.completion_tokens), "{account:?}");
    let cost = nano(&account.cost_far);
    assert_eq!(cost, i64::try_from(account.completion_tokens).unwrap() * PRICE_NANO);
    assert_eq!(account.contributions.iter().map(|part| nano(&part.payment_far)).sum::<i64>(), cost);
    assert_eq!(account.contributions.len(), 2);
    net.stop().await;
}
