//! Real nodes with a list between them.

use std::{fs, path::Path, time::Duration};

use libp2p::identity::Keypair;

use super::sign;
use crate::peer::{Config, Node, SpawnError};

const LONG: Duration = Duration::from_secs(10);

fn config(key: &Keypair, listen: &str, members: Option<&Path>) -> Config {
    let mut config = Config::new(key.clone());
    config.listen = vec![listen.parse().unwrap()];
    config.members = members.map(Into::into);
    config
}

/// Puts a new list in place of the old one, as an operator should: whole at once.
fn write(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::rename(draft, path).unwrap();
}

async fn until(what: &str, check: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(LONG, async {
        while !check().await {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what}"));
}

async fn a_list_keeps_strangers_out(listen: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("members");
    let [operator, host, member, stranger] = std::array::from_fn(|_| Keypair::generate_ed25519());
    let id = |key: &Keypair| key.public().to_peer_id();
    write(&path, &sign([id(&host), id(&member)], 1, &operator).unwrap());
    let node = Node::spawn(config(&host, listen, Some(&path))).await.unwrap();
    let join = async |key: &Keypair| {
        let mut config = config(key, listen, None);
        config.bootstrap = node.listen_addrs();
        Node::spawn(config).await.unwrap()
    };
    let (member, outsider) = (join(&member).await, join(&stranger).await);
    member.bootstrapped(LONG).await.unwrap();
    let refused = outsider.bootstrapped(Duration::from_millis(500)).await.unwrap_err().to_string();
    assert!(!refused.contains("member"), "a stranger is told nothing: {refused}");
    assert_eq!(node.connected_peers(), [member.id()]);
    // The node dials no stranger either, and says why.
    let error = node.dial(outsider.listen_addrs()[0].clone()).await.unwrap_err().to_string();
    assert!(error.contains("not on the member list (version 1)"), "{error}");

    // A new list is read without a restart: the stranger comes in, the member has to go. A forged one changes nothing.
    write(&path, &sign([id(&stranger)], 9, &stranger).unwrap());
    write(&path, &sign([id(&host), id(&stranger)], 2, &operator).unwrap());
    outsider.bootstrapped(LONG).await.unwrap();
    until("the member is gone", async || node.connected_peers() == [outsider.id()]).await;
    futures::future::join_all([node.shutdown(), member.shutdown(), outsider.shutdown()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_get_no_connection_over_tcp() {
    a_list_keeps_strangers_out("/ip4/127.0.0.1/tcp/0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_get_no_connection_over_quic() {
    a_list_keeps_strangers_out("/ip4/127.0.0.1/udp/0/quic-v1").await;
}

#[tokio::test]
async fn a_node_does_not_start_without_the_list_it_was_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("members");
    let key = Keypair::generate_ed25519();
    for text in [None, Some("far-mesh members 1\nversion 1\n")] {
        if let Some(text) = text {
            write(&path, text);
        }
        let error = Node::spawn(config(&key, "/ip4/127.0.0.1/tcp/0", Some(&path))).await.unwrap_err();
        assert!(matches!(error, SpawnError::Members(_)), "{error}");
    }
}
