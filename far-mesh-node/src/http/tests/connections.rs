//! Clients that are slow, many, or gone; and the end of the server.

use std::{sync::Arc, time::Duration};

use far_ledger::{Status, Store};
use far_mesh_client::schema::{Event, GenerateRequest};
use futures::{StreamExt, future::join_all};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use super::{
    Rig,
    mock::{MockEngine, Step},
    recorded, within,
};
use crate::http::{OpenAccess, Options};

const SOON: Duration = Duration::from_millis(200);

async fn rig_with(engine: MockEngine, options: Options) -> Rig {
    Rig::with(engine, options, Arc::new(OpenAccess)).await
}

/// Says one token and then nothing more.
fn hanging() -> MockEngine {
    MockEngine::new(vec![Step::Say("a"), Step::Wait(CancellationToken::new())])
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_its_session_and_pays_for_what_it_had() {
    let rig = Rig::new(hanging()).await;
    let response = rig.post("/inference/generate", &json!({ "prompt": "x" })).await;
    let session = response.headers()["x-far-session"].to_str().unwrap().to_owned();
    let mut events = response.bytes_stream();
    assert!(within(events.next()).await.unwrap().is_ok());
    assert_eq!(*rig.engine.open.borrow(), 1);
    drop(events);
    rig.engine.all_closed().await;
    let ended = rig.end().await;
    let (session, rows) = recorded(&ended.store, &session).await;
    assert_eq!((session.status, session.tokens_generated, rows.len()), (Status::Completed, 1, 3));
    assert_eq!(session.total_cost.to_string(), "0.0001");
}

#[tokio::test]
async fn a_client_that_hangs_up_before_its_answer_cancels_too() {
    for (path, body) in [
        ("/inference/generate", json!({ "prompt": "x", "stream": false })),
        ("/v1/completions", json!({ "prompt": "x", "n": 3 })),
    ] {
        let rig = Rig::new(hanging()).await;
        let body = body.to_string();
        let mut socket = TcpStream::connect(rig.address()).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        within(rig.engine.open.subscribe().wait_for(|open| *open > 0)).await.unwrap();
        drop(socket);
        rig.engine.all_closed().await;
        rig.end().await;
    }
}

#[tokio::test]
async fn a_session_without_a_token_is_recorded_as_failed_when_its_client_goes() {
    let options = Options { keep_alive: SOON, ..Options::default() };
    let rig = rig_with(MockEngine::new(vec![Step::Wait(CancellationToken::new())]), options).await;
    let response = rig.post("/inference/generate", &json!({ "prompt": "x" })).await;
    let session = response.headers()["x-far-session"].to_str().unwrap().to_owned();
    let mut events = response.bytes_stream();
    let first = within(events.next()).await.unwrap().unwrap();
    assert_eq!(&first[..], b": keep-alive\n\n", "a slow prompt shows life");
    drop(events);
    let ended = rig.end().await;
    let (session, rows) = recorded(&ended.store, &session).await;
    assert_eq!((session.status, rows.len(), session.total_cost.nano()), (Status::Failed, 0, 0));
}

#[tokio::test]
async fn clients_that_send_slowly_are_not_waited_for() {
    let options = Options { header_timeout: SOON, body_timeout: SOON, ..Options::default() };
    let rig = rig_with(MockEngine::saying(&["a"]), options).await;
    let mut head = TcpStream::connect(rig.address()).await.unwrap();
    head.write_all(b"POST /inference/generate HTTP/1.1\r\nhost:").await.unwrap();
    let mut answer = Vec::new();
    within(head.read_to_end(&mut answer)).await.unwrap();
    let mut idle = TcpStream::connect(rig.address()).await.unwrap();
    within(idle.read_to_end(&mut Vec::new())).await.unwrap();
    let mut body = TcpStream::connect(rig.address()).await.unwrap();
    let part =
        "POST /inference/generate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{";
    body.write_all(part.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within(body.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_timeout"), "{answer}");
    rig.end().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_hung_up_on() {
    const WORD: &str =
        "a word that is long enough to fill the buffers of a socket before the end of the story is told ";
    let options = Options { write_timeout: SOON, ..Options::default() };
    let mut steps = vec![Step::Say(WORD); 200_000];
    steps.push(Step::Wait(CancellationToken::new()));
    let rig = rig_with(MockEngine::new(steps), options).await;
    let body = json!({ "prompt": "x" }).to_string();
    let mut socket = TcpStream::connect(rig.address()).await.unwrap();
    let head = "POST /api/inference/chat HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    socket.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
    within(rig.engine.open.subscribe().wait_for(|open| *open > 0)).await.unwrap();
    rig.engine.all_closed().await;
    rig.end().await;
}

#[tokio::test]
async fn a_connection_too_many_is_told_so() {
    let options = Options { max_connections: 1, ..Options::default() };
    let rig = rig_with(hanging(), options).await;
    let first = rig.post("/inference/generate", &json!({ "prompt": "x" })).await;
    let mut second = TcpStream::connect(rig.address()).await.unwrap();
    let mut answer = String::new();
    within(second.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains(&format!("content-length: {}", body.len())), "{answer}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["error"]["code"], "too_many_connections");
    drop(first);
    rig.end().await;
}

#[tokio::test]
async fn fifty_clients_at_once_get_their_own_answers() {
    let rig = Rig::new(MockEngine::saying(&["a", "b", "c", "d", "e"])).await;
    let ask = |index: u32| {
        let client = rig.client.clone();
        async move {
            let tokens = index % 5 + 1;
            let mut events = client.generate(&GenerateRequest::text("x").max_tokens(tokens)).await.unwrap();
            let (mut text, mut end) = (String::new(), None);
            while let Some(event) = events.next().await {
                match event.unwrap() {
                    Event::Token(token) => text.push_str(&token.token),
                    Event::Done(done) => end = Some(done),
                }
            }
            let done = end.unwrap();
            assert_eq!((text.len(), done.usage.completion_tokens), (tokens as usize, tokens));
            done.session_id
        }
    };
    let mut sessions = within(join_all((0..50).map(ask))).await;
    sessions.sort();
    sessions.dedup();
    assert_eq!(sessions.len(), 50);
    let status = rig.client.status().await.unwrap();
    assert!(status.tokens_per_second > 0.0 && status.live_sessions == 0, "{status:?}");
    let nodes = rig.engine.models[0].nodes();
    let ended = rig.end().await;
    let mut earned = 0;
    for node in nodes {
        let earnings = ended.store.node_earnings(&node.to_string()).await.unwrap().unwrap();
        assert_eq!(earnings.sessions, 50);
        earned += earnings.earned.nano();
    }
    assert_eq!(earned, 150 * 100_000, "150 tokens at 0.0001 FAR");
}

#[tokio::test]
async fn the_end_lets_live_streams_finish_and_takes_no_more() {
    let go = CancellationToken::new();
    let rig = Rig::new(MockEngine::new(vec![Step::Say("a"), Step::Wait(go.clone()), Step::Say("b")])).await;
    let response = rig.post("/inference/generate", &json!({ "prompt": "x" })).await;
    rig.shutdown.cancel();
    let refused = async {
        while TcpStream::connect(rig.address()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within(refused).await;
    go.cancel();
    assert!(within(response.text()).await.unwrap().ends_with("data: [DONE]\n\n"));
    rig.end().await;
}

#[tokio::test]
async fn streams_that_do_not_finish_in_time_are_told_and_recorded() {
    let options = Options { drain: SOON, ..Options::default() };
    let rig = rig_with(hanging(), options).await;
    let response = rig.post("/inference/generate", &json!({ "prompt": "x" })).await;
    let session = response.headers()["x-far-session"].to_str().unwrap().to_owned();
    rig.shutdown.cancel();
    let text = within(response.text()).await.unwrap();
    assert!(text.contains("shutting_down"), "{text}");
    let ended = rig.end().await;
    assert_eq!(recorded(&ended.store, &session).await.0.tokens_generated, 1);
}
