//! Nodes without the mesh's key.

use std::time::Duration;

use far_mesh_core::peer::{Config, Keypair, Node, PreSharedKey, SHARD_PROTOCOL, identity};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::Targets;
use crate::{net::hop, process::within};

#[tokio::test]
async fn who_does_not_know_the_key_does_not_get_in() {
    let targets = Targets::start().await;
    let to = hop(targets.first(), "0..10");
    let addr = to.addrs[0].clone();
    for (who, psk) in [("without a key", None), ("with another key", Some(identity::generate_psk()))] {
        let stranger = stranger(psk).await;
        let dialed = within(Duration::from_secs(15), who, stranger.dial(addr.clone())).await;
        assert!(dialed.is_err(), "a node {who} reached {dialed:?}");
        let stream = within(Duration::from_secs(15), who, stranger.open_stream(to.node, &to.addrs, SHARD_PROTOCOL));
        assert!(stream.await.is_err(), "a node {who} has a stream");
        println!("{who}: {}", dialed.unwrap_err());
        stranger.shutdown().await;
    }
    let known = stranger(Some(identity::load_psk(&targets.mesh.psk()).unwrap())).await;
    assert_eq!(known.dial(addr.clone()).await.unwrap(), to.node, "the key alone makes the difference");
    known.shutdown().await;

    // Connections that say nothing, or nothing of sense.
    let port = addr.iter().find_map(|part| part.to_string().strip_prefix("/tcp/").and_then(|port| port.parse().ok()));
    let mut sockets = vec![];
    for at in 0..200 {
        let mut socket = TcpStream::connect(("127.0.0.1", port.unwrap())).await.unwrap();
        // It may have been refused meanwhile.
        let _ = socket.write_all(&vec![at as u8; at * 10]).await;
        sockets.push(socket);
    }
    let newcomer = targets.mesh.node().await;
    targets.serve_honestly(&newcomer, "beside strangers").await;
    newcomer.shutdown().await;
    drop(sockets);
    targets.unharmed("strangers").await;
    targets.stop().await;
}

async fn stranger(psk: Option<PreSharedKey>) -> Node {
    let mut config = Config::new(Keypair::generate_ed25519());
    config.psk = psk;
    Node::spawn(config).await.unwrap()
}
