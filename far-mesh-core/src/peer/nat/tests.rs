//! Real nodes on loopback of which one takes no calls: what comes through the relay, and what comes after.

use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{Multiaddr, identity::Keypair, pnet::PreSharedKey};

use super::{Reachability, RelayRole, Way};
use crate::{
    id::ModelHash,
    peer::{Config, Incoming, Node, SHARD_PROTOCOL, ShardOffer, address, advert::tests::offer, identity},
};

const LONG: Duration = Duration::from_secs(10);

async fn node(psk: Option<PreSharedKey>, relay: &[&Node], change: impl FnOnce(&mut Config)) -> Node {
    let mut config = Config::new(Keypair::generate_ed25519());
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    config.bootstrap = relay.iter().flat_map(|node| node.listen_addrs()).collect();
    config.psk = psk;
    change(&mut config);
    let node = Node::spawn(config).await.unwrap();
    node.bootstrapped(LONG).await.unwrap();
    node
}

async fn until(what: &str, check: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(LONG, async {
        while !check().await {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what}"));
}

/// Opens a stream and sends `bytes` there and back.
async fn echo(from: &Node, to: &Node, addrs: &[Multiaddr], incoming: &mut Incoming, bytes: usize) {
    let (opened, accepted) = tokio::join!(from.open_stream(to.id(), addrs, SHARD_PROTOCOL), incoming.next());
    let ((mut reader, mut writer), (peer, accepted)) = (opened.unwrap().split(), accepted.unwrap());
    assert_eq!(peer, from.id());
    let (echo_in, mut echo_out) = accepted.split();
    let (data, mut back) = (vec![7; bytes], vec![0; bytes]);
    let (sent, _, received) = tokio::join!(
        async {
            writer.write_all(&data).await?;
            writer.close().await
        },
        futures::io::copy(echo_in, &mut echo_out),
        reader.read_exact(&mut back)
    );
    sent.unwrap();
    received.unwrap();
    assert!(back == data);
}

async fn a_hidden_provider_is_reached(psk: Option<PreSharedKey>) {
    let relay = node(psk, &[], |config| config.relay = RelayRole::Always).await;
    let provider = node(psk, &[&relay], |config| config.behind_nat = true).await;
    // Hidden too: else the provider would have dialed it before, for its advert.
    let client = node(psk, &[&relay], |config| config.behind_nat = true).await;
    let mut incoming = provider.incoming(SHARD_PROTOCOL).unwrap();
    until("a relay has a place", async || provider.reachability() == Reachability::Relayed).await;

    let model = ModelHash([1; 32]);
    provider.announce(ShardOffer { model, addrs: Vec::new(), ..offer((0, 30)) }).await.unwrap();
    let advert = client.adverts(model).await.unwrap().remove(0);
    let circuits = advert.shard.addrs.into_iter().filter(address::is_circuit).collect::<Vec<_>>();
    assert_eq!(circuits.len(), 1, "the advert leads to the relay");

    let mut improved = client.improved();
    // 32 times what libp2p's own limits let through a circuit.
    echo(&client, &provider, &circuits, &mut incoming, 4 << 20).await;
    let better = tokio::time::timeout(LONG, improved.recv()).await.expect("a direct connection comes up").unwrap();
    assert_eq!((better, client.way(&provider.id())), (provider.id(), Some(Way::Direct)));
    until("the provider knows", async || provider.reachability() == Reachability::HolePunched).await;
    echo(&client, &provider, &[], &mut incoming, 1 << 10).await;

    // The relay goes: what is direct by now stays.
    relay.shutdown().await;
    until("the place is lost", async || provider.reachability() == Reachability::Unreachable).await;
    echo(&client, &provider, &[], &mut incoming, 1 << 10).await;
    futures::future::join(client.shutdown(), provider.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_leads_to_a_hidden_provider_and_a_direct_connection_follows() {
    a_hidden_provider_is_reached(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_mesh_relays_too() {
    a_hidden_provider_is_reached(Some(identity::generate_psk())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_can_be_dialed_finds_out_and_asks_no_relay() {
    let relay = node(None, &[], |config| config.relay = RelayRole::Always).await;
    let provider = node(None, &[&relay], |_| {}).await;
    until("it is dialed back", async || provider.reachability() == Reachability::Direct).await;
    assert!(provider.reached_at().iter().all(|addr| !address::is_circuit(addr)));
    futures::future::join(relay.shutdown(), provider.shutdown()).await;
}
