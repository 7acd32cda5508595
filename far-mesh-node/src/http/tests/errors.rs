//! Every error: its status, its code and the field it blames.

use std::{sync::Arc, time::Duration};

use far_ledger::Amount;
use far_mesh_core::{hop::HopError, session::GenerateError};
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{
    Rig,
    mock::{self, MODEL, MockEngine, Step},
    within,
};
use crate::{
    http::{Access, Denied, Options},
    metering::Holder,
};

const GENERATE: &str = "/inference/generate";
const CHAT: &str = "/v1/chat/completions";
const COMPLETION: &str = "/v1/completions";

async fn check(rig: &Rig, path: &str, body: Value, status: u16, param: &str) -> Value {
    let error = rig.post_json(path, body, status).await["error"].clone();
    assert_eq!(error["param"].as_str().unwrap_or(""), param, "{error}");
    assert!(error["type"].is_string() && error["code"].is_string() && error["message"].is_string(), "{error}");
    error
}

#[tokio::test]
async fn values_out_of_range_are_422_and_wrong_types_400_with_the_field() {
    let rig = Rig::new(MockEngine::saying(&["a"])).await;
    for (field, range, kind) in [
        ("max_tokens", json!(0), json!("5")),
        ("max_tokens", json!(-3), json!(1.5)),
        ("temperature", json!(-0.1), json!("hot")),
        ("temperature", json!(2.1), json!([])),
        ("top_p", json!(1.1), json!({})),
        ("top_k", json!(-1), json!("1")),
        ("min_p", json!(2), json!(true)),
        ("repetition_penalty", json!(0), json!("x")),
        ("frequency_penalty", json!(3), json!("x")),
        ("presence_penalty", json!(-3), json!("x")),
        ("stop", json!([""]), json!(7)),
        ("stop", json!(vec!["s"; 17]), json!({ "a": 1 })),
        ("region", json!(""), json!(7)),
        ("region", json!({ "require": "x".repeat(33) }), json!({ "forbid": "eu" })),
    ] {
        for path in [GENERATE, COMPLETION] {
            check(&rig, path, json!({ "model": MODEL, "prompt": "x", field: range }), 422, field).await;
            check(&rig, path, json!({ "model": MODEL, "prompt": "x", field: kind }), 400, field).await;
        }
    }
    let chat = |field: &str, value: Value| json!({ "messages": [{ "role": "user", "content": "x" }], field: value });
    for (field, value, status) in [
        ("n", json!(9), 422),
        ("n", json!(0), 422),
        ("n", json!("2"), 400),
        ("top_logprobs", json!(2), 422),
        ("logprobs", json!(2), 400),
        ("tools", json!([{ "type": "function" }]), 400),
        ("response_format", json!({ "type": "json_object" }), 400),
        ("logit_bias", json!({ "5": 1 }), 400),
    ] {
        check(&rig, CHAT, chat(field, value), status, field).await;
    }
    check(&rig, COMPLETION, json!({ "prompt": "x", "logprobs": 6 }), 422, "logprobs").await;
    check(&rig, COMPLETION, json!({ "prompt": "x", "best_of": 3 }), 400, "best_of").await;
    check(&rig, COMPLETION, json!({ "prompt": vec!["x"; 17] }), 422, "prompt").await;
    check(&rig, COMPLETION, json!({ "prompt": vec!["x"; 16], "n": 3 }), 422, "n").await;
    assert!(rig.engine.calls.lock().unwrap().is_empty(), "nothing was started");
    rig.end().await;
}

#[tokio::test]
async fn prompts_that_are_none_are_told_apart() {
    let rig = Rig::new(MockEngine::saying(&["a"])).await;
    check(&rig, GENERATE, json!({}), 400, "prompt").await;
    check(&rig, GENERATE, json!({ "prompt": 5 }), 400, "prompt").await;
    check(&rig, GENERATE, json!({ "prompt": "" }), 422, "prompt").await;
    check(&rig, GENERATE, json!({ "prompt": "x", "messages": [] }), 400, "messages").await;
    check(&rig, "/api/inference/chat", json!({}), 400, "messages").await;
    check(&rig, "/api/inference/chat", json!({ "prompt": "x", "messages": [] }), 400, "prompt").await;
    check(&rig, COMPLETION, json!({ "prompt": [] }), 422, "prompt").await;
    check(&rig, COMPLETION, json!({ "prompt": [-1] }), 400, "prompt").await;
    let messages = |messages: Value| json!({ "messages": messages });
    check(&rig, CHAT, json!({}), 400, "messages").await;
    check(&rig, CHAT, messages(json!([])), 422, "messages").await;
    check(&rig, CHAT, messages(json!("hi")), 400, "messages").await;
    check(&rig, CHAT, messages(json!([{ "role": "user", "content": null }])), 400, "messages[0].content").await;
    check(&rig, CHAT, messages(json!([{ "role": "user" }])), 400, "messages[0]").await;
    check(&rig, CHAT, messages(json!([{ "role": "king", "content": "x" }])), 422, "messages[0].role").await;
    let image = json!([{ "role": "user", "content": [{ "type": "text", "text": "x" }, { "type": "image_url" }] }]);
    check(&rig, CHAT, messages(image), 422, "messages[0].content[1].type").await;
    check(&rig, CHAT, messages(json!([{ "role": "user", "content": "no template" }])), 400, "messages").await;
    let parts =
        json!([{ "role": "user", "content": [{ "type": "text", "text": "a " }, { "type": "text", "text": "b" }] }]);
    let fine = rig.post_json(CHAT, messages(parts), 200).await;
    assert_eq!(fine["usage"]["prompt_tokens"], 2);
    rig.end().await;
}

#[tokio::test]
async fn what_does_not_fit_is_413() {
    let rig = Rig::new(MockEngine::saying(&["a"])).await;
    let error = check(&rig, GENERATE, json!({ "prompt": "x y z", "max_tokens": 62 }), 413, "prompt").await;
    assert_eq!(error["code"], "context_length_exceeded");
    assert!(error["message"].as_str().unwrap().contains("context of 64"), "{error}");
    let body = json!({ "messages": [{ "role": "user", "content": "x y z" }], "max_tokens": 62 });
    check(&rig, CHAT, body, 413, "messages").await;
    let error = check(&rig, GENERATE, json!({ "prompt": "x".repeat(1 << 20) }), 413, "").await;
    assert_eq!(error["code"], "body_too_large");
    rig.end().await;
}

#[tokio::test]
async fn models_and_routes_that_are_not_there_are_404_and_other_methods_405() {
    let rig = Rig::new(MockEngine::saying(&["a"])).await;
    let error = check(&rig, GENERATE, json!({ "prompt": "x", "model": "gpt-9" }), 404, "model").await;
    assert!(error["message"].as_str().unwrap().contains(MODEL), "{error}");
    assert_eq!(rig.get_json("/models/gpt-9/nodes", 404).await["error"]["param"], "model");
    assert_eq!(rig.get_json("/nothing", 404).await["error"]["code"], "route_not_found");
    assert_eq!(rig.get_json("/sessions/00", 404).await["error"]["code"], "session_not_found");
    let unknown = "/sessions/00112233445566778899aabbccddeeff";
    assert_eq!(rig.get_json(unknown, 404).await["error"]["code"], "session_not_found");
    let response = within(rig.http.get(format!("{}{GENERATE}", rig.url)).send()).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["allow"].to_str().unwrap()), (405, "POST"));
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], "method_not_allowed");
    rig.end().await;

    let mut two = MockEngine::saying(&["a"]);
    two.models.push(mock::model("other"));
    let rig = Rig::new(two).await;
    check(&rig, GENERATE, json!({ "prompt": "x" }), 400, "model").await;
    rig.end().await;
    let rig = Rig::new(MockEngine { models: Vec::new(), ..MockEngine::saying(&[]) }).await;
    check(&rig, GENERATE, json!({ "prompt": "x" }), 404, "model").await;
    rig.end().await;
}

#[tokio::test]
async fn bodies_that_are_not_json_are_400_with_the_place_and_other_types_415() {
    let rig = Rig::new(MockEngine::saying(&["a"])).await;
    let send = |kind: &'static str, body: Vec<u8>| {
        let request = rig.http.post(format!("{}{GENERATE}", rig.url)).header("content-type", kind).body(body);
        async move {
            let response = within(request.send()).await.unwrap();
            (response.status().as_u16(), response.json::<Value>().await.unwrap()["error"].clone())
        }
    };
    let json = "application/json; charset=utf-8";
    for body in ["", "{", "{\"prompt\": }", "{\"prompt\": \"x\"", "{\"prompt\": \"x\"} tail", "nonsense"] {
        let (status, error) = send(json, body.into()).await;
        assert_eq!((status, error["code"].as_str()), (400, Some("invalid_json")), "{body}: {error}");
        assert!(error["message"].as_str().unwrap().contains("line 1 column"), "{error}");
    }
    let (status, error) = send(json, b"[1]".into()).await;
    assert_eq!(status, 400, "{error}");
    let (status, _) = send(json, b"{\"prompt\": \"\xff\xfe\"}".into()).await;
    assert_eq!(status, 400);
    let (status, _) = send(json, format!("{{\"ignored\": {}1{}}}", "[".repeat(9999), "]".repeat(9999)).into()).await;
    assert_eq!(status, 400, "nested too deep");
    let (status, error) = send("text/plain", b"{\"prompt\": \"x\"}".into()).await;
    assert_eq!((status, error["code"].as_str()), (415, Some("unsupported_media_type")));
    let (status, _) = send("application/json-not", b"{}".into()).await;
    assert_eq!(status, 415);
    rig.end().await;
}

#[tokio::test]
async fn what_the_route_says_before_the_first_token_is_a_status() {
    let full = HopError::Full { needed_tokens: 9, free_tokens: 1 };
    let device = HopError::Device { reason: "fan".into() };
    for (error, status, retry) in [
        (GenerateError::Hop(full), 429, true),
        (mock::lost(), 503, true),
        (GenerateError::Hop(device), 503, true),
        (GenerateError::Parameter { name: "top_p", value: "9".into(), range: "0..1" }, 422, false),
        (GenerateError::Hop(HopError::BadStep { reason: "seq".into() }), 500, false),
    ] {
        let rig = Rig::new(MockEngine::new(vec![Step::Fail(error.clone())])).await;
        for (path, body) in [
            (GENERATE, json!({ "prompt": "x" })),
            (GENERATE, json!({ "prompt": "x", "stream": false })),
            (COMPLETION, json!({ "prompt": "x", "stream": true })),
            (COMPLETION, json!({ "prompt": "x" })),
        ] {
            let response = rig.post(path, &body).await;
            assert_eq!(response.status().as_u16(), status, "{error:?}");
            assert_eq!(response.headers().contains_key("retry-after"), retry, "{error:?}");
            assert!(response.json::<Value>().await.unwrap()["error"]["message"].is_string());
        }
        rig.end().await;
    }
}

#[tokio::test]
async fn more_sessions_than_there_may_be_are_429() {
    let options = Options { max_sessions: 1, ..Options::default() };
    let go = tokio_util::sync::CancellationToken::new();
    let engine = MockEngine::new(vec![Step::Say("a"), Step::Wait(go.clone())]);
    let rig = Rig::with(engine, options, Arc::new(crate::http::OpenAccess)).await;
    let first = rig.post(GENERATE, &json!({ "prompt": "x" })).await;
    let second = rig.post(GENERATE, &json!({ "prompt": "x" })).await;
    assert_eq!((second.status().as_u16(), second.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    go.cancel();
    within(first.text()).await.unwrap();
    rig.end().await;
}

/// Knows three keys.
#[derive(Debug)]
struct Keys;

impl Access for Keys {
    fn admit<'a>(&'a self, key: Option<&'a str>) -> BoxFuture<'a, Result<Option<Holder>, Denied>> {
        Box::pin(async move {
            match key {
                Some("fl_good") => Ok(None),
                Some("fl_poor") => Err(Denied::NoBalance { available: Amount::ZERO, needed: Amount::MAX }),
                Some("fl_fast") => Err(Denied::TooFast { retry_after: Duration::from_millis(1500) }),
                Some(_) => Err(Denied::UnknownKey),
                None => Err(Denied::MissingKey),
            }
        })
    }
}

#[tokio::test]
async fn keys_are_asked_for_where_something_costs() {
    let rig = Rig::with(MockEngine::saying(&["a"]), Options::default(), Arc::new(Keys)).await;
    for (key, status) in [("", 401), ("fl_bad", 401), ("fl_poor", 402), ("fl_fast", 429), ("fl_good", 200)] {
        let mut request = rig.http.post(format!("{}{GENERATE}", rig.url)).json(&json!({ "prompt": "x" }));
        if !key.is_empty() {
            request = request.bearer_auth(key);
        }
        let response = within(request.send()).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{key}");
        assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
        let retry = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(retry.as_deref(), (status == 429).then_some("2"));
        within(response.bytes()).await.unwrap();
    }
    assert_eq!(rig.get_json("/health", 200).await["status"], "ok");
    assert_eq!(rig.get_json("/nothing", 404).await["error"]["code"], "route_not_found");
    rig.end().await;
}
