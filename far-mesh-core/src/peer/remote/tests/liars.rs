//! What a coordinator does with hops that break the protocol or lie.

use std::time::Duration;

use bytes::Bytes;
use tokio_stream::StreamExt;

use super::{
    fabric::{Mesh, tokens},
    mock::MockHop,
    receipts::invented,
};
use crate::{
    activation::{Activation, Dtype},
    hop::{Done, Hop, HopError, HopSession, Rows},
    id::NodeId,
    peer::{
        RemoteHop, RemoteRoute, StepTime,
        wire::{Fault, Frame, Link, Lost, State, Tally},
    },
};

/// A provider whose every word is in a script: after `Open` and after the first step. It answers probes and `Close`.
struct Script {
    greeting: Frame,
    after_step: Vec<Frame>,
    state: State,
    tally: Tally,
}

impl Default for Script {
    fn default() -> Self {
        let state = State { received: 1, ..State::default() };
        Self { greeting: Frame::Opened, after_step: vec![], state, tally: Tally::default() }
    }
}

/// A route of one hop that follows the script; its session with one step under way. The provider lives as long as the
/// returned task.
async fn meet(script: Script) -> (Result<Box<dyn HopSession>, HopError>, NodeId, tokio::task::JoinHandle<()>) {
    let mesh = Mesh::new(&[]);
    let node = NodeId::random();
    let mut incoming = mesh.fabric.listen(node);
    let liar = tokio::spawn(async move {
        let (_, stream) = incoming.next().await.unwrap();
        let mut link = Link::accepted(stream);
        assert!(matches!(link.recv().await.unwrap(), Frame::Open(_)));
        link.send(script.greeting).await.unwrap();
        let mut after_step = Some(script.after_step);
        while let Ok(frame) = link.recv().await {
            let answers = match frame {
                Frame::Step(_) => after_step.take().unwrap_or_default(),
                Frame::Probe { number } => vec![Frame::State(State { probe: number, ..script.state })],
                Frame::Close => vec![Frame::Tally(script.tally)],
                _ => vec![],
            };
            for answer in answers {
                if link.send(answer).await.is_err() {
                    return;
                }
            }
        }
    });
    let hop = MockHop::new(0, 1);
    let hops = vec![RemoteHop {
        node,
        addrs: vec![],
        span: hop.span,
        kernel_class: String::new(),
        expected: StepTime::default(),
        promised: Duration::ZERO,
    }];
    let route = RemoteRoute::new(std::sync::Arc::new(mesh.fabric.port(mesh.coordinator)), hops).unwrap();
    let mut session = route.open(hop.request()).await;
    if let Ok(session) = &mut session {
        session.submit(tokens(0, 0, &[1, 2], Rows::Last)).await.unwrap();
    }
    (session, node, liar)
}

fn output(seq: u64, rows: usize, dtype: Dtype) -> Frame {
    result(seq, rows, 8, dtype)
}

fn result(seq: u64, rows: usize, hidden: usize, dtype: Dtype) -> Frame {
    let bytes = Bytes::from(vec![0; rows * hidden * dtype.bytes()]);
    let output = (rows > 0).then(|| Activation::new(rows, hidden, dtype, bytes).unwrap());
    Frame::Output(Done { seq, output })
}

#[tokio::test(start_paused = true)]
async fn outputs_that_do_not_fit_the_step_cost_the_hop_its_place() {
    let cases = [
        (vec![output(1, 1, Dtype::F32)], "1 rows of step 1 where 1 of step 0 were due"),
        (vec![output(0, 2, Dtype::F32)], "2 rows of step 0 where 1 of step 0 were due"),
        (vec![output(0, 0, Dtype::F32)], "0 rows of step 0"),
        (vec![output(0, 1, Dtype::F16)], "F16 of width 8, the session has F32"),
        (vec![Frame::Opened], "Opened frame out of place"),
        // Stopped at its header: 64 KiB are enough for the one row that is due, whatever its width.
        (vec![result(0, 512, 64, Dtype::F32)], "frame of 131104 bytes, must be 32 to 65568"),
        (
            vec![Frame::Fault(Fault::BadStep("your token is ugly".into()))],
            "finds fault with a step: your token is ugly",
        ),
        (
            vec![Frame::Lost(Lost { node: NodeId::random(), reason: "not I".into(), number: 0 })],
            "which is not beside it",
        ),
    ];
    for (after_step, want) in cases {
        let (session, liar_node, liar) = meet(Script { after_step, ..Script::default() }).await;
        match session.unwrap().next().await {
            Err(HopError::PeerLost { node, reason, .. }) => {
                assert_eq!(node, liar_node);
                assert!(reason.contains(want), "{reason}");
            }
            other => panic!("{want}: {other:?}"),
        }
        liar.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_output_nobody_asked_for_comes_after_the_one_that_was() {
    let after_step = vec![output(0, 1, Dtype::F32), output(1, 1, Dtype::F32)];
    let (session, node, liar) = meet(Script { after_step, ..Script::default() }).await;
    let mut session = session.unwrap();
    assert_eq!(session.next().await.unwrap().seq, 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let next = session.next().await;
    assert!(matches!(&next, Err(HopError::PeerLost { node: lost, .. }) if *lost == node), "{next:?}");
    drop(session);
    liar.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hop_that_says_done_and_sends_nothing_is_found() {
    let state = State { received: 1, finished: 1, ..State::default() };
    let (session, _, liar) = meet(Script { state, ..Script::default() }).await;
    let next = session.unwrap().next().await;
    assert!(matches!(&next, Err(HopError::PeerLost { reason, .. }) if reason.contains("does not send it")), "{next:?}");
    liar.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hop_that_hands_in_works_without_end_loses_its_place() {
    let flood = std::iter::repeat_n(Frame::Work(Box::new(invented())), 10_000);
    let after_step = std::iter::once(output(0, 1, Dtype::F32)).chain(flood).collect();
    let (session, node, liar) = meet(Script { after_step, ..Script::default() }).await;
    let mut session = session.unwrap();
    session.next().await.unwrap();
    session.submit(tokens(1, 2, &[1], Rows::Last)).await.unwrap();
    let next = session.next().await;
    let HopError::PeerLost { node: lost, reason, .. } = next.unwrap_err() else { panic!("not lost") };
    assert!(lost == node && reason.contains("more receipts than the session has room for"), "{reason}");
    drop(session);
    liar.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_hop_says_without_receipts_is_not_paid() {
    let tally = Tally { tokens: u64::MAX, steps: u64::MAX, compute_us: u64::MAX };
    let (session, node, liar) =
        meet(Script { after_step: vec![output(0, 1, Dtype::F32)], tally, ..Script::default() }).await;
    let mut session = session.unwrap();
    session.next().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let accounts = session.close().await.unwrap();
    assert_eq!((accounts[0].node, accounts[0].tokens, accounts[0].counted), (Some(node), 0, 2));
    assert!(accounts[0].compute <= Duration::from_secs(4), "{:?}", accounts[0].compute);
    liar.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hop_that_greets_with_another_frame_is_not_opened() {
    let (session, lost, liar) = meet(Script { greeting: Frame::Attached { next_seq: 0 }, ..Script::default() }).await;
    let error = session.err();
    assert!(matches!(&error, Some(HopError::PeerLost { node, .. }) if *node == lost), "{error:?}");
    liar.await.unwrap();
}
