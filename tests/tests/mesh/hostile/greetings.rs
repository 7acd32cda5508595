//! Sessions that a provider must not begin.

use far_mesh_core::{
    activation::Dtype,
    id::{ModelHash, SessionId},
    peer::{
        SHARD_PROTOCOL,
        wire::{Attach, BUILD, Fault, Frame, Link, Open, Source},
    },
};

use super::{Targets, closed, good_open, next_fault};
use crate::net::{hash, hop, span};

#[tokio::test]
async fn an_open_that_does_not_fit_is_refused_with_both_values() {
    let targets = Targets::start().await;
    let good = || good_open("0..10");
    let (model, other) = (hash().to_string(), ModelHash([9; 32]));
    let refused: [(Open, [&str; 2]); 9] = [
        (Open { model: other, ..good() }, [&other.to_string(), &model]),
        (Open { span: span("5..15"), ..good() }, ["5..15", "0..10"]),
        (Open { span: span("10..20"), ..good() }, ["10..20", "0..10"]),
        (Open { dtype: Dtype::F16, ..good() }, ["F16", "F32"]),
        (Open { dtype: Dtype::Bf16, ..good() }, ["Bf16", "F32"]),
        (Open { protocol: 7, ..good() }, ["protocol 7", "speaks 1"]),
        (Open { build: "0.0.7".into(), ..good() }, ["0.0.7", BUILD]),
        (Open { context_tokens: 0, ..good() }, ["0 tokens", ""]),
        (Open { context_tokens: u32::MAX, ..good() }, ["4294967295", "8192"]),
    ];
    for (open, values) in refused {
        let (mut link, answer) = targets.open(targets.first(), &open).await;
        let Frame::Fault(Fault::Refused(reason)) = answer else { panic!("{answer:?} to {open:?}") };
        assert!(values.iter().all(|value| reason.contains(value)), "{reason}: {values:?}");
        closed(&mut link).await;
    }
    targets.unharmed("sessions that do not fit").await;
    targets.stop().await;
}

#[tokio::test]
async fn nobody_gets_into_the_session_of_another() {
    let targets = Targets::start().await;
    // A session that waits for its steps from the honest node.
    let open = Open { source: Source::Peer(targets.honest.id()), ..good_open("10..20") };
    let (mut session, first) = {
        let mut link = Link::new(Box::new(targets.stream(targets.second()).await), open.session);
        link.send(Frame::Open(Box::new(open.clone()))).await.unwrap();
        let opened = link.recv().await.unwrap();
        (link, opened)
    };
    assert!(matches!(first, Frame::Opened), "{first:?}");
    let mut thief = Link::new(Box::new(targets.stream(targets.second()).await), open.session);
    thief.send(Frame::Attach(Attach { session: open.session })).await.unwrap();
    // The coordinator could name it yet, so it is kept for a while, and nobody listens to it.
    closed(&mut thief).await;
    // The same name once more, of another coordinator.
    let to = hop(targets.second(), "10..20");
    let stream = targets.honest.open_stream(to.node, &to.addrs, SHARD_PROTOCOL).await.unwrap();
    let mut other = Link::new(Box::new(stream), open.session);
    other.send(Frame::Open(Box::new(open.clone()))).await.unwrap();
    let Fault::Refused(reason) = next_fault(&mut other).await else { panic!() };
    assert!(reason.contains("open here already"), "{reason}");
    // The session of all this does not notice.
    session.send(Frame::Probe { number: 3 }).await.unwrap();
    assert!(matches!(session.recv().await, Ok(Frame::State(state)) if state.probe == 3));
    // Its own coordinator may have lost hold of it and opens it anew.
    let (again, answer) = targets.open(targets.second(), &open).await;
    assert!(matches!(answer, Frame::Opened), "{answer:?}");
    closed(&mut session).await;
    drop((session, again, other, thief));

    // A session that nobody opens.
    let nobody = SessionId::random();
    let mut early = Link::new(Box::new(targets.stream(targets.second()).await), nobody);
    early.send(Frame::Attach(Attach { session: nobody })).await.unwrap();
    closed(&mut early).await;
    targets.unharmed("streams for sessions of others").await;
    targets.stop().await;
}
