//! What a provider does with callers that break the protocol: an error that names the values, and its room back.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{
    future::BoxFuture,
    io::{AsyncReadExt, AsyncWriteExt},
};
use libp2p::{Multiaddr, identity::Keypair};
use tokio::time::{Instant, timeout};

use super::{
    fabric::{Mesh, Port, generate, generate_locally, tokens},
    mock::MockHop,
};
use crate::{
    activation::{Activation, Dtype},
    hop::{Hop, HopError, Input, OpenSession, Rows, Step},
    id::{NodeId, SessionId, Span},
    limits::{MAX_CHUNK_TOKENS, MAX_STEPS_IN_FLIGHT},
    peer::{
        ServeConfig, serve,
        wire::{
            Attach, BUILD, BoxedStream, DialError, Dialer, Fault, Frame, Link, LinkError, Open, PROTOCOL_VERSION,
            Source,
        },
    },
};

const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn open_frame(request: &OpenSession, source: Source) -> Open {
    Open {
        protocol: PROTOCOL_VERSION,
        build: BUILD.to_owned(),
        session: request.session,
        model: request.model,
        span: request.span,
        dtype: request.dtype,
        context_tokens: 16,
        source,
        next: None,
        answered: 0,
        submitted: 0,
    }
}

/// A stream to the first provider, opened by `from`.
pub(super) async fn dial(mesh: &Mesh, from: NodeId, session: SessionId) -> Link {
    Link::new(mesh.fabric.port(from).open(mesh.node(0), vec![]).await.unwrap(), session)
}

/// A session at the first provider, spoken by hand.
pub(super) async fn begin(mesh: &Mesh, source: Source) -> (Link, OpenSession) {
    let request = mesh.mocks[0].request();
    let mut link = dial(mesh, mesh.coordinator, request.session).await;
    link.send(Frame::Open(Box::new(open_frame(&request, source)))).await.unwrap();
    assert!(matches!(link.recv().await.unwrap(), Frame::Opened));
    (link, request)
}

/// The fault that ends a link, as text.
pub(super) async fn fault(link: &mut Link) -> String {
    loop {
        match timeout(MINUTE, link.recv()).await.expect("an answer in time") {
            Ok(Frame::Fault(fault)) => return format!("{fault:?}"),
            Ok(Frame::Lost(lost)) => return format!("{lost:?}"),
            Ok(_) => {}
            Err(error) => return format!("no fault: {error}"),
        }
    }
}

pub(super) fn hidden(seq: u64, position: u32, rows: usize, width: usize, dtype: Dtype) -> Step {
    let bytes = Bytes::from(vec![0; rows * width * dtype.bytes()]);
    let input = Input::Activation(Activation::new(rows, width, dtype, bytes).unwrap());
    Step { seq, position, input, output: Rows::Last }
}

#[tokio::test(start_paused = true)]
async fn steps_that_break_the_session_are_named() {
    let cases = [
        (tokens(1, 0, &[1], Rows::Last), "step 1 where step 0 was due"),
        (tokens(0, 5, &[1], Rows::Last), "position 5 where position 0 was due"),
        (tokens(0, 0, &[1; 17], Rows::Last), "17 tokens at position 0 pass the session's 16"),
        (hidden(0, 0, 1, 8, Dtype::F32), "hidden states where token ids were due"),
    ];
    for (step, want) in cases {
        let mesh = Mesh::new(&[0, 1]);
        let (mut link, _) = begin(&mesh, Source::Coordinator).await;
        link.send(Frame::Step(step)).await.unwrap();
        let said = fault(&mut link).await;
        assert!(said.contains("BadStep") && said.contains(want), "{said}");
        mesh.all_free().await;
    }
    let cases = [
        (hidden(0, 0, 1, 8, Dtype::Bf16), "activation of Bf16 in a session of F32"),
        (hidden(0, 0, 1, 9, Dtype::F32), "width 9 into a model of 8"),
        (tokens(0, 0, &[1], Rows::Last), "token ids where hidden states were due"),
    ];
    for (step, want) in cases {
        let mesh = Mesh::new(&[3, 4]);
        let (mut link, _) = begin(&mesh, Source::Coordinator).await;
        link.send(Frame::Step(step)).await.unwrap();
        let said = fault(&mut link).await;
        assert!(said.contains("BadStep") && said.contains(want), "{said}");
        mesh.all_free().await;
    }
}

/// Dials through a port what anybody may name: no address of 10.0.0.0/8.
#[derive(Debug)]
struct Wary {
    port: Port,
    dialed: Mutex<Vec<Multiaddr>>,
}

impl Dialer for Wary {
    fn open(&self, peer: NodeId, addrs: Vec<Multiaddr>) -> BoxFuture<'_, Result<BoxedStream, DialError>> {
        self.dialed.lock().unwrap().extend(addrs);
        self.port.open(peer, vec![])
    }

    fn key(&self) -> &Keypair {
        self.port.key()
    }

    fn rtt(&self, peer: NodeId) -> Option<Duration> {
        self.port.rtt(peer)
    }

    fn may_name(&self, from: NodeId, addr: &Multiaddr) -> bool {
        from != self.port.node && !addr.to_string().starts_with("/ip4/10.")
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_dials_no_address_that_its_coordinator_may_not_name() {
    let mut mesh = Mesh::new(&[0, 1, 2]);
    let (near, far) = ("/ip4/10.0.0.1/tcp/22".parse().unwrap(), "/ip4/8.8.8.8/tcp/1".parse().unwrap());
    mesh.hops[1].addrs = vec![near, far];
    let wary = Arc::new(Wary { port: mesh.fabric.port(mesh.node(0)), dialed: Mutex::default() });
    let (incoming, hop) = (mesh.fabric.listen(mesh.node(0)), Arc::new(mesh.mocks[0].clone()));
    mesh.servers[0] = serve(Arc::clone(&wary) as Arc<dyn Dialer>, incoming, hop, ServeConfig::default());
    generate(mesh.open().await.as_mut(), 0, &[], 2).await;
    assert_eq!(*wary.dialed.lock().unwrap(), mesh.hops[1].addrs[1..]);
    mesh.all_free().await;
}

#[tokio::test(start_paused = true)]
async fn more_steps_than_the_window_are_not_taken() {
    let mesh = Mesh::with(&[0, 1], ServeConfig::default(), |_, mock| mock.delay = MINUTE);
    let (mut link, _) = begin(&mesh, Source::Coordinator).await;
    for at in 0..=MAX_STEPS_IN_FLIGHT {
        link.send(Frame::Step(tokens(at as u64, at as u32, &[1], Rows::Last))).await.unwrap();
    }
    let said = fault(&mut link).await;
    assert!(said.contains("step 8 comes while 8 are on their way"), "{said}");
    mesh.all_free().await;
}

#[tokio::test(start_paused = true)]
async fn frames_of_another_session_or_out_of_place_end_it() {
    let mesh = Mesh::new(&[0, 1]);
    for frame in [Frame::Opened, Frame::Attached { next_seq: 0 }, Frame::Attach(Attach { session: SessionId([1; 16]) })]
    {
        let (mut link, _) = begin(&mesh, Source::Coordinator).await;
        let kind = format!("{:?}", frame.kind());
        link.send(frame).await.unwrap();
        let said = fault(&mut link).await;
        assert!(said.contains(&kind) || said.contains("session"), "{said}");
        mesh.all_free().await;
    }
    // Whoever sends a stranger's session into his own stream is stopped by the tag in the header.
    let request = mesh.mocks[0].request();
    let mut stream = mesh.fabric.port(mesh.coordinator).open(mesh.node(0), vec![]).await.unwrap();
    let open = Frame::Open(Box::new(open_frame(&request, Source::Coordinator)));
    write(&mut stream, open, request.session).await;
    write(&mut stream, Frame::Step(tokens(0, 0, &[1], Rows::Last)), SessionId([9; 16])).await;
    let mut link = Link::new(stream, request.session);
    let said = fault(&mut link).await;
    assert!(said.contains("frame of session 0909090909090909 on a stream of session"), "{said}");
    mesh.all_free().await;
}

async fn write(stream: &mut (impl AsyncWriteExt + Unpin), frame: Frame, session: SessionId) {
    let (header, payload) = frame.encode(crate::peer::wire::session_tag(session)).unwrap();
    stream.write_all(&header).await.unwrap();
    stream.write_all(&payload).await.unwrap();
    stream.flush().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn garbage_is_answered_with_its_fault_and_closed() {
    let request = MockHop::new(0, 1).request();
    let open = Frame::Open(Box::new(open_frame(&request, Source::Coordinator)));
    let (header, _) = open.encode(crate::peer::wire::session_tag(request.session)).unwrap();
    let mut long = header;
    long[0..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut newer = header;
    newer[4] = 2;
    let mut early = header;
    (early[0], early[1], early[5]) = (32, 0, 4);
    let cases: [(&[u8], &str); 4] = [
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1:31330\r\n\r\n", "protocol version 47"),
        (&long, "frame of 4294967295 bytes"),
        (&newer, "protocol version 2, this node speaks 1"),
        (&early, "Probe frame where Open, Attach or Resume was due"),
    ];
    let mesh = Mesh::new(&[0, 1]);
    for (garbage, want) in cases {
        let mut stream = mesh.fabric.port(mesh.coordinator).open(mesh.node(0), vec![]).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let mut said = vec![];
        // Ends: the provider closes the stream though this side never does.
        timeout(MINUTE, stream.read_to_end(&mut said)).await.expect("closed in time").unwrap();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains(want), "{said}");
        assert_eq!(mesh.servers[0].sessions(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_within_a_session_ends_it() {
    let mesh = Mesh::new(&[0, 1]);
    let request = mesh.mocks[0].request();
    let mut stream = mesh.fabric.port(mesh.coordinator).open(mesh.node(0), vec![]).await.unwrap();
    write(&mut stream, Frame::Open(Box::new(open_frame(&request, Source::Coordinator))), request.session).await;
    stream.write_all(&[0xFF; 100]).await.unwrap();
    let said = fault(&mut Link::new(stream, request.session)).await;
    assert!(said.contains("protocol version 255"), "{said}");
    mesh.all_free().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_fit_this_node_is_refused() {
    type Change = fn(&mut Open);
    let cases: [(Change, &str); 4] = [
        (|open| open.protocol = 9, "protocol 9 was asked for, this node speaks 1"),
        (|open| open.build = "7.7.7".to_owned(), "build 7.7.7 was asked for, this node runs"),
        (|open| open.span = Span::new(0, 2).unwrap(), "layers 0..2 were asked for, this node serves 0..1"),
        (|open| open.context_tokens = 0, "a session of 0 tokens"),
    ];
    let mesh = Mesh::new(&[0, 1]);
    for (change, want) in cases {
        let request = mesh.mocks[0].request();
        let mut open = open_frame(&request, Source::Coordinator);
        change(&mut open);
        let mut link = dial(&mesh, mesh.coordinator, request.session).await;
        link.send(Frame::Open(Box::new(open))).await.unwrap();
        let said = fault(&mut link).await;
        assert!(said.contains("Refused") && said.contains(want), "{said}");
    }
    let (_link, request) = begin(&mesh, Source::Coordinator).await;
    let mut again = dial(&mesh, NodeId::random(), request.session).await;
    again.send(Frame::Open(Box::new(open_frame(&request, Source::Coordinator)))).await.unwrap();
    assert!(fault(&mut again).await.contains("open here already"));
}

#[tokio::test(start_paused = true)]
async fn a_silent_stranger_holds_nothing() {
    let config = ServeConfig { max_greetings_per_peer: 2, ..ServeConfig::default() };
    let mesh = Mesh::with(&[0, 1], config.clone(), |_, _| {});
    let stranger = mesh.fabric.port(NodeId::random());
    let mut held = vec![];
    for _ in 0..2 {
        held.push(stranger.open(mesh.node(0), vec![]).await.unwrap());
    }
    let mut third = stranger.open(mesh.node(0), vec![]).await.unwrap();
    let start = Instant::now();
    assert_eq!(third.read(&mut [0]).await.unwrap(), 0, "closed at once");
    assert_eq!(start.elapsed(), Duration::ZERO);
    generate(mesh.open().await.as_mut(), 0, &[], 1).await;
    assert_eq!(held[0].read(&mut [0]).await.unwrap(), 0, "closed when the deadline passed");
    assert_eq!(start.elapsed(), config.greeting_deadline);
    // His places are free again.
    let mut fourth = Link::new(stranger.open(mesh.node(0), vec![]).await.unwrap(), SessionId([1; 16]));
    fourth.send(Frame::Attach(Attach { session: SessionId([1; 16]) })).await.unwrap();
    assert!(fault(&mut fourth).await.contains("no fault: the stream was closed"), "parked, then closed");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_sessions_leaves_room_for_others() {
    let config = ServeConfig { max_sessions_per_peer: 3, ..ServeConfig::default() };
    let mesh = Mesh::with(&[0, 1], config, |_, _| {});
    let mut held = vec![];
    for _ in 0..3 {
        held.push(mesh.open().await);
    }
    let over = mesh.route().open(mesh.request()).await.err().unwrap();
    assert!(matches!(over.cause(), HopError::Full { free_tokens: 0, .. }), "{over:?}");
    let request = mesh.mocks[0].request();
    let mut other = dial(&mesh, NodeId::random(), request.session).await;
    other.send(Frame::Open(Box::new(open_frame(&request, Source::Coordinator)))).await.unwrap();
    assert!(matches!(other.recv().await.unwrap(), Frame::Opened));
    drop((held, other));
    mesh.all_free().await;
    generate(mesh.open().await.as_mut(), 0, &[], 1).await;
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_alone_hold_no_room() {
    let config = ServeConfig { idle: Duration::from_secs(10), ..ServeConfig::default() };
    let mesh = Mesh::with(&[0, 4], config, |_, _| {});
    let (mut control, _) = begin(&mesh, Source::Coordinator).await;
    let begun = tokio::time::Instant::now();
    let mut number = 0;
    let told = loop {
        // The stream may close between its last word and the next question.
        let _ = control.send(Frame::Probe { number }).await;
        match control.recv().await.unwrap() {
            Frame::State(_) => number += 1,
            Frame::Fault(fault) => break format!("{fault:?}"),
            other => panic!("{:?}", other.kind()),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    assert!(told.contains("no step came for 10s"), "{told}");
    assert!((10..=20).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    drop(control);
    mesh.all_free().await;
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_gets_no_more_positions_than_its_share() {
    let tokens = u64::from(Mesh::new(&[0, 1]).request().context_tokens);
    let config = ServeConfig { max_tokens_per_peer: 2 * tokens + 1, ..ServeConfig::default() };
    let mesh = Mesh::with(&[0, 1], config, |_, _| {});
    let held = [mesh.open().await, mesh.open().await];
    let over = mesh.route().open(mesh.request()).await.err().unwrap();
    assert!(matches!(over.cause(), HopError::Full { free_tokens: 1, .. }), "{over:?}");
    drop(held);
    mesh.all_free().await;
    drop(mesh.open().await);
}

#[tokio::test(start_paused = true)]
async fn probes_are_answered_while_the_shard_computes() {
    let mesh = Mesh::with(&[0, 1], ServeConfig::default(), |_, mock| mock.delay = MINUTE);
    let (mut link, _) = begin(&mesh, Source::Coordinator).await;
    link.send(Frame::Step(tokens(0, 0, &[1; MAX_CHUNK_TOKENS.div_ceil(64)], Rows::Last))).await.unwrap();
    let start = Instant::now();
    link.send(Frame::Probe { number: 3 }).await.unwrap();
    match link.recv().await.unwrap() {
        Frame::State(state) => assert_eq!((state.probe, state.received, state.finished), (3, 1, 0)),
        frame => panic!("{frame:?}"),
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_asks_and_never_reads_stops_itself() {
    let mesh = Mesh::new(&[0, 1]);
    let (mut link, _) = begin(&mesh, Source::Coordinator).await;
    let flood = async {
        for number in 0..100_000 {
            link.send(Frame::Probe { number }).await?;
        }
        Ok::<(), LinkError>(())
    };
    assert!(timeout(MINUTE, flood).await.is_err(), "the provider reads no more than it can answer");
    assert_eq!(
        generate(mesh.open().await.as_mut(), 1, &[2], 2).await,
        generate_locally(1, 1, &[2], 2).await,
        "others are served"
    );
    drop(link);
    mesh.all_free().await;
}

#[tokio::test]
async fn faults_carry_texts_of_bounded_length_without_control_characters() {
    match Fault::Refused(format!("{}\n\u{1b}[31m", "ß".repeat(2000))).bounded() {
        Fault::Refused(text) => assert!(text.len() <= 1024 && !text.contains(char::is_control)),
        other => panic!("{other:?}"),
    }
    assert_eq!(Fault::BadStep("a\nb".into()).bounded(), Fault::BadStep("a b".into()));
}
