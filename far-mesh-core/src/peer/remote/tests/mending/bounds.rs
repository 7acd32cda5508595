//! How far a repair goes: whom it listens to, what it counts, how long it waits and how many hops it may take.

use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use tokio::time::timeout;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

use super::{
    super::fabric::{Port, Spares},
    *,
};
use crate::{
    limits::MAX_HOPS,
    peer::{
        Keypair, Mender, Multiaddr, RemoteRoute,
        wire::{BoxedStream, DialError, Dialer, Frame, Link, Rerouted},
    },
};

/// Dials through a port, and takes every node to be equally far away.
#[derive(Debug)]
struct Distant {
    port: Port,
    rtt: Duration,
}

impl Dialer for Distant {
    fn open(&self, peer: NodeId, addrs: Vec<Multiaddr>) -> BoxFuture<'_, Result<BoxedStream, DialError>> {
        self.port.open(peer, addrs)
    }

    fn key(&self) -> &Keypair {
        self.port.key()
    }

    fn rtt(&self, _: NodeId) -> Option<Duration> {
        Some(self.rtt)
    }
}

/// Adds three that may take the first hop's place. The first two never answer.
fn with_two_silent_spares(mut mesh: Mesh) -> Mesh {
    for _ in 0..3 {
        mesh = mesh.and_spares(&[0, 1], ServeConfig::default(), |_, _| {});
    }
    mesh.spares[..2].iter().for_each(|spare| mesh.fabric.silence(mesh.coordinator, spare.node));
    mesh
}

fn lost(spares: &Spares) -> Vec<NodeId> {
    spares.lost.lock().unwrap().iter().map(|(node, _)| *node).collect()
}

/// Opens a session as a hop does, and leaves the rest of what it says to the caller.
async fn accept(incoming: &mut ReceiverStream<(NodeId, BoxedStream)>) -> Link {
    let (_, stream) = incoming.next().await.unwrap();
    let mut link = Link::accepted(stream);
    assert!(matches!(link.recv().await.unwrap(), Frame::Open(_)));
    link.send(Frame::Opened).await.unwrap();
    link
}

#[tokio::test(start_paused = true)]
async fn results_from_beyond_the_lost_hop_say_nothing_of_its_repair() {
    let chunk = |at: u64| tokens(at, at as u32 * 4, &[at as u32; 4], Rows::Last);
    let mesh = Mesh::with(&CUTS, ServeConfig::default(), |at, mock| mock.delay = 300 * MILLI * u32::from(at == 2));
    let mut mesh = with_two_silent_spares(mesh);
    let (route, spares) = mesh.mended();
    let mut session = route.open(mesh.request()).await.unwrap();
    let beyond = MAX_STEPS_IN_FLIGHT as u64;
    for at in 0..beyond {
        session.submit(chunk(at)).await.unwrap();
    }
    // By now all of them are with the last hop.
    session.next().await.unwrap();
    lose(&mut mesh, 0, Way::Vanishes);
    let start = Instant::now();
    for seq in 1..beyond {
        assert_eq!(session.next().await.unwrap().seq, seq);
    }
    // While the first two were tried.
    assert!((2100..2150).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    session.submit(chunk(beyond)).await.unwrap();
    assert_eq!(session.next().await.unwrap().seq, beyond);
    // 920 ms for the first, 1520 ms for the second, 300 ms for the step.
    assert!((2740..2790).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert_eq!(lost(&spares), [mesh.node(0), mesh.spares[0].node, mesh.spares[1].node], "nobody is tried twice");
}

#[tokio::test(start_paused = true)]
async fn only_a_neighbour_agrees_to_who_takes_a_place() {
    let mesh = Mesh::new(&CUTS).and_spares(&[0, 1], ServeConfig::default(), |_, _| {});
    let mut incoming: Vec<_> = mesh.hops.iter().chain(&mesh.spares).map(|hop| mesh.fabric.listen(hop.node)).collect();
    let mut spare = incoming.pop().unwrap();
    let (route, _) = mesh.mended();
    let (session, links) = tokio::join!(route.open(mesh.request()), join_all(incoming.iter_mut().map(accept)));
    let mut session = session.unwrap();
    let [first, mut neighbour, mut stranger] = <[Link; 3]>::try_from(links).unwrap();
    session.submit(tokens(0, 0, &[1], Rows::Last)).await.unwrap();
    drop(first);
    let script = async {
        let number = loop {
            if let Frame::Reroute(reroute) = neighbour.recv().await.unwrap() {
                break reroute.number;
            }
        };
        let agreed = || Frame::Rerouted(Rerouted { number, attached: true });
        stranger.send(agreed()).await.unwrap();
        let mut newcomer = accept(&mut spare).await;
        let early = timeout(100 * MILLI, newcomer.recv()).await;
        assert!(early.is_err(), "{early:?}");
        neighbour.send(agreed()).await.unwrap();
        let step = newcomer.recv().await.unwrap();
        assert!(matches!(&step, Frame::Step(step) if step.seq == 0), "{step:?}");
    };
    tokio::select! {
        done = session.next() => panic!("nobody ran the step: {done:?}"),
        () = script => {}
    }
}

#[tokio::test(start_paused = true)]
async fn who_never_answers_is_waited_for_by_its_distance_up_to_a_second() {
    let alone = generate_locally(1, 5, &CHUNKS, DECODE).await;
    // Twice 600 ms and eight round trips, and 600 ms more for the second.
    for (rtt, want_ms) in [(10 * MILLI, 1960), (40 * MILLI, 2440), (125 * MILLI, 3800), (5000 * MILLI, 3800)] {
        let mut mesh = with_two_silent_spares(Mesh::new(&[0, 1]));
        let (_, spares) = mesh.mended();
        let dialer = Distant { port: mesh.fabric.port(mesh.coordinator), rtt };
        let route = RemoteRoute::new(Arc::new(dialer), mesh.hops.clone()).unwrap();
        let route = route.mended_by(Arc::clone(&spares) as Arc<dyn Mender>);
        let mut session = route.open(mesh.request()).await.unwrap();
        let disturbed = run(session.as_mut(), 5, |seq| {
            if seq == 10 {
                lose(&mut mesh, 0, Way::Vanishes);
            }
        });
        let (outputs, pause) = disturbed.await.unwrap();
        assert!(outputs == alone, "{rtt:?}");
        assert!((want_ms..want_ms + 50).contains(&pause.as_millis()), "{rtt:?}: {pause:?}");
        assert_eq!(lost(&spares), [mesh.node(0), mesh.spares[0].node, mesh.spares[1].node], "{rtt:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_are_gone_take_nothing_from_the_most_hops() {
    let mut mesh = Mesh::new(&CUTS);
    for _ in 0..3 {
        mesh = mesh.and_spares(&[1, 2], ServeConfig::default(), |_, _| {});
    }
    // The first two spares.
    for at in 3..5 {
        lose(&mut mesh, at, Way::Vanishes);
    }
    let (route, spares) = mesh.mended();
    let mut session = route.open(mesh.request()).await.unwrap();
    let disturbed = run(session.as_mut(), 5, |seq| {
        if seq == 10 {
            lose(&mut mesh, 1, Way::Vanishes);
        }
    });
    disturbed.await.unwrap();
    let asked = spares.asked.lock().unwrap();
    let asked: Vec<_> = asked.iter().map(|loss| (loss.without.len(), loss.max_hops)).collect();
    assert_eq!(asked, [(3, MAX_HOPS - 2), (4, MAX_HOPS - 2), (5, MAX_HOPS - 2)]);
}
