//! Links between two ends, in tokio's paused time.

use std::sync::Mutex;

use futures::{FutureExt as _, future::BoxFuture};
use libp2p::{Multiaddr, identity::Keypair};
use tokio::time::Instant as Clock;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use super::*;
use crate::{
    id::SessionId,
    peer::wire::{BoxedStream, DialError, Frame, Link, LinkError},
};

const SESSION: SessionId = SessionId([5; 16]);

/// Ten frames a second, twenty at once, two seconds above that.
const TEN: Allowance = Allowance {
    frames_per_second: 10,
    frames_at_once: 20,
    bytes_per_second: 1 << 30,
    bytes_at_once: 1 << 30,
    slowed_at_most: Duration::from_secs(2),
};

/// Notes on whom it hung up.
#[derive(Debug)]
struct Phone {
    key: Keypair,
    hung_up: Mutex<Vec<NodeId>>,
}

impl Dialer for Phone {
    fn open(&self, _: NodeId, _: Vec<Multiaddr>) -> BoxFuture<'_, Result<BoxedStream, DialError>> {
        std::future::pending().boxed()
    }

    fn key(&self) -> &Keypair {
        &self.key
    }

    fn rtt(&self, _: NodeId) -> Option<Duration> {
        None
    }

    fn hang_up(&self, peer: NodeId) {
        self.hung_up.lock().unwrap().push(peer);
    }
}

fn meter(allowance: Allowance) -> (Arc<Meter>, Arc<Phone>) {
    let phone = Arc::new(Phone { key: Keypair::generate_ed25519(), hung_up: Mutex::default() });
    let meter = Meter::new(NodeId::random(), Arc::clone(&phone) as _, allowance, Clock::now().into_std());
    (Arc::new(meter), phone)
}

/// A link that is read through the meter, and the other end of it, on which frames go out without pause.
fn flood(meter: &Arc<Meter>) -> (Link, tokio::task::JoinHandle<()>) {
    let (a, b) = tokio::io::duplex(1 << 10);
    let mut sender = Link::new(Box::new(a.compat()), SESSION);
    let sending = tokio::spawn(async move {
        let mut number = 0;
        while sender.send(Frame::Probe { number }).await.is_ok() {
            number += 1;
        }
    });
    (Link::new(Box::new(b.compat()), SESSION).metered(Arc::clone(meter)), sending)
}

#[tokio::test(start_paused = true)]
async fn who_sends_too_fast_is_read_later() {
    let (meter, _) = meter(Allowance { slowed_at_most: Duration::from_secs(60), ..TEN });
    let (mut link, _sending) = flood(&meter);
    let start = Clock::now();
    for _ in 0..20 {
        link.recv().await.unwrap();
    }
    assert_eq!(start.elapsed(), Duration::ZERO, "a burst is read at once");
    for _ in 0..50 {
        link.recv().await.unwrap();
    }
    let took = start.elapsed();
    assert!((Duration::from_millis(4800)..=Duration::from_millis(5200)).contains(&took), "{took:?} for 50 frames");
}

#[tokio::test(start_paused = true)]
async fn all_streams_of_a_peer_count_together_and_those_of_others_apart() {
    let (loud, _) = meter(Allowance { slowed_at_most: Duration::from_secs(60), ..TEN });
    let (calm, _) = meter(TEN);
    let (mut a, _a) = flood(&loud);
    let (mut b, _b) = flood(&loud);
    let (mut other, _other) = flood(&calm);
    let start = Clock::now();
    for _ in 0..10 {
        a.recv().await.unwrap();
        b.recv().await.unwrap();
    }
    a.recv().await.unwrap();
    assert!(a.recv().now_or_never().is_none() && start.elapsed().is_zero());
    for _ in 0..20 {
        other.recv().await.unwrap();
    }
    assert!(start.elapsed().is_zero(), "another peer is not slowed");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_stop_loses_its_streams_then_its_connections() {
    let (meter, phone) = meter(TEN);
    let mut read = 0;
    for stream in 0..CLOSED_STREAMS {
        assert!(phone.hung_up.lock().unwrap().is_empty(), "after {stream} streams");
        let (mut link, _sending) = flood(&meter);
        let error = loop {
            match link.recv().await {
                Ok(_) => read += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, LinkError::TooFast), "{error}");
    }
    assert!((40..60).contains(&read), "the burst, and two seconds of ten: {read}");
    assert_eq!(*phone.hung_up.lock().unwrap(), [meter.peer]);
}

#[tokio::test(start_paused = true)]
async fn who_rests_is_forgiven() {
    let (meter, phone) = meter(TEN);
    for _ in 0..10 {
        let (mut link, _sending) = flood(&meter);
        // The burst, and one and a half seconds of being slowed.
        for _ in 0..35 {
            link.recv().await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert!(phone.hung_up.lock().unwrap().is_empty());
}

#[test]
fn a_frame_counts_by_its_bytes_too() {
    let allowance = Allowance { bytes_per_second: 1000, bytes_at_once: 1000, ..TEN };
    let (meter, _) = meter(allowance);
    let now = meter.started;
    assert_eq!(meter.count(1000, now), Verdict::Now);
    assert_eq!(meter.count(500, now), Verdict::After(Duration::from_millis(500)));
    let Verdict::After(pause) = meter.count(usize::MAX, now) else { panic!() };
    assert!(pause > Duration::from_secs(1 << 30));
}

/// The numbers that a busy honest coordinator reaches, against the limits: it is never slowed.
#[test]
fn a_coordinator_with_all_its_sessions_at_full_speed_is_not_slowed() {
    let (meter, _) = meter(Allowance::default());
    let start = meter.started;
    // 128 sessions of a 4096-wide model in f32, 400 tokens a second each, for a minute; all begin at once with 8 chunks.
    for _ in 0..128 * 8 {
        assert_eq!(meter.count(128 * 4096 * 4, start), Verdict::Now);
    }
    for millis in 1..60_000 {
        let now = start + Duration::from_millis(millis);
        for _ in 0..51 {
            assert_eq!(meter.count(4096 * 4, now), Verdict::Now, "after {millis} ms");
        }
    }
}
