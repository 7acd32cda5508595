use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::*;
use crate::{
    activation::{Activation, Dtype},
    hop::{Done, Input, Rows, Step},
    limits::{MAX_CHUNK_TOKENS, MAX_HIDDEN},
    peer::wire::{Attach, Kind},
};

const SESSION: SessionId = SessionId([5; 16]);

/// A stream that gives and takes at most `piece` bytes at once, counting how often it takes.
struct Pieces<S> {
    stream: S,
    piece: usize,
    writes: Arc<AtomicUsize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Pieces<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let end = bytes.len().min(self.piece);
        Pin::new(&mut self.stream).poll_read(cx, &mut bytes[..end])
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Pieces<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        let end = bytes.len().min(self.piece);
        Pin::new(&mut self.stream).poll_write(cx, &bytes[..end])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// Two links joined by a stream that moves `piece` bytes at once, and the number of writes of the first.
fn pair(piece: usize) -> (Link, Link, Arc<AtomicUsize>) {
    let (a, b) = tokio::io::duplex(1 << 20);
    let writes = Arc::<AtomicUsize>::default();
    let a = Pieces { stream: a.compat(), piece, writes: Arc::clone(&writes) };
    let b = Pieces { stream: b.compat(), piece, writes: Arc::default() };
    (Link::new(Box::new(a), SESSION), Link::new(Box::new(b), SESSION), writes)
}

fn step(seq: u64, rows: usize, hidden: usize) -> Frame {
    let bytes: Bytes = (0..rows * hidden * 4).map(|at| (at as u64 * 31 + seq) as u8).collect();
    let input = Input::Activation(Activation::new(rows, hidden, Dtype::F32, bytes).unwrap());
    Frame::Step(Step { seq, position: 7, input, output: Rows::All })
}

#[tokio::test]
async fn a_frame_the_stream_has_no_use_for_is_refused_at_its_header() {
    let (mut a, mut b, _) = pair(4096);
    b.limit_payload(64 * 16 * 4);
    a.send(step(0, 64, 16)).await.unwrap();
    assert!(b.recv().await.is_ok(), "as long as it may be");
    b.limit_payload(0);
    a.queue(step(1, MAX_CHUNK_TOKENS, MAX_HIDDEN)).unwrap();
    let refused = tokio::select! {
        frame = b.recv() => frame,
        sent = poll_fn(|cx| a.poll_drain(cx)) => panic!("{sent:?}, though nobody reads it"),
    };
    let most = 16 * 1024 + HEADER_BYTES - LENGTH_BYTES;
    assert!(matches!(refused, Err(LinkError::Frame(FrameError::Length { max, .. })) if max == most), "{refused:?}");
    assert!(b.received_bytes() < 32 * 1024, "{} bytes were read", b.received_bytes());
}

#[tokio::test]
async fn frames_arrive_whole_however_the_stream_cuts_them() {
    for piece in [1, 7, 36, 37, 1000, 1 << 20] {
        let (mut a, mut b, _) = pair(piece);
        let sizes = [(1, 1), (1, 576), (3, 4096), (17, 2000), (1, 3)];
        let sizes = &sizes[..if piece < 30 { 2 } else { 5 }];
        let send = async {
            for (seq, (rows, hidden)) in sizes.iter().enumerate() {
                a.queue(step(seq as u64, *rows, *hidden)).unwrap();
                a.queue(Frame::Probe { number: seq as u64 }).unwrap();
            }
            poll_fn(|cx| a.poll_drain(cx)).await.unwrap();
        };
        let receive = async {
            for (seq, (rows, hidden)) in sizes.iter().enumerate() {
                let got = b.recv().await.unwrap();
                assert!(format!("{got:?}") == format!("{:?}", step(seq as u64, *rows, *hidden)), "piece {piece}");
                assert!(matches!(b.recv().await.unwrap(), Frame::Probe { number } if number == seq as u64));
            }
        };
        tokio::join!(send, receive);
    }
}

#[tokio::test]
async fn small_frames_leave_in_one_write() {
    let (mut a, mut b, writes) = pair(1 << 20);
    a.queue(step(0, 1, 576)).unwrap();
    a.queue(Frame::Close).unwrap();
    poll_fn(|cx| a.poll_drain(cx)).await.unwrap();
    assert_eq!(writes.load(Ordering::SeqCst), 1);
    b.recv().await.unwrap();
    assert!(matches!(b.recv().await.unwrap(), Frame::Close));
}

#[tokio::test]
async fn a_frame_that_was_announced_takes_room_only_as_it_arrives() {
    let Frame::Step(Step { seq, position, output, .. }) = step(0, 1, 1) else { unreachable!() };
    let bytes = Bytes::from(vec![0; MAX_CHUNK_TOKENS * MAX_HIDDEN * 4]);
    let input = Input::Activation(Activation::new(MAX_CHUNK_TOKENS, MAX_HIDDEN, Dtype::F32, bytes).unwrap());
    let (header, payload) = Frame::Step(Step { seq, position, input, output }).encode(session_tag(SESSION)).unwrap();
    let (mut a, b) = tokio::io::duplex(1 << 20);
    let mut link = Link::new(Box::new(b.compat()), SESSION);
    tokio::io::AsyncWriteExt::write_all(&mut a, &header).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut a, &payload[..100_000]).await.unwrap();
    assert!(futures::FutureExt::now_or_never(link.recv()).is_none());
    assert!(link.read.payload.capacity() <= 4 * TRUST_BYTES, "{}", link.read.payload.capacity());
    assert_eq!(link.received_bytes(), 100_000 + HEADER_BYTES as u64);
    drop(a);
    match link.recv().await {
        Err(LinkError::Truncated { missing_bytes }) => assert_eq!(missing_bytes, payload.len() - 100_000),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn both_sides_may_send_a_lot_before_either_reads() {
    let (mut a, mut b, _) = pair(1 << 20);
    for seq in 0..8 {
        a.queue(step(seq, 512, 1024)).unwrap();
        b.queue(step(seq, 512, 1024)).unwrap();
    }
    let drive = |mut link: Link| async move {
        for want in 0..8 {
            assert!(matches!(link.recv().await.unwrap(), Frame::Step(step) if step.seq == want));
        }
        poll_fn(|cx| link.poll_drain(cx)).await.unwrap();
        link
    };
    tokio::join!(drive(a), drive(b));
}

#[tokio::test]
async fn the_end_of_a_stream_is_told_from_a_cut() {
    let (a, mut b, _) = pair(100);
    drop(a);
    assert!(matches!(b.recv().await, Err(LinkError::Closed)));

    let (mut a, b) = tokio::io::duplex(1 << 20);
    let mut b = Link::new(Box::new(b.compat()), SESSION);
    let (header, _) = Frame::Close.encode(session_tag(SESSION)).unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut a, &header[..10]).await.unwrap();
    drop(a);
    assert!(matches!(b.recv().await, Err(LinkError::Truncated { missing_bytes: 26 })));
}

#[tokio::test]
async fn a_greeting_binds_an_accepted_link_to_its_session() {
    let greet = |frame: Frame, tag| async move {
        let (mut a, b) = tokio::io::duplex(1 << 20);
        let (header, payload) = frame.encode(tag).unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut a, &[&header[..], &payload].concat()).await.unwrap();
        let mut link = Link::accepted(Box::new(b.compat()));
        (link.recv().await, link.session)
    };
    let attach = || Frame::Attach(Attach { session: SESSION });
    let tag = session_tag(SESSION);
    assert!(matches!(greet(attach(), tag).await, (Ok(Frame::Attach(_)), Some(bound)) if bound == tag));
    let (other_tag, _) = greet(attach(), tag + 1).await;
    assert!(matches!(other_tag, Err(LinkError::Frame(FrameError::Session { .. }))), "{other_tag:?}");
    let (not_a_greeting, _) = greet(Frame::Output(Done { seq: 0, output: None }), tag).await;
    assert!(
        matches!(not_a_greeting, Err(LinkError::Frame(FrameError::Unexpected { got: Kind::Output, .. }))),
        "{not_a_greeting:?}"
    );
}

#[tokio::test]
async fn a_queue_that_nobody_reads_is_bounded() {
    let (mut a, _b, _) = pair(100);
    let queued = (0..1000).take_while(|number| a.queue(Frame::Probe { number: *number }).is_ok()).count();
    assert_eq!(queued, MAX_QUEUED_FRAMES);
}

/// A stream from which the same frame comes for ever, and which takes all.
struct Flood(Vec<u8>, usize);

impl AsyncRead for Flood {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self(frame, at) = &mut *self;
        for byte in bytes.iter_mut() {
            *byte = frame[*at];
            *at = (*at + 1) % frame.len();
        }
        Poll::Ready(Ok(bytes.len()))
    }
}

impl AsyncWrite for Flood {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_flood_of_frames_lets_deadlines_pass() {
    let (header, payload) = Frame::Probe { number: 1 }.encode(session_tag(SESSION)).unwrap();
    let mut link = Link::new(Box::new(Flood([&header[..], &payload].concat(), 0)), SESSION);
    let (mut frames, patience) = (0_u64, std::time::Duration::from_millis(20));
    let all = async {
        while let Ok(Frame::Probe { number }) = link.recv().await {
            link.queue(Frame::Probe { number }).unwrap();
            frames += 1;
            assert!(frames < 50_000_000, "the task never gets to its deadline");
        }
    };
    assert!(tokio::time::timeout(patience, all).await.is_err(), "frames come for ever");
    assert!(frames > MAX_BURST as u64, "all of them are taken: {frames}");
}
