//! What the ledger holds once the coordinator has ended, against what clients were told.

use std::collections::BTreeMap;

use far_ledger::{Amount, Ledger, Status, Store, UnixMillis};
use far_mesh_client::schema::{Done, Event, GenerateRequest};
use far_mesh_tests::Testnet;
use futures::StreamExt;

use super::{
    process::until,
    text::{MODEL, PRICE_NANO, PROMPT, nano},
};

async fn ask(net: &Testnet, tokens: u32) -> Done {
    let request = GenerateRequest::text(PROMPT).max_tokens(tokens).temperature(0.0);
    let mut events = net.client().chat(&request).await.unwrap();
    loop {
        match events.next().await.expect("it has an end").unwrap() {
            Event::Token(_) => {}
            Event::Done(done) => return done,
        }
    }
}

#[tokio::test]
async fn sessions_contributions_and_totals_are_what_clients_were_told() {
    let net = Testnet::start(3).await;
    let file = net.dir().join("coordinator/ledger.sqlite");
    let mut told = Vec::new();
    for tokens in [1, 7, 32] {
        told.push(ask(&net, tokens).await);
    }
    // Another process may read along; wallets come with adverts, which the ledger hears of every other second.
    let store = Ledger::open(&file).await.unwrap();
    until("all three nodes have a wallet", async || {
        let nodes = store.active_nodes(UnixMillis::default()).await.unwrap();
        (nodes.iter().filter(|node| node.node.wallet.is_some()).count() == 3).then_some(())
    })
    .await;
    store.close().await;
    let spans: Vec<_> = net.mesh.providers().iter().map(|part| part.ready.peer_id.clone()).collect();
    let _dir = net.stop().await;

    let store = Ledger::open(&file).await.unwrap();
    let mut earned = BTreeMap::<String, (u64, i64)>::new();
    for done in &told {
        let session = store.session(&done.session_id).await.unwrap().expect("every session is written");
        assert_eq!((session.status, session.begun.model_id.as_str()), (Status::Completed, MODEL));
        assert_eq!(session.tokens_generated, u64::from(done.usage.completion_tokens));
        assert_eq!(session.total_cost.to_string(), done.cost_far);
        assert_eq!(session.total_cost.nano(), i64::from(done.usage.completion_tokens) * PRICE_NANO);
        assert!(session.completed_at >= Some(session.begun.started_at) && session.begun.prompt_text.is_none());
        let rows = store.contributions(&done.session_id).await.unwrap();
        assert_eq!(rows.len(), done.contributions.len());
        for (row, told) in rows.iter().zip(&done.contributions) {
            let part = &row.contribution;
            assert_eq!((&part.node_id, part.tokens, part.compute_ms), (&told.node_id, told.tokens, told.compute_ms));
            assert_eq!([part.layers_start, part.layers_end - 1], told.layers);
            assert_eq!((part.payment.nano(), row.paid_at), (nano(&told.payment_far), None));
            let sum = earned.entry(part.node_id.clone()).or_default();
            *sum = (sum.0 + part.tokens, sum.1 + part.payment.nano());
        }
        assert_eq!(Amount::checked_sum(rows.iter().map(|row| row.contribution.payment)), Some(session.total_cost));
    }

    let nodes = store.active_nodes(UnixMillis::default()).await.unwrap();
    assert_eq!(nodes.len(), 3);
    for row in nodes {
        let number = spans.iter().position(|id| *id == row.node.node_id).expect("a provider") + 1;
        assert_eq!(row.node.wallet.unwrap().to_string().to_lowercase(), format!("0x{number:040x}"));
        assert_eq!((row.total_tokens_served, row.total_earned.nano()), earned[&row.node.node_id]);
        let summary = store.node_earnings(&row.node.node_id).await.unwrap().unwrap();
        assert_eq!((summary.sessions, summary.earned, summary.unpaid), (3, row.total_earned, row.total_earned));
    }
    store.close().await;
}
