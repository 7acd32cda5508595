//! Real nodes on loopback. Nothing sleeps: each test waits for a condition, with a deadline.

use std::time::{Duration, Instant};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{
    Multiaddr, StreamProtocol, Swarm,
    identity::Keypair,
    kad::{self, Quorum, Record, RecordKey},
    pnet::PreSharedKey,
    swarm::SwarmEvent,
};

use super::{
    BootstrapError, Config, DiscoveryError, Node, SHARD_PROTOCOL, ShardOffer, SpawnError, StreamError,
    advert::{Claim, Sealed, tests::offer},
    behaviour::Behaviour,
    dht_key, identity,
    stream::Acceptors,
    transport,
};
use crate::id::ModelHash;

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const LONG: Duration = Duration::from_secs(8);

async fn node(listen: &[&str], bootstrap: &[&Node], psk: Option<PreSharedKey>) -> Node {
    let mut config = Config::new(Keypair::generate_ed25519());
    config.listen = listen.iter().map(|addr| addr.parse().unwrap()).collect();
    config.bootstrap = bootstrap.iter().flat_map(|node| node.listen_addrs()).collect();
    config.psk = psk;
    let node = Node::spawn(config).await.unwrap();
    if !bootstrap.is_empty() {
        node.bootstrapped(LONG).await.unwrap();
    }
    node
}

async fn shutdown(nodes: &[&Node]) {
    futures::future::join_all(nodes.iter().map(|node| node.shutdown())).await;
}

/// Repeats until `check` holds.
async fn eventually(what: &str, check: impl AsyncFn() -> bool) {
    let until = Instant::now() + LONG;
    while !check().await {
        assert!(Instant::now() < until, "{what}");
        tokio::task::yield_now().await;
    }
}

/// A payload larger than any window goes there and back.
async fn echo_over(listen: &str, psk: Option<PreSharedKey>) {
    const BYTES: usize = 24 << 20;
    let server = node(&[listen], &[], psk).await;
    let client = node(&[], &[], psk).await;
    let mut incoming = server.incoming(SHARD_PROTOCOL).unwrap();
    assert!(server.incoming(SHARD_PROTOCOL).is_err(), "one acceptor a protocol");
    let addrs = server.listen_addrs();
    let opened = client.open_stream(server.id(), &addrs, SHARD_PROTOCOL);
    let (stream, accepted) = tokio::join!(opened, incoming.next());
    let ((mut reader, mut writer), (from, accepted)) = (stream.unwrap().split(), accepted.unwrap());
    assert_eq!(from, client.id());
    let (echo_in, mut echo_out) = accepted.split();
    let data = (0..BYTES).map(|at| (at % 251) as u8).collect::<Vec<_>>();
    let mut back = vec![0; BYTES];
    let (sent, copied, received) = tokio::join!(
        async {
            writer.write_all(&data).await?;
            writer.close().await
        },
        async { futures::io::copy(echo_in, &mut echo_out).await },
        reader.read_exact(&mut back)
    );
    sent.unwrap();
    received.unwrap();
    assert_eq!(copied.unwrap(), BYTES as u64);
    assert!(back == data);
    eventually("a ping is measured", async || client.rtt(&server.id()).is_some()).await;
    assert_eq!(client.connected_peers(), [server.id()]);
    shutdown(&[&client, &server]).await;
    assert!(incoming.next().await.is_none());
    let closed = client.open_stream(server.id(), &[], SHARD_PROTOCOL).await;
    assert!(matches!(closed, Err(StreamError::Closed)), "{closed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_carry_bytes_over_tcp() {
    echo_over(TCP, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_carry_bytes_over_quic() {
    echo_over(QUIC, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_carry_bytes_inside_a_mesh_key() {
    echo_over(TCP, Some(identity::generate_psk())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_opened_at_once_all_arrive() {
    let server = node(&[TCP], &[], None).await;
    let client = node(&[], &[], None).await;
    let mut incoming = server.incoming(SHARD_PROTOCOL).unwrap();
    let addrs = server.listen_addrs();
    let open = (0..100).map(|_| client.open_stream(server.id(), &addrs, SHARD_PROTOCOL));
    let opened = futures::future::try_join_all(open).await.unwrap();
    let mut accepted = Vec::new();
    for _ in &opened {
        accepted.push(tokio::time::timeout(LONG, incoming.next()).await.unwrap().unwrap());
    }
    shutdown(&[&client, &server]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_cannot_be_says_why() {
    let server = node(&[TCP], &[], None).await;
    let client = node(&[], &[], None).await;
    let addrs = server.listen_addrs();
    let unknown = client.open_stream(server.id(), &addrs, StreamProtocol::new("/nothing/1")).await;
    assert!(matches!(unknown, Err(StreamError::Unsupported { .. })), "{unknown:?}");
    let stranger = Keypair::generate_ed25519().public().to_peer_id();
    let nowhere = client.open_stream(stranger, &[], SHARD_PROTOCOL).await.unwrap_err();
    assert!(nowhere.to_string().contains("no address of it is known"), "{nowhere}");
    let plain = addrs.iter().map(super::address::without_peer).collect::<Vec<_>>();
    let impostor = client.open_stream(stranger, &plain, SHARD_PROTOCOL).await.unwrap_err();
    assert!(impostor.to_string().contains(&server.id().to_string()), "{impostor}");
    server.shutdown().await;
    eventually("the client notices", async || client.connected_peers().is_empty()).await;
    let gone = client.dial(addrs[0].clone()).await.unwrap_err();
    assert!(gone.to_string().contains("refused"), "{gone}");
    client.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_mesh_key_cannot_connect_and_is_told_in_time() {
    let server = node(&[TCP], &[], Some(identity::generate_psk())).await;
    for psk in [None, Some(identity::generate_psk())] {
        let mut config = Config::new(Keypair::generate_ed25519());
        config.bootstrap = server.listen_addrs();
        config.psk = psk;
        let stranger = Node::spawn(config).await.unwrap();
        let start = Instant::now();
        let error = stranger.bootstrapped(Duration::from_millis(700)).await.unwrap_err();
        assert!(matches!(&error, BootstrapError::Unreachable { failures, .. } if failures.len() == 1), "{error}");
        assert!(error.to_string().contains(&server.listen_addrs()[0].to_string()), "{error}");
        assert!(start.elapsed() < Duration::from_secs(2));
        assert!(server.connected_peers().is_empty());
        stranger.shutdown().await;
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_node_that_cannot_listen_says_where() {
    let first = node(&[TCP], &[], None).await;
    let mut config = Config::new(Keypair::generate_ed25519());
    config.listen = vec![super::address::without_peer(&first.listen_addrs()[0])];
    let error = Node::spawn(config.clone()).await.unwrap_err();
    assert!(matches!(error, SpawnError::Listen { .. }), "{error:?}");
    config.listen = vec![QUIC.parse().unwrap()];
    config.psk = Some(identity::generate_psk());
    assert!(matches!(Node::spawn(config).await, Err(SpawnError::OnlyQuic)));
    first.shutdown().await;
}

fn shard(model: u8, start: u32, end: u32) -> ShardOffer {
    ShardOffer { model: ModelHash([model; 32]), addrs: Vec::new(), ..offer((start, end)) }
}

/// A discovery node, three providers and a coordinator: the mesh of the demo.
async fn discovery_works(psk: Option<PreSharedKey>) {
    let discovery = node(&[TCP], &[], psk).await;
    let model = ModelHash([1; 32]);
    let coordinator = node(&[TCP], &[&discovery], psk).await;
    let none = coordinator.adverts(model).await.unwrap();
    assert!(none.is_empty());

    let mut providers = Vec::new();
    let mut fastest = LONG;
    for at in 0..3 {
        let provider = node(&[TCP], &[&discovery], psk).await;
        let holders = provider.announce(shard(1, at * 10, at * 10 + 10)).await.unwrap();
        assert!(holders >= 1);
        let start = Instant::now();
        let adverts = coordinator.adverts(model).await.unwrap();
        fastest = fastest.min(start.elapsed());
        assert_eq!(adverts.len(), at as usize + 1, "what was announced is found at once");
        let newest = adverts.last().unwrap();
        assert_eq!((newest.peer, newest.shard.span.start()), (provider.id(), at * 10));
        assert_eq!(newest.shard.addrs.len(), 1, "the node puts in where it listens");
        providers.push(provider);
    }
    assert!(fastest < Duration::from_millis(200), "{fastest:?}");
    let models = coordinator.models().await.unwrap();
    assert_eq!(models.len(), 1);
    assert_eq!((models[0].model, models[0].name.as_str(), models[0].layers), (model, "smollm2-135m-instruct", 30));

    // An advert is enough to reach its node.
    let advert = coordinator.adverts(model).await.unwrap().swap_remove(1);
    let mut incoming = providers[1].incoming(SHARD_PROTOCOL).unwrap();
    let opened = coordinator.open_stream(advert.peer, &advert.shard.addrs, SHARD_PROTOCOL).await;
    assert_eq!(incoming.next().await.unwrap().0, coordinator.id());
    drop(opened.unwrap());

    // A new word replaces the old one; a withdrawn one and one whose node left are gone at once.
    providers[0].announce(ShardOffer { free_tokens: 1, ..shard(1, 0, 10) }).await.unwrap();
    assert_eq!(coordinator.adverts(model).await.unwrap()[0].shard.free_tokens, 1);
    assert!(providers[0].withdraw().await >= 1);
    assert_eq!(coordinator.adverts(model).await.unwrap().len(), 2);
    providers[1].shutdown().await;
    let left = coordinator.adverts(model).await.unwrap();
    assert_eq!(left.iter().map(|advert| advert.peer).collect::<Vec<_>>(), [providers[2].id()]);
    shutdown(&[&providers[0], &providers[2], &coordinator, &discovery]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_announced_is_found_and_what_is_withdrawn_is_not() {
    discovery_works(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_mesh_discovers_too() {
    discovery_works(Some(identity::generate_psk())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_announcement_made_alone_goes_out_when_somebody_comes() {
    // The provider starts before the node it bootstraps from: port and key are known, nobody listens yet.
    let reserved = node(&[TCP], &[], None).await;
    let listen = super::address::without_peer(&reserved.listen_addrs()[0]);
    reserved.shutdown().await;
    let key = Keypair::generate_ed25519();
    let mut config = Config::new(Keypair::generate_ed25519());
    config.listen = vec![TCP.parse().unwrap()];
    config.bootstrap = vec![super::address::with_peer(&listen, key.public().to_peer_id())];
    let provider = Node::spawn(config).await.unwrap();
    assert_eq!(provider.announce(shard(1, 0, 30)).await.unwrap(), 0);

    let mut config = Config::new(key);
    config.listen = vec![listen];
    let discovery = Node::spawn(config).await.unwrap();
    provider.bootstrapped(LONG).await.unwrap();
    let found = async || discovery.adverts(ModelHash([1; 32])).await.unwrap().len() == 1;
    eventually("the advert arrives", found).await;
    shutdown(&[&provider, &discovery]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_near_the_keys_delays_nobody_for_long() {
    // Takes connections and never says a word, as a machine does whose power failed behind a firewall.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let stranger = Keypair::generate_ed25519().public().to_peer_id();
    let dead: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{stranger}").parse().unwrap();
    let discovery = node(&[TCP], &[], None).await;
    let join = async || {
        let mut config = Config::new(Keypair::generate_ed25519());
        config.listen = vec![TCP.parse().unwrap()];
        config.bootstrap = vec![dead.clone()];
        config.bootstrap.extend(discovery.listen_addrs());
        let node = Node::spawn(config).await.unwrap();
        node.bootstrapped(LONG).await.unwrap();
        node
    };
    let (provider, coordinator) = (join().await, join().await);
    let start = Instant::now();
    assert!(coordinator.adverts(ModelHash([9; 32])).await.unwrap().is_empty());
    assert!(provider.announce(shard(1, 0, 30)).await.unwrap() >= 1);
    assert_eq!(coordinator.adverts(ModelHash([1; 32])).await.unwrap().len(), 1);
    // Far below the deadline of a connection attempt, 5 s.
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    shutdown(&[&provider, &coordinator, &discovery]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_alone_says_that_nobody_could_be_asked() {
    let mut config = Config::new(Keypair::generate_ed25519());
    config.bootstrap = vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()];
    let node = Node::spawn(config).await.unwrap();
    let error = node.adverts(ModelHash([1; 32])).await.unwrap_err();
    assert!(matches!(&error, DiscoveryError::Isolated { .. }), "{error}");
    assert!(error.to_string().contains("/ip4/127.0.0.1/tcp/1"), "{error}");
    assert_eq!(node.announce(shard(1, 0, 30)).await.unwrap(), 0);
    assert_eq!(node.adverts(ModelHash([1; 32])).await.unwrap().len(), 1, "its own offer it knows");
    node.shutdown().await;
    assert!(matches!(node.models().await, Err(DiscoveryError::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_discovery_node_that_restarts_is_joined_again_and_hears_the_adverts_again() {
    let key = Keypair::generate_ed25519();
    let mut config = Config::new(key);
    config.listen = vec![TCP.parse().unwrap()];
    let discovery = Node::spawn(config.clone()).await.unwrap();
    config.listen = vec![super::address::without_peer(&discovery.listen_addrs()[0])];
    let mut of_provider = Config::new(Keypair::generate_ed25519());
    of_provider.listen = vec![TCP.parse().unwrap()];
    of_provider.bootstrap = discovery.listen_addrs();
    of_provider.announce_interval = Duration::from_secs(1);
    let provider = Node::spawn(of_provider).await.unwrap();
    provider.bootstrapped(LONG).await.unwrap();
    provider.announce(shard(1, 0, 30)).await.unwrap();
    discovery.shutdown().await;
    let discovery = Node::spawn(config).await.unwrap();
    let found = async || discovery.adverts(ModelHash([1; 32])).await.unwrap().len() == 1;
    eventually("the advert is announced again", found).await;
    shutdown(&[&provider, &discovery]).await;
}

/// Speaks the protocols without our manners.
struct Liar {
    key: Keypair,
    swarm: Swarm<Behaviour>,
}

impl Liar {
    async fn new(victim: &Node) -> Self {
        let key = Keypair::generate_ed25519();
        let (circuits, relay_client) = libp2p::relay::client::new(key.public().to_peer_id());
        let transport = transport::build(&key, None, circuits).unwrap();
        let behaviour = Behaviour::new(
            &Config::new(key.clone()),
            None,
            &Default::default(),
            Acceptors::default(),
            relay_client,
            false,
        );
        let options = libp2p::swarm::Config::with_tokio_executor();
        let mut swarm = Swarm::new(transport, behaviour, key.public().to_peer_id(), options);
        let addr: Multiaddr = victim.listen_addrs()[0].clone();
        swarm.behaviour_mut().kad.add_address(&victim.id(), super::address::without_peer(&addr));
        Self { key, swarm }
    }

    /// Puts bytes to the victim and waits for its answer.
    async fn put(&mut self, victim: &Node, key: RecordKey, value: Vec<u8>) {
        use futures::StreamExt as _;
        let record = Record { key, value, publisher: None, expires: None };
        let kad = &mut self.swarm.behaviour_mut().kad;
        let query = kad.put_record_to(record, [victim.id()].into_iter(), Quorum::All);
        let done = async {
            loop {
                if let SwarmEvent::Behaviour(super::behaviour::BehaviourEvent::Kad(
                    kad::Event::OutboundQueryProgressed { id, result: kad::QueryResult::PutRecord(_), .. },
                )) = self.swarm.select_next_some().await
                    && id == query
                {
                    return;
                }
            }
        };
        tokio::time::timeout(LONG, done).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn liars_are_not_kept() {
    let victim = node(&[TCP], &[], None).await;
    let honest = Keypair::generate_ed25519();
    let mut liar = Liar::new(&victim).await;
    let model = ModelHash([1; 32]);
    let now = (super::store::system_clock())();
    let claim = Claim::Serves(Box::new(ShardOffer { model, ..offer((0, 30)) }));
    let seal =
        |key: &Keypair, dht: &RecordKey, seq, expires| Sealed::seal(key, dht.as_ref(), seq, expires, &claim).unwrap();
    let of = |key: &Keypair| dht_key::of_peer(model, &key.public().to_peer_id());
    let mine = liar.key.clone();

    let mut forged = seal(&mine, &of(&mine), 1, now + 60);
    forged[1..33].copy_from_slice(&honest.public().try_into_ed25519().unwrap().to_bytes());
    liar.put(&victim, of(&honest), forged).await;
    // Good, but of somebody who did not send it: a replay.
    liar.put(&victim, of(&honest), seal(&honest, &of(&honest), 1, now + 60)).await;
    liar.put(&victim, of(&mine), seal(&mine, &of(&mine), 1, now - 3600)).await;
    liar.put(&victim, of(&mine), seal(&mine, &of(&mine), 1, now + 1_000_000)).await;
    liar.put(&victim, dht_key::of_slice(ModelHash([2; 32]), 0), seal(&mine, &of(&mine), 1, now + 60)).await;
    liar.put(&victim, of(&mine), vec![0xff; 60_000]).await;
    assert!(victim.adverts(model).await.unwrap().is_empty());

    // The same liar, saying the truth about itself, is heard: the refusals above were for what it said.
    liar.put(&victim, of(&mine), seal(&mine, &of(&mine), 7, now + 60)).await;
    liar.put(&victim, of(&mine), seal(&mine, &of(&mine), 6, now + 60)).await;
    let adverts = victim.adverts(model).await.unwrap();
    assert_eq!(adverts.iter().map(|advert| advert.seq).collect::<Vec<_>>(), [7]);
    victim.shutdown().await;
}
