//! Who may hand a hop its steps: the neighbour its coordinator announced, once, and within the protocol.

use std::time::Duration;

use super::{
    fabric::Mesh,
    strangers::{begin, dial, fault, hidden, open_frame},
};
use crate::{
    activation::Dtype,
    hop::OpenSession,
    id::NodeId,
    peer::wire::{Attach, Frame, Source},
};

#[tokio::test(start_paused = true)]
async fn only_the_announced_neighbour_may_attach() {
    let mesh = Mesh::new(&[3, 4]);
    let (neighbour, stranger) = (NodeId::random(), NodeId::random());
    let (mut control, OpenSession { session, .. }) = begin(&mesh, Source::Peer(neighbour)).await;
    let attach = Frame::Attach(Attach { session });

    // The coordinator might name it yet, so it is not sent away at once; until then nobody listens to it.
    let mut wrong = dial(&mesh, stranger, session).await;
    wrong.send(attach.clone()).await.unwrap();

    let mut right = dial(&mesh, neighbour, session).await;
    right.send(attach.clone()).await.unwrap();
    assert!(matches!(right.recv().await.unwrap(), Frame::Attached { next_seq: 0 }));
    let mut second = dial(&mesh, neighbour, session).await;
    second.send(attach).await.unwrap();

    right.send(Frame::Step(hidden(0, 0, 2, 8, Dtype::F32))).await.unwrap();
    assert!(matches!(control.recv().await.unwrap(), Frame::Output(_)));
    for unwanted in [&mut wrong, &mut second] {
        assert!(fault(unwanted).await.contains("no fault: the stream was closed"));
    }
    // Steps come from the neighbour only.
    control.send(Frame::Step(hidden(1, 2, 1, 8, Dtype::F32))).await.unwrap();
    assert!(fault(&mut control).await.contains("Activation frame on a control stream"));
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_that_attaches_early_is_kept_for_its_session() {
    let mesh = Mesh::new(&[3, 4]);
    let request = mesh.mocks[0].request();
    let neighbour = NodeId::random();
    let mut early = dial(&mesh, neighbour, request.session).await;
    early.send(Frame::Attach(Attach { session: request.session })).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut control = dial(&mesh, mesh.coordinator, request.session).await;
    control.send(Frame::Open(Box::new(open_frame(&request, Source::Peer(neighbour))))).await.unwrap();
    assert!(matches!(early.recv().await.unwrap(), Frame::Attached { next_seq: 0 }));
    assert!(matches!(control.recv().await.unwrap(), Frame::Opened));
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_that_breaks_the_protocol_is_named_to_the_coordinator() {
    let cases = [
        (Some(Frame::Step(hidden(4, 0, 1, 8, Dtype::F32))), "step 4 where step 0 was due"),
        (Some(Frame::Step(hidden(0, 0, 1, 8, Dtype::F16))), "activation of F16 in a session of F32"),
        (Some(Frame::Opened), "Opened frame where a step was due"),
        (Some(Frame::Close), "it ended a session that goes on"),
        (None, "the stream was closed"),
    ];
    for (frame, want) in cases {
        let mesh = Mesh::new(&[3, 4]);
        let neighbour = NodeId::random();
        let (mut control, OpenSession { session, .. }) = begin(&mesh, Source::Peer(neighbour)).await;
        let mut data = dial(&mesh, neighbour, session).await;
        data.send(Frame::Attach(Attach { session })).await.unwrap();
        assert!(matches!(data.recv().await.unwrap(), Frame::Attached { next_seq: 0 }));
        match frame {
            Some(frame) => data.send(frame).await.unwrap(),
            None => drop(data),
        }
        let said = fault(&mut control).await;
        assert!(said.contains(want) && said.contains(&format!("{neighbour:?}")), "{said}");
        drop(control);
        mesh.all_free().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_neighbour_that_never_attaches_is_named_to_the_coordinator() {
    let mesh = Mesh::new(&[3, 4]);
    let neighbour = NodeId::random();
    let (mut control, _) = begin(&mesh, Source::Peer(neighbour)).await;
    let said = fault(&mut control).await;
    assert!(said.contains("did not attach within 10s"), "{said}");
    drop(control);
    mesh.all_free().await;
}
