//! Requests that are refused: each with a status that says who can mend it and a message that says how.

use far_mesh_tests::Testnet;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    text::{ANSWER, MODEL, PROMPT},
    wire::Wire,
};

const GENERATE: &str = "/inference/generate";
const CHAT: &str = "/api/inference/chat";
const OPENAI: &str = "/v1/chat/completions";

/// Route, body, status, code, field to blame, and what the message must name.
type Case = (&'static str, String, u16, &'static str, Option<&'static str>, &'static [&'static str]);

fn cases() -> Vec<Case> {
    let with = |key: &str, value: Value| {
        let mut body = json!({ "prompt": "x", "model": MODEL });
        body[key] = value;
        body.to_string()
    };
    let long = "word ".repeat(9000);
    vec![
        (GENERATE, r#"{"prompt": "x","#.into(), 400, "invalid_json", None, &["line 1 column 15"]),
        (CHAT, "{\n \"prompt\": 'x'}".into(), 400, "invalid_json", None, &["line 2 column"]),
        (OPENAI, "not json".into(), 400, "invalid_json", None, &["line 1 column"]),
        (GENERATE, r#"{"prompt": "x"} trailing"#.into(), 400, "invalid_json", None, &["line 1 column 17"]),
        (GENERATE, with("max_tokens", json!("many")), 400, "invalid_type", Some("max_tokens"), &["many"]),
        (GENERATE, with("prompt", json!(["x"])), 400, "invalid_type", Some("prompt"), &["string"]),
        (GENERATE, r#"["m", "x"]"#.into(), 400, "invalid_request", None, &["object"]),
        (GENERATE, "{}".into(), 400, "missing_field", Some("prompt"), &["prompt"]),
        (
            CHAT,
            with("messages", json!([{ "role": "user", "content": "x" }])),
            400,
            "unexpected_field",
            Some("prompt"),
            &["both"],
        ),
        (GENERATE, with("model", json!("gpt-9")), 404, "model_not_found", Some("model"), &["gpt-9", MODEL]),
        (GENERATE, with("prompt", json!(long)), 413, "context_length_exceeded", Some("prompt"), &["9001", "8192"]),
        (GENERATE, with("max_tokens", json!(9000)), 413, "context_length_exceeded", Some("prompt"), &["9000", "8192"]),
        (GENERATE, with("prompt", json!("")), 422, "out_of_range", Some("prompt"), &["no tokens"]),
        (GENERATE, with("temperature", json!(2.5)), 422, "out_of_range", Some("temperature"), &["2.5", "from 0 to 2"]),
        (GENERATE, with("top_p", json!(-0.1)), 422, "out_of_range", Some("top_p"), &["-0.1", "from 0 to 1"]),
        (GENERATE, with("max_tokens", json!(0)), 422, "out_of_range", Some("max_tokens"), &["0", "from 1"]),
        (GENERATE, with("stop", json!(vec!["x"; 17])), 422, "out_of_range", Some("stop"), &["17", "16"]),
        (
            CHAT,
            json!({ "messages": [{ "role": "oracle", "content": "x" }] }).to_string(),
            422,
            "out_of_range",
            Some("messages[0].role"),
            &["oracle", "assistant"],
        ),
        (GENERATE, with("prompt", json!("x".repeat(1 << 20))), 413, "body_too_large", None, &["1048576"]),
    ]
}

#[tokio::test]
async fn a_refusal_names_the_place_the_value_and_the_remedy() {
    let net = Testnet::start(2).await;
    let wire = Wire::new(&net);
    for (path, body, status, code, param, names) in cases() {
        let start: String = body.chars().take(80).collect();
        let answer = wire.send(Method::POST, path, body).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["code"]), (status, &json!(code)), "{start}: {error}");
        assert_eq!(
            (&error["param"], &error["type"]),
            (&json!(param), &json!("invalid_request_error")),
            "{start}: {error}"
        );
        let message = error["message"].as_str().unwrap();
        assert!(names.iter().all(|name| message.contains(name)), "{start}: {message}");
    }

    let wrong = wire.send(Method::GET, GENERATE, "").await;
    assert_eq!((wrong.status, wrong.headers["allow"].to_str().unwrap()), (405, "POST"));
    assert_eq!(wrong.json()["error"]["code"], "method_not_allowed");
    let nowhere = wire.send(Method::GET, "/inference", "").await;
    assert_eq!((nowhere.status, &nowhere.json()["error"]["code"]), (404, &json!("route_not_found")));

    assert_eq!(wire.get("/mesh/status").await["live_sessions"], 0);
    let well = wire.whole(CHAT, json!({ "prompt": PROMPT, "max_tokens": 8, "temperature": 0 })).await;
    assert!(ANSWER.starts_with(well["text"].as_str().unwrap()), "none of it did any harm");
    net.stop().await;
}
