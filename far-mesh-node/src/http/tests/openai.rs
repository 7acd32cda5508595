//! OpenAI's wire format.

use far_mesh_core::coordinator::Prompt;
use serde_json::{Value, json};

use super::{
    Rig, json_lines,
    mock::{self, MODEL, MockEngine, Step},
};

fn chat(more: Value) -> Value {
    let mut body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "hi there" }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn a_whole_chat_completion() {
    let rig = Rig::new(MockEngine { tail: "!", ..MockEngine::saying(&["Hello", " you"]) }).await;
    let response = rig.post("/v1/chat/completions", &chat(json!({ "user": "u", "store": true, "tools": [] }))).await;
    let session = response.headers()["x-far-session"].to_str().unwrap().to_owned();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["id"], format!("chatcmpl-{session}"));
    assert_eq!((&body["object"], &body["model"]), (&json!("chat.completion"), &json!(MODEL)));
    let message = json!({ "role": "assistant", "content": "Hello you!", "refusal": null });
    let choice = json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": "stop" });
    assert_eq!(body["choices"], json!([choice]));
    let usage = json!({ "prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4, "cost_far": "0.0002" });
    assert_eq!(body["usage"], usage);
    rig.end().await;
}

#[tokio::test]
async fn a_streamed_chat_completion_begins_with_the_role_and_ends_with_the_reason_and_the_usage() {
    let rig = Rig::new(MockEngine::saying(&["Hel", "", "lo"])).await;
    let body = chat(json!({ "stream": true, "stream_options": { "include_usage": true }, "max_completion_tokens": 3 }));
    let chunks = json_lines(rig.stream("/v1/chat/completions", body).await);
    let choices: Vec<_> = chunks.iter().map(|chunk| chunk["choices"].clone()).collect();
    let choice = |delta: Value, reason: Value| json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": reason }]);
    assert_eq!(
        choices,
        [
            choice(json!({ "role": "assistant", "content": "", "refusal": null }), Value::Null),
            choice(json!({ "content": "Hel" }), Value::Null),
            choice(json!({ "content": "lo" }), Value::Null),
            choice(json!({}), json!("stop")),
            json!([]),
        ]
    );
    assert!(chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk" && chunk["id"] == chunks[0]["id"]));
    assert!(chunks[..4].iter().all(|chunk| chunk["usage"].is_null()));
    assert_eq!(chunks[4]["usage"]["total_tokens"], 5);
    assert_eq!(chunks[4]["usage"]["cost_far"], "0.0003");
    assert_eq!(rig.engine.last_call().max_tokens, Some(3));
    rig.end().await;
}

#[tokio::test]
async fn without_include_usage_there_is_none() {
    let rig = Rig::new(MockEngine::saying(&["a"])).await;
    let chunks = json_lines(rig.stream("/v1/chat/completions", chat(json!({ "stream": true }))).await);
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()) && chunks.len() == 3, "{chunks:?}");
    rig.end().await;
}

#[tokio::test]
async fn choices_are_sessions_of_their_own() {
    let rig = Rig::new(MockEngine::saying(&["a", "b"])).await;
    let response = rig.post("/v1/chat/completions", &chat(json!({ "n": 3, "seed": -1 }))).await;
    assert_eq!(response.headers()["x-far-session"].to_str().unwrap().split(',').count(), 3);
    let body: Value = response.json().await.unwrap();
    let indices: Vec<_> = body["choices"].as_array().unwrap().iter().map(|choice| &choice["index"]).collect();
    assert_eq!(indices, [&json!(0), &json!(1), &json!(2)]);
    let usage = json!({ "prompt_tokens": 2, "completion_tokens": 6, "total_tokens": 8, "cost_far": "0.0006" });
    assert_eq!(body["usage"], usage, "the prompt counts once");
    let mut seeds: Vec<_> = rig.engine.calls.lock().unwrap().iter().map(|call| call.sampling.seed).collect();
    seeds.sort();
    assert_eq!(seeds, [Some(0), Some(1), Some(u64::MAX)]);

    let chunks = json_lines(rig.stream("/v1/chat/completions", chat(json!({ "n": 2, "stream": true }))).await);
    for index in 0..2 {
        let of_choice = chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|choice| choice["index"] == index);
        let text: String = of_choice.clone().filter_map(|choice| choice["delta"]["content"].as_str()).collect();
        assert_eq!(text, "ab");
        assert_eq!(of_choice.filter(|choice| choice["finish_reason"] == "stop").count(), 1);
    }
    rig.end().await;
}

#[tokio::test]
async fn log_probabilities_have_their_tokens() {
    let rig = Rig::new(MockEngine::saying(&["a", "", "b"])).await;
    let ask = json!({ "logprobs": true, "top_logprobs": 2 });
    let body = rig.post_json("/v1/chat/completions", chat(ask.clone()), 200).await;
    let content = body["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.len(), 3);
    assert_eq!((&content[0]["token"], &content[0]["logprob"]), (&json!("<101>"), &json!(-0.5)));
    assert_eq!(content[0]["top_logprobs"].as_array().unwrap().len(), 2);

    let mut ask = chat(ask);
    ask["stream"] = json!(true);
    let chunks = json_lines(rig.stream("/v1/chat/completions", ask).await);
    let with: Vec<_> = chunks.iter().filter(|chunk| !chunk["choices"][0]["logprobs"].is_null()).collect();
    assert_eq!(with.len(), 3, "also for a token without text");

    let ask = json!({ "model": MODEL, "prompt": "x", "logprobs": 1, "stream": true });
    let chunks = json_lines(rig.stream("/v1/completions", ask).await);
    let offsets: Vec<_> =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["logprobs"]["text_offset"][0].as_u64()).collect();
    assert_eq!(offsets, [0, 5, 10]);
    rig.end().await;
}

#[tokio::test]
async fn a_completion_takes_texts_and_token_ids() {
    let rig = Rig::new(MockEngine::saying(&["a", "b", "c"])).await;
    let ask = |prompt: Value| json!({ "model": MODEL, "prompt": prompt, "max_tokens": 2, "stop": "END" });
    let body = rig.post_json("/v1/completions", ask(json!("one text")), 200).await;
    assert_eq!(body["object"], "text_completion");
    let choice = json!({ "index": 0, "text": "ab", "logprobs": null, "finish_reason": "length" });
    assert_eq!(body["choices"], json!([choice]));
    let call = rig.engine.last_call();
    assert_eq!((call.prompt, call.stop), (Prompt::Text("one text".into()), vec!["END".to_owned()]));
    for (prompt, want) in [
        (json!(["one", "two"]), vec![Prompt::Text("one".into()), Prompt::Text("two".into())]),
        (json!([1, 2, 3]), vec![Prompt::Tokens(vec![1, 2, 3])]),
        (json!([[1, 2], [3]]), vec![Prompt::Tokens(vec![1, 2]), Prompt::Tokens(vec![3])]),
    ] {
        rig.engine.calls.lock().unwrap().clear();
        let body = rig.post_json("/v1/completions", ask(prompt), 200).await;
        assert_eq!(body["choices"].as_array().unwrap().len(), want.len());
        let got: Vec<_> = rig.engine.calls.lock().unwrap().iter().map(|call| call.prompt.clone()).collect();
        assert_eq!(got, want);
    }
    let mut ask = ask(json!("one text"));
    ask["stream"] = json!(true);
    let chunks = json_lines(rig.stream("/v1/completions", ask).await);
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, "ab");
    rig.end().await;
}

#[tokio::test]
async fn models_are_listed_and_found() {
    let mut engine = MockEngine::saying(&[]);
    engine.models.push(mock::model("owner/name"));
    let rig = Rig::new(engine).await;
    let list = rig.get_json("/v1/models", 200).await;
    assert_eq!((&list["object"], list["data"].as_array().unwrap().len()), (&json!("list"), 2));
    assert_eq!(rig.get_json("/v1/models/owner/name", 200).await["id"], "owner/name");
    assert_eq!(rig.get_json("/v1/models/owner%2Fname", 200).await["object"], "model");
    assert_eq!(rig.get_json("/v1/models/gpt-9", 404).await["error"]["code"], "model_not_found");
    rig.end().await;
}

#[tokio::test]
async fn a_stream_that_fails_says_so() {
    let rig = Rig::new(MockEngine::new(vec![Step::Say("a"), Step::Fail(mock::lost())])).await;
    let lines = rig.stream("/v1/chat/completions", chat(json!({ "stream": true, "n": 2 }))).await;
    let last: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "node_lost");
    rig.engine.all_closed().await;
    rig.end().await;
}
