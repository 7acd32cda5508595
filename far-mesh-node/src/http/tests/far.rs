//! The Far routes.

use far_ledger::{Status, Store};
use far_mesh_client::{
    Error,
    schema::{Event, FinishReason, GenerateRequest, Message, Region, SessionState},
};
use far_mesh_core::{
    coordinator::Prompt,
    hop::HopError,
    id::Span,
    route::{PlanError, RegionWish},
    token,
};
use futures::StreamExt;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Rig, json_lines,
    mock::{self, MODEL, MockEngine, Step},
    recorded, within,
};

#[tokio::test]
async fn a_stream_carries_tokens_with_their_running_cost_then_the_account() {
    let rig = Rig::new(MockEngine { tail: "!", ..MockEngine::saying(&["Quantum", " computing", ""]) }).await;
    let lines = rig.stream("/inference/generate", json!({ "prompt": "Explain it", "model": MODEL })).await;
    let events = json_lines(lines);
    assert_eq!(events[0], json!({ "token": "Quantum", "index": 0, "cost_far": "0.0001" }));
    assert_eq!(events[1], json!({ "token": " computing", "index": 1, "cost_far": "0.0002" }));
    assert_eq!(events[2], json!({ "token": "", "index": 2, "cost_far": "0.0003" }));
    assert_eq!(events[3], json!({ "token": "!", "index": 2, "cost_far": "0.0003" }), "what was held back");
    let done = &events[4];
    assert_eq!((events.len(), &done["done"], &done["cost_far"]), (5, &json!(true), &json!("0.0003")));
    assert_eq!(done["usage"], json!({ "prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5 }));
    let parts = done["contributions"].as_array().unwrap();
    let seen: Vec<_> = parts.iter().map(|part| (&part["layers"], &part["tokens"], &part["payment_far"])).collect();
    let (tokens, third) = (json!(4), json!("0.0001"));
    assert_eq!(
        seen,
        [(&json!([0, 9]), &tokens, &third), (&json!([10, 19]), &tokens, &third), (&json!([20, 29]), &tokens, &third)]
    );
    let session = done["session_id"].as_str().unwrap();
    let account = rig.client.session(session).await.unwrap();
    assert_eq!((account.status, account.completion_tokens), (SessionState::Completed, 3));
    assert_eq!(serde_json::to_value(&account.contributions).unwrap(), done["contributions"]);
    rig.end().await;
}

#[tokio::test]
async fn the_account_is_in_the_ledger_when_the_final_event_comes() {
    let rig = Rig::new(MockEngine::saying(&["a", "b"])).await;
    let mut events = rig.client.generate(&GenerateRequest::text("x").max_tokens(1)).await.unwrap();
    let Event::Token(token) = within(events.next()).await.unwrap().unwrap() else { panic!("a token is first") };
    assert_eq!((token.token.as_str(), token.index, token.cost_far.as_str()), ("a", 0, "0.0001"));
    let Event::Done(done) = within(events.next()).await.unwrap().unwrap() else { panic!("then the end") };
    assert_eq!(done.finish_reason, FinishReason::Length);
    let (session, rows) = recorded(&rig.store, &done.session_id).await;
    assert_eq!((session.status, session.tokens_generated, rows.len()), (Status::Completed, 1, 3));
    let paid: i64 = rows.iter().map(|row| row.contribution.payment.nano()).sum();
    assert_eq!((paid, session.total_cost.nano()), (100_000, 100_000));
    assert!(within(events.next()).await.is_none());
    rig.end().await;
}

#[tokio::test]
async fn chat_takes_messages_or_a_prompt() {
    let rig = Rig::new(MockEngine::saying(&["ok"])).await;
    let messages = [Message::system("be brief"), Message::user("hi")];
    let answer = rig.client.chat_whole(&GenerateRequest::chat(messages).seed(7).temperature(0.5)).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.cost_far.as_str(), answer.contributions.len()), ("ok", "0.0001", 3));
    let call = rig.engine.last_call();
    let said = |role, content: &str| token::Message { role: str::to_owned(role), content: content.into() };
    assert_eq!(call.prompt, Prompt::Chat(vec![said("system", "be brief"), said("user", "hi")]));
    assert_eq!((call.sampling.seed, call.sampling.temperature, call.max_tokens), (Some(7), 0.5, None));

    assert_eq!(call.region, None);

    let events = json_lines(rig.stream("/api/inference/chat", json!({ "prompt": "hi" })).await);
    assert_eq!(events.len(), 2);
    assert_eq!(rig.engine.last_call().prompt, Prompt::Chat(vec![said("user", "hi")]));
    rig.end().await;
}

#[tokio::test]
async fn a_region_is_preferred_by_its_name_and_required_by_an_object() {
    let rig = Rig::new(MockEngine::saying(&["ok"])).await;
    let prefer = RegionWish::Prefer("eu".into());
    let require = RegionWish::Require("us-east".into());
    for path in ["/inference/generate", "/v1/completions"] {
        rig.post_json(path, json!({ "prompt": "x", "stream": false, "region": "eu" }), 200).await;
        assert_eq!(rig.engine.last_call().region, Some(prefer.clone()), "{path}");
    }
    let messages = json!([{ "role": "user", "content": "x" }]);
    for path in ["/api/inference/chat", "/v1/chat/completions"] {
        let body = json!({ "messages": messages, "stream": false, "region": { "require": "us-east" } });
        rig.post_json(path, body, 200).await;
        assert_eq!(rig.engine.last_call().region, Some(require.clone()), "{path}");
    }
    let request = GenerateRequest::text("x").region(Region::Require { require: "us-east".into() });
    rig.client.generate_whole(&request).await.unwrap();
    assert_eq!(rig.engine.last_call().region, Some(require));

    let missing = vec![Span::new(10, 20).unwrap()];
    let nowhere = PlanError::Region { model: "m".into(), missing, region: "eu".into() };
    let error = crate::http::ApiError::from_generation(&HopError::NoRoute(nowhere).into(), "prompt");
    let detail = error.body().error;
    assert_eq!((detail.code.as_deref(), detail.param.as_deref()), (Some("region_not_served"), Some("region")));
    assert!(detail.message.contains("layers 10..20 of m are served, but not in region eu"), "{}", detail.message);
    rig.end().await;
}

#[tokio::test]
async fn what_fails_after_the_first_token_is_an_event_and_costs_nothing() {
    let rig = Rig::new(MockEngine::new(vec![Step::Say("a"), Step::Fail(mock::lost())])).await;
    let response = rig.post("/inference/generate", &json!({ "prompt": "x" })).await;
    assert_eq!(response.status().as_u16(), 200);
    let session = response.headers()["x-far-session"].to_str().unwrap().to_owned();
    let text = within(response.text()).await.unwrap();
    assert!(text.contains("\"node_lost\"") && text.contains("10..20") && !text.contains("[DONE]"), "{text}");
    let mut events = rig.client.generate(&GenerateRequest::text("x")).await.unwrap();
    assert!(matches!(within(events.next()).await, Some(Ok(Event::Token(_)))));
    let failure = within(events.next()).await;
    assert!(
        matches!(&failure, Some(Err(Error::Generation(detail))) if detail.message.contains("10..20")),
        "{failure:?}"
    );
    assert!(within(events.next()).await.is_none());
    let account = rig.client.session(&session).await.unwrap();
    assert_eq!((account.status, account.cost_far.as_str()), (SessionState::Failed, "0"));
    assert!(account.failure.unwrap().contains("after 1 tokens"));
    rig.end().await;
}

#[tokio::test]
async fn a_ledger_that_fails_is_told_instead_of_the_end() {
    let go = CancellationToken::new();
    let rig = Rig::new(MockEngine::new(vec![Step::Say("a"), Step::Wait(go.clone()), Step::Say("b")])).await;
    let mut events = rig.client.generate(&GenerateRequest::text("x")).await.unwrap();
    assert!(matches!(within(events.next()).await, Some(Ok(Event::Token(_)))));
    rig.store.close().await;
    go.cancel();
    assert!(matches!(within(events.next()).await, Some(Ok(Event::Token(_)))));
    let end = within(events.next()).await;
    assert!(
        matches!(&end, Some(Err(Error::Generation(detail))) if detail.code.as_deref() == Some("ledger_failed")),
        "{end:?}"
    );
    let health = rig.client.health().await.unwrap();
    assert!(health.mesh.ok && !health.ledger.ok && health.status == "unavailable", "{health:?}");
    rig.end().await;
}

#[tokio::test]
async fn a_live_session_can_be_watched() {
    let go = CancellationToken::new();
    let rig = Rig::new(MockEngine::new(vec![Step::Say("a"), Step::Wait(go.clone())])).await;
    let response = rig.post("/inference/generate", &json!({ "prompt": "x" })).await;
    let session = response.headers()["x-far-session"].to_str().unwrap().to_owned();
    let account = rig.client.session(&session).await.unwrap();
    assert_eq!((account.status, account.completion_tokens), (SessionState::Running, 1));
    assert_eq!((account.cost_far.as_str(), account.completed_at_ms), ("0.0001", None));
    assert_eq!(rig.client.status().await.unwrap().live_sessions, 1);
    go.cancel();
    assert!(within(response.text()).await.unwrap().ends_with("data: [DONE]\n\n"));
    assert_eq!(rig.client.session(&session).await.unwrap().status, SessionState::Completed);
    rig.end().await;
}

#[tokio::test]
async fn the_state_of_the_mesh_is_told() {
    let mut engine = MockEngine::saying(&["a"]);
    let mut partial = mock::model("half/model");
    partial.offers.remove(0);
    engine.models.push(partial);
    let rig = Rig::new(engine).await;

    let health = rig.client.health().await.unwrap();
    assert!(health.mesh.ok && health.ledger.ok && health.status == "ok");
    let status = rig.client.status().await.unwrap();
    assert_eq!((status.nodes, status.live_sessions, status.price_per_token_far.as_str()), (5, 0, "0.0001"));
    let half = &status.models[1];
    assert!(!half.complete && status.models[0].complete);
    let runs: Vec<_> = half.coverage.iter().map(|run| (run.layers, run.nodes)).collect();
    assert_eq!(runs, [([0, 19], 1), ([20, 29], 0)]);
    let models = rig.client.models().await.unwrap().models;
    assert_eq!((models.len(), models[0].id.as_str(), models[0].nodes), (2, MODEL, 3));
    let nodes = rig.client.nodes("half/model").await.unwrap();
    assert_eq!(nodes.nodes.iter().map(|node| node.layers).collect::<Vec<_>>(), [[0, 9], [10, 19]]);

    let error = rig.client.generate(&GenerateRequest::text("x").model("half/model")).await.unwrap_err();
    let Error::Refused { status: 503, detail, .. } = &error else { panic!("{error:?}") };
    assert!(detail.message.contains("20..30"), "{detail:?}");
    rig.end().await;
}
