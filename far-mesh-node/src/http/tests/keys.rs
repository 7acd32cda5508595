//! Keys, balances and what is held of them, over a real ledger.

use std::sync::atomic::Ordering;

use far_ledger::{
    Amount, FeeRate, Party, Status, UnixMillis,
    store::{Kept, TopUp},
};
use far_mesh_client::{
    Client, Options as ClientOptions,
    schema::{AccountInfo, NodePayments},
};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Rig,
    mock::{self, MODEL, MockEngine, Step},
    recorded, within,
};
use crate::{
    http::{KeyAccess, Options},
    metering::Terms,
};

const GENERATE: &str = "/inference/generate";
const CHAT: &str = "/v1/chat/completions";

/// Price of a token.
const PRICE: i64 = 100_000;

/// A server that requires keys, or not.
async fn rig(engine: MockEngine, required: bool, terms: Terms) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let store = far_ledger::Ledger::open(dir.path().join("ledger.db")).await.unwrap();
    let access = std::sync::Arc::new(KeyAccess::new(store.clone(), required));
    Rig::over(dir, store, engine, Options::default(), access, terms).await
}

impl Rig {
    /// A key of an account with this balance.
    async fn key(&self, account: &str, nano: i64) -> String {
        let now = UnixMillis::now();
        self.store.create_account(account, now).await.unwrap();
        if nano > 0 {
            let (account, key) = (account.to_owned(), format!("first of {account}"));
            let amount = Amount::from_nano(nano).unwrap();
            self.store.top_up(&TopUp { account, amount, key, at: now }).await.unwrap();
        }
        self.store.create_key(account, "", now).await.unwrap().secret.expose().to_owned()
    }

    async fn send(&self, method: Method, path: &str, key: &str, body: Option<Value>) -> Response {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if !key.is_empty() {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        within(request.send()).await.unwrap()
    }

    async fn ask(&self, path: &str, key: &str, body: Value) -> (u16, Value) {
        let response = self.send(Method::POST, path, key, Some(body)).await;
        (response.status().as_u16(), within(response.json()).await.unwrap())
    }

    /// Balance and what is held of it.
    async fn stands(&self, account: &str) -> (i64, i64) {
        let account = self.store.account(account).await.unwrap().unwrap();
        (account.balance.nano(), account.reserved.nano())
    }

    async fn assert_sound(&self) {
        assert_eq!(self.store.audit().await.unwrap(), []);
    }
}

fn whole(max_tokens: u32) -> Value {
    json!({ "prompt": "x", "model": MODEL, "stream": false, "max_tokens": max_tokens })
}

#[tokio::test]
async fn a_request_is_charged_what_it_used_and_no_more() {
    let fee = FeeRate::new(1_000).unwrap();
    let rig = rig(MockEngine::saying(&["a", "b", "c"]), true, Terms { fee, ..Terms::default() }).await;
    let key = rig.key("alice", 50 * PRICE).await;
    let (status, answer) = rig.ask(GENERATE, &key, whole(40)).await;
    assert_eq!((status, &answer["cost_far"]), (200, &json!("0.0003")), "{answer}");
    assert_eq!(rig.stands("alice").await, (47 * PRICE, 0), "40 tokens were held, 3 are paid");
    let (session, rows) = recorded(&rig.store, answer["session_id"].as_str().unwrap()).await;
    let payer = session.begun.payer.unwrap();
    assert_eq!((payer.account.as_str(), payer.reserve.nano()), ("alice", 40 * PRICE));
    let paid: i64 = rows.iter().map(|row| row.contribution.payment.nano()).sum();
    assert_eq!((paid, session.fee.nano()), (270_000, 30_000));
    let of_node = |node: &str| format!("/nodes/{node}/payments");
    let mut unpaid = 0;
    for row in &rows {
        let answer = rig.send(Method::GET, &of_node(&row.contribution.node_id), "", None).await;
        assert_eq!(answer.status(), 200, "its owner has no key");
        let earned: NodePayments = within(answer.json()).await.unwrap();
        assert_eq!((earned.paid_far.as_str(), earned.payments.len()), ("0", 0));
        unpaid += earned.unpaid_far.parse::<Amount>().unwrap().nano();
    }
    assert_eq!(unpaid, paid);
    for nobody in ["nobody", "%00", &"a".repeat(5_000)] {
        assert_eq!(rig.send(Method::GET, &of_node(nobody), "", None).await.status(), 404, "{nobody}");
    }
    assert_eq!(rig.store.balance(&Party::Fees).await.unwrap(), Some(30_000));
    assert_eq!(rig.store.balance(&Party::Open).await.unwrap(), Some(0));
    assert_eq!(session.begun.prompt_text, None);
    rig.assert_sound().await;
    rig.end().await;
}

#[tokio::test]
async fn what_cannot_be_paid_is_402_before_anything_is_computed() {
    let rig = rig(MockEngine::saying(&["a"]), true, Terms::default()).await;
    let key = rig.key("alice", 10 * PRICE).await;
    let chat = |n: u32, most: u32| json!({ "messages": [{ "role": "user", "content": "x" }], "n": n, "max_completion_tokens": most });
    for (path, body, need) in [
        (GENERATE, whole(11), "0.0011"),
        (CHAT, chat(3, 4), "0.0012"),
        // Without a bound it is the model's context, 64, or 256.
        (GENERATE, json!({ "prompt": "x", "stream": true }), "0.0064"),
    ] {
        let (status, answer) = rig.ask(path, &key, body).await;
        let error = &answer["error"];
        assert_eq!((status, &error["code"]), (402, &json!("insufficient_balance")), "{error}");
        assert_eq!(error["type"], "insufficient_quota");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("0.001 FAR free") && message.contains(need), "{message}");
    }
    assert_eq!((rig.engine.started.load(Ordering::SeqCst), rig.stands("alice").await), (0, (10 * PRICE, 0)));
    // What does not fit the model is not a question of money.
    assert_eq!(rig.ask(GENERATE, &key, whole(64)).await.0, 413);
    let (status, answer) = rig.ask(CHAT, &key, chat(2, 5)).await;
    assert_eq!((status, &answer["usage"]["cost_far"]), (200, &json!("0.0002")), "{answer}");
    assert_eq!(rig.stands("alice").await, (8 * PRICE, 0));
    rig.assert_sound().await;
    rig.end().await;
}

#[tokio::test]
async fn who_has_no_valid_key_is_401() {
    let rig = rig(MockEngine::saying(&["a"]), true, Terms::default()).await;
    let key = rig.key("alice", 100 * PRICE).await;
    let other = format!("fl_{}", "0".repeat(64));
    for wrong in ["", "fl_test", "sk-12345", other.as_str()] {
        for (method, path) in [(Method::POST, GENERATE), (Method::GET, "/v1/models"), (Method::GET, "/account")] {
            let body = (method == Method::POST).then(|| whole(1));
            let response = rig.send(method, path, wrong, body).await;
            assert_eq!(response.status().as_u16(), 401, "{path} {wrong}");
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            let error = within(response.json::<Value>()).await.unwrap();
            assert_eq!(error["error"]["code"], "invalid_api_key");
        }
    }
    assert_eq!(rig.ask(GENERATE, &key, whole(1)).await.0, 200);
    let id = rig.store.keys(Some("alice")).await.unwrap()[0].id.clone();
    rig.store.revoke_key(&id, UnixMillis::now()).await.unwrap();
    assert_eq!(rig.ask(GENERATE, &key, whole(1)).await.0, 401, "at once");
    assert_eq!(rig.stands("alice").await, (99 * PRICE, 0));
    rig.end().await;
}

#[tokio::test]
async fn where_keys_are_not_required_one_is_charged_all_the_same() {
    let rig = rig(MockEngine::saying(&["a"]), false, Terms::default()).await;
    let key = rig.key("alice", PRICE).await;
    // What clients send that insist on sending something is no key of ours.
    for free in ["", "fl_test", "sk-12345"] {
        assert_eq!(rig.ask(GENERATE, free, whole(9)).await.0, 200, "{free}");
    }
    assert_eq!(rig.store.balance(&Party::Open).await.unwrap(), Some(-3 * PRICE));
    assert_eq!(rig.ask(GENERATE, &key, whole(2)).await.0, 402);
    assert_eq!(rig.ask(GENERATE, &key, whole(1)).await.0, 200);
    assert_eq!(rig.stands("alice").await, (0, 0));
    assert_eq!(rig.ask(GENERATE, &format!("fl_{}", "0".repeat(64)), whole(1)).await.0, 401);
    assert_eq!(rig.send(Method::GET, "/account", "", None).await.status().as_u16(), 401);
    rig.assert_sound().await;
    rig.end().await;
}

#[tokio::test]
async fn what_fails_gives_back_what_was_held() {
    for steps in [vec![Step::Fail(mock::lost())], vec![Step::Say("a"), Step::Fail(mock::lost())]] {
        let rig = rig(MockEngine::new(steps), true, Terms::default()).await;
        let key = rig.key("alice", 20 * PRICE).await;
        assert_eq!(rig.ask(GENERATE, &key, whole(20)).await.0, 503);
        assert_eq!(rig.stands("alice").await, (20 * PRICE, 0));
        rig.assert_sound().await;
        rig.end().await;
    }
}

#[tokio::test]
async fn a_client_that_goes_pays_for_what_it_had_and_gets_the_rest_back() {
    let hang = || Step::Wait(CancellationToken::new());
    for (steps, left) in [(vec![Step::Say("a"), hang()], 19), (vec![hang()], 20)] {
        let engine = MockEngine::new(steps);
        let rig = rig(engine, true, Terms::default()).await;
        let key = rig.key("alice", 20 * PRICE).await;
        let body = json!({ "prompt": "x", "max_tokens": 20, "stream": left == 19 });
        let sent = rig.http.post(format!("{}{GENERATE}", rig.url)).bearer_auth(&key).json(&body).send();
        let sent = tokio::spawn(sent);
        within(rig.engine.open.subscribe().wait_for(|open| *open > 0)).await.unwrap();
        assert_eq!(rig.stands("alice").await, (20 * PRICE, 20 * PRICE), "held while it runs");
        if left == 19 {
            let mut response = within(sent).await.unwrap().unwrap();
            assert!(within(response.chunk()).await.unwrap().is_some());
        } else {
            sent.abort();
        }
        rig.engine.all_closed().await;
        let url = rig.url.clone();
        let ended = rig.end().await;
        let account = ended.store.account("alice").await.unwrap().unwrap();
        assert_eq!((account.balance.nano(), account.reserved.nano()), (left * PRICE, 0), "{url}");
        assert_eq!(ended.store.audit().await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_session_ends_before_what_is_held_for_it_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let store = far_ledger::Ledger::open(dir.path().join("ledger.db")).await.unwrap();
    let access = std::sync::Arc::new(KeyAccess::new(store.clone(), true));
    let options = Options { session: std::time::Duration::from_millis(300), ..Options::default() };
    assert!(Options::default().session < crate::metering::HELD);
    let engine = MockEngine::new(vec![Step::Say("a"), Step::Wait(CancellationToken::new())]);
    let rig = Rig::over(dir, store, engine, options, access, Terms::default()).await;
    let key = rig.key("alice", 20 * PRICE).await;
    let response = rig.send(Method::POST, GENERATE, &key, Some(json!({ "prompt": "x", "max_tokens": 20 }))).await;
    let text = within(response.text()).await.unwrap();
    assert!(text.contains("session_too_long") && !text.contains("[DONE]"), "{text}");
    assert_eq!(rig.stands("alice").await, (19 * PRICE, 0), "what came is paid");
    rig.assert_sound().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_at_once_never_spend_more_than_there_is() {
    let rig = rig(MockEngine::saying(&["a", "b"]), true, Terms::default()).await;
    // Each holds 8 tokens and uses 2: while all run, three fit.
    let key = rig.key("alice", 25 * PRICE).await;
    let asked = (0..40).map(|_| rig.ask(GENERATE, &key, whole(8)));
    let answers = futures::future::join_all(asked).await;
    let served = answers.iter().filter(|(status, _)| *status == 200).count();
    assert!(answers.iter().all(|(status, _)| matches!(status, 200 | 402)), "{answers:?}");
    assert!((3..=9).contains(&served), "{served}");
    assert_eq!(rig.stands("alice").await, (25 * PRICE - 2 * PRICE * served as i64, 0));
    rig.assert_sound().await;
    rig.end().await;
}

#[tokio::test]
async fn an_account_tells_what_its_key_used_and_a_session_shows_itself_to_its_payer() {
    let rig = rig(MockEngine::saying(&["a", "b"]), true, Terms::default()).await;
    let (alice, bob) = (rig.key("alice", 100 * PRICE).await, rig.key("bob", 100 * PRICE).await);
    let (_, answer) = rig.ask(GENERATE, &alice, whole(5)).await;
    rig.ask(GENERATE, &alice, whole(5)).await;
    let options = ClientOptions { api_key: Some(alice.clone()), ..ClientOptions::default() };
    let client = Client::with_options(&rig.url, options).unwrap();
    let AccountInfo { account, balance_far, reserved_far, available_far, usage, .. } = client.account().await.unwrap();
    assert_eq!((account.as_str(), balance_far.as_str(), reserved_far.as_str()), ("alice", "0.0096", "0"));
    assert_eq!((available_far.as_str(), usage.len()), ("0.0096", 1));
    let today = &usage[0];
    assert_eq!((today.sessions, today.completion_tokens, today.cost_far.as_str()), (2, 4, "0.0004"));
    assert_eq!(today.day.len(), "2026-11-23".len());
    let second = rig.store.create_key("alice", "other", UnixMillis::now()).await.unwrap();
    let other = rig.send(Method::GET, "/account", second.secret.expose(), None).await.json::<Value>().await.unwrap();
    assert_eq!((&other["balance_far"], &other["usage"]), (&json!("0.0096"), &json!([])), "usage is the key's own");

    let path = format!("/sessions/{}", answer["session_id"].as_str().unwrap());
    for (key, status) in [(alice.as_str(), 200), (second.secret.expose(), 200), (&bob, 404), ("", 401)] {
        assert_eq!(rig.send(Method::GET, &path, key, None).await.status().as_u16(), status);
    }
    for (query, status) in [("days=1", 200), ("days=0", 422), ("days=99999", 422), ("days=x", 400)] {
        let response = rig.send(Method::GET, &format!("/account?{query}"), &alice, None).await;
        assert_eq!(response.status().as_u16(), status, "{query}");
    }
    rig.end().await;
}

#[tokio::test]
async fn prompts_are_kept_where_the_operator_says_so() {
    let rig = rig(MockEngine::saying(&["a"]), false, Terms { store_prompts: true, ..Terms::default() }).await;
    let chat = json!({ "messages": [{ "role": "user", "content": "a \u{0} b" }], "max_tokens": 1 });
    let response = rig.send(Method::POST, CHAT, "", Some(chat)).await;
    let session = response.headers()["x-far-session"].to_str().unwrap().to_owned();
    let (session, _) = recorded(&rig.store, &session).await;
    assert_eq!(session.begun.prompt_text.as_deref(), Some(r#"[{"content":"a \u0000 b","role":"user"}]"#));
    let (_, raw) = rig.ask(GENERATE, "", json!({ "prompt": "a \u{0} b", "stream": false })).await;
    let (session, _) = recorded(&rig.store, raw["session_id"].as_str().unwrap()).await;
    assert_eq!(session.begun.prompt_text.as_deref(), Some("a \u{fffd} b"));
    assert_eq!(session.status, Status::Completed);
    rig.store.set_retention(Kept::Prompts, std::num::NonZeroU32::new(1)).await.unwrap();
    let tomorrow = UnixMillis::now().after(std::time::Duration::from_secs(49 * 3600));
    assert_eq!(rig.store.upkeep(tomorrow).await.unwrap().removed.prompts, 2);
    rig.end().await;
}

#[tokio::test]
async fn a_killed_server_leaves_something_held_until_it_starts_again() {
    let rig =
        rig(MockEngine::new(vec![Step::Say("a"), Step::Wait(CancellationToken::new())]), true, Terms::default()).await;
    let key = rig.key("alice", 20 * PRICE).await;
    let body = json!({ "prompt": "x", "max_tokens": 20 });
    let response = rig.send(Method::POST, GENERATE, &key, Some(body)).await;
    let session = response.headers()["x-far-session"].to_str().unwrap().to_owned();
    let (running, _) = recorded(&rig.store, &session).await;
    assert_eq!((running.status, rig.stands("alice").await.1), (Status::Running, 20 * PRICE));
    let own = running.begun.coordinator.unwrap();
    // As its successor would at its start.
    assert_eq!(rig.store.release_left(&own, UnixMillis::now()).await.unwrap(), 1);
    assert_eq!(rig.stands("alice").await, (20 * PRICE, 0));
    drop(response);
    let ended = rig.end().await;
    let account = ended.store.account("alice").await.unwrap().unwrap();
    assert_eq!(account.balance.nano(), 20 * PRICE, "the session had failed: its end is refused");
    assert_eq!(ended.store.audit().await.unwrap(), []);
}
