//! What generating routes answer: events as they stand on the wire, whole answers, stops, log-probabilities.

use std::collections::BTreeSet;

use far_mesh_tests::Testnet;
use serde_json::{Value, json};

use super::{
    text::{ANSWER, ANSWER_TOKENS, MODEL, PRICE_NANO, PROMPT, PROMPT_TOKENS, SHORT_ANSWER, SHORT_PROMPT, nano},
    wire::{Answer, Wire},
};

fn greedy(max_tokens: u64) -> Value {
    json!({ "model": MODEL, "prompt": PROMPT, "max_tokens": max_tokens, "temperature": 0 })
}

/// The data of each event: one `data:` line, then an empty one, and nothing else.
fn events(answer: &Answer) -> Vec<&str> {
    assert_eq!(
        (answer.status, answer.headers["content-type"].to_str().unwrap()),
        (200, "text/event-stream"),
        "{}",
        answer.text
    );
    let blocks = answer.text.strip_suffix("\n\n").expect("every event ends").split("\n\n");
    blocks.map(|block| block.strip_prefix("data: ").filter(|data| !data.contains('\n')).expect("one line")).collect()
}

/// The tokens' texts and the final account of a Far stream; every token has its index and its running cost.
fn read(answer: &Answer) -> (String, Value) {
    let mut events = events(answer);
    assert_eq!(events.pop(), Some("[DONE]"));
    let done: Value = serde_json::from_str(events.pop().unwrap()).unwrap();
    let mut text = String::new();
    for (index, event) in events.iter().enumerate() {
        let token: Value = serde_json::from_str(event).unwrap();
        let cost = (i64::try_from(index).unwrap() + 1) * PRICE_NANO;
        assert_eq!((&token["index"], nano(token["cost_far"].as_str().unwrap())), (&json!(index), cost), "{event}");
        assert_eq!(token.as_object().unwrap().len(), 3, "{event}");
        text.push_str(token["token"].as_str().unwrap());
    }
    assert_eq!(done["usage"]["completion_tokens"], events.len());
    (text, done)
}

#[tokio::test]
async fn a_stream_is_tokens_with_their_cost_then_the_account_then_done() {
    let net = Testnet::start(3).await;
    let wire = Wire::new(&net);
    let answer = wire.post("/api/inference/chat", greedy(ANSWER_TOKENS)).await;
    let second = r#"{"token":" computing","index":1,"cost_far":"0.0002"}"#;
    assert_eq!(events(&answer)[1], second, "the order of the keys is what people see with curl");
    let (text, done) = read(&answer);
    assert_eq!(text, ANSWER);
    assert_eq!(
        (&done["done"], &done["cost_far"], &done["finish_reason"]),
        (&json!(true), &json!("0.0048"), &json!("length"))
    );
    assert_eq!(done["usage"]["prompt_tokens"], PROMPT_TOKENS);
    let parts = done["contributions"].as_array().unwrap();
    let layers: Vec<_> = parts.iter().map(|part| &part["layers"]).collect();
    assert_eq!(layers, [&json!([0, 9]), &json!([10, 19]), &json!([20, 29])]);
    assert_eq!(parts.iter().map(|part| nano(part["payment_far"].as_str().unwrap())).sum::<i64>(), 4_800_000);

    let session = done["session_id"].as_str().unwrap();
    assert_eq!(answer.headers["x-far-session"], session);
    let account = wire.get(&format!("/sessions/{session}")).await;
    for key in ["session_id", "model", "cost_far", "contributions"] {
        assert_eq!(account[key], done[key], "{key}");
    }
    assert_eq!((&account["status"], &account["completion_tokens"]), (&json!("completed"), &json!(ANSWER_TOKENS)));

    let whole = wire.whole("/api/inference/chat", greedy(ANSWER_TOKENS)).await;
    for key in ["model", "cost_far", "usage", "finish_reason"] {
        assert_eq!(whole[key], done[key], "{key}");
    }
    assert_eq!(whole["text"], text);
    net.stop().await;
}

#[tokio::test]
async fn a_raw_prompt_is_not_put_into_the_template() {
    let net = Testnet::start(2).await;
    let wire = Wire::new(&net);
    let raw = json!({ "prompt": "The quick brown fox", "max_tokens": 4, "temperature": 0 });
    let (text, done) = read(&wire.post("/inference/generate", raw.clone()).await);
    assert_eq!(done["usage"], json!({ "prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8 }));
    let completion = wire
        .whole("/v1/completions", json!({ "model": MODEL, "max_tokens": 4, "temperature": 0, "prompt": raw["prompt"] }))
        .await;
    assert_eq!(completion["choices"][0]["text"], text);

    let messages = json!([{ "role": "user", "content": PROMPT }]);
    let chat = json!({ "messages": messages, "max_tokens": 6, "temperature": 0 });
    let (from_messages, _) = read(&wire.post("/api/inference/chat", chat).await);
    let (from_prompt, _) = read(&wire.post("/api/inference/chat", greedy(6)).await);
    assert_eq!(from_messages, from_prompt, "a prompt is one message of the user");
    net.stop().await;
}

#[tokio::test]
async fn an_answer_ends_by_itself_at_a_stop_text_or_at_the_bound() {
    // The first word of the short answer is a close call, which 8-bit activations decide otherwise.
    let net = Testnet::start_with(3, &["--precision", "exact"]).await;
    let wire = Wire::new(&net);
    let end = |account: &Value| {
        (account["finish_reason"].as_str().unwrap().to_owned(), account["usage"]["completion_tokens"].clone())
    };

    let itself = json!({ "prompt": SHORT_PROMPT, "temperature": 0 });
    let (text, done) = read(&wire.post("/api/inference/chat", itself).await);
    assert_eq!((text.as_str(), end(&done)), (SHORT_ANSWER, ("stop".to_owned(), json!(8))), "the end token is paid for");

    let mut stopped = greedy(ANSWER_TOKENS);
    stopped["stop"] = json!(["never said", " evolving fie"]);
    let (text, done) = read(&wire.post("/api/inference/chat", stopped).await);
    assert_eq!((text.as_str(), end(&done)), ("Quantum computing is a rapidly", ("stop".to_owned(), json!(7))));

    let (text, done) = read(&wire.post("/api/inference/chat", greedy(1)).await);
    assert_eq!((text.as_str(), end(&done)), ("Quantum", ("length".to_owned(), json!(1))));
    net.stop().await;
}

#[tokio::test]
async fn openai_routes_stream_the_same_answer_in_their_own_form() {
    let net = Testnet::start(3).await;
    let wire = Wire::new(&net);
    let request = json!({
        "model": MODEL, "messages": [{ "role": "user", "content": PROMPT }], "max_tokens": ANSWER_TOKENS,
        "temperature": 0, "stream": true, "stream_options": { "include_usage": true },
    });
    let answer = wire.post("/v1/chat/completions", request.clone()).await;
    let mut events = events(&answer);
    assert_eq!(events.pop(), Some("[DONE]"));
    let chunks: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let ids: BTreeSet<_> = chunks.iter().map(|chunk| chunk["id"].as_str().unwrap()).collect();
    assert!(ids.len() == 1 && chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk"), "{ids:?}");
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, ANSWER);
    let usage = &chunks.last().unwrap()["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(PROMPT_TOKENS), &json!(ANSWER_TOKENS)));

    let whole = wire.whole("/v1/chat/completions", request_without_stream(request)).await;
    assert_eq!(whole["choices"][0]["message"], json!({ "role": "assistant", "content": ANSWER, "refusal": null }));
    net.stop().await;
}

fn request_without_stream(mut request: Value) -> Value {
    request.as_object_mut().unwrap().retain(|key, _| !key.starts_with("stream"));
    request
}

/// The five best first tokens of the reference, and how far 8-bit activations may be from them: 1.5 times the largest
/// difference that was measured for the best token, and for the others.
const FIRST_STEP: [(&str, f64); 5] =
    [("Quantum", -0.19643), ("In", -3.63761), ("A", -3.88285), ("The", -4.07876), ("quant", -4.53769)];
const NOISE_BEST: f64 = 0.33;
const NOISE_OTHERS: f64 = 0.89;

#[tokio::test]
async fn log_probabilities_are_those_of_the_reference_within_the_noise() {
    let net = Testnet::start(3).await;
    let request = json!({
        "model": MODEL, "messages": [{ "role": "user", "content": PROMPT }], "max_tokens": 1, "temperature": 0,
        "logprobs": true, "top_logprobs": 20,
    });
    let answer = Wire::new(&net).whole("/v1/chat/completions", request).await;
    let step = &answer["choices"][0]["logprobs"]["content"][0];
    let top = step["top_logprobs"].as_array().unwrap();
    assert_eq!((&step["token"], &step["logprob"], top.len()), (&top[0]["token"], &top[0]["logprob"], 20));
    for (rank, (token, logprob)) in FIRST_STEP.iter().enumerate() {
        let found = top.iter().find(|other| other["token"] == *token).unwrap_or_else(|| panic!("{token:?}: {top:?}"));
        let noise = if rank == 0 { NOISE_BEST } else { NOISE_OTHERS };
        let difference = (found["logprob"].as_f64().unwrap() - logprob).abs();
        assert!(difference <= noise, "{token:?} is {found}, not {logprob}");
    }
    net.stop().await;
}
