//! Peers met before, kept in a file: a node that restarts finds its mesh again when every bootstrap node is gone.
//!
//! One address a line, with the peer's identity at its end; those met last stand first. Addresses are those that were
//! dialed, never what somebody said. The file is a hint: what is wrong in it is left out, and it is replaced whole, so a
//! crash leaves the old one.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use libp2p::Multiaddr;
use rand::seq::SliceRandom as _;
use tokio::sync::mpsc;

use super::{address, command::Command, links::Links};

/// Peers that are kept: enough that some of them are still there after weeks.
const MAX_KNOWN: usize = 256;

/// Longest file that is read: as many lines as are kept, each far longer than an address.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Peers of the file that are tried: a node needs one.
const TRIED: usize = 16;

/// How long after its start a node first writes down whom it met.
const FIRST: Duration = Duration::from_secs(5);

/// How often after that.
const INTERVAL: Duration = Duration::from_secs(60);

/// Reads the file; one that is not there, or not readable, holds nobody.
pub(super) fn read(path: &Path) -> Vec<Multiaddr> {
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text)) {
        Ok(_) => parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the peers met before cannot be read");
            Vec::new()
        }
    }
}

/// Some of the peers, in any order.
pub(super) fn some(mut known: Vec<Multiaddr>) -> Vec<Multiaddr> {
    known.shuffle(&mut rand::rng());
    known.truncate(TRIED);
    known
}

fn parse(text: &str) -> Vec<Multiaddr> {
    let good = |addr: &Multiaddr| {
        address::peer_of(addr).is_some_and(|peer| address::dialable(addr, &peer) && !address::is_circuit(addr))
    };
    text.lines().filter_map(|line| line.parse().ok()).filter(good).take(MAX_KNOWN).collect()
}

/// Those met now before those met earlier, each peer once.
fn merge(now: Vec<Multiaddr>, earlier: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let mut seen = HashSet::new();
    let all = now.into_iter().chain(earlier);
    all.filter(|addr| address::peer_of(addr).is_some_and(|peer| seen.insert(peer))).take(MAX_KNOWN).collect()
}

/// Writes down whom the node met, until it ends.
pub(super) async fn keep(path: PathBuf, links: Arc<Links>, node: mpsc::WeakSender<Command>) {
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        pause = INTERVAL;
        if node.strong_count() == 0 {
            return;
        }
        let (path, met) = (path.clone(), links.met());
        // A task that cannot be joined has panicked, and has said so.
        let _ = tokio::task::spawn_blocking(move || save(&path, met)).await;
    }
}

/// Adds `met` to the file.
pub(super) fn save(path: &Path, met: Vec<Multiaddr>) {
    if met.is_empty() {
        return;
    }
    let text = merge(met, read(path)).iter().map(|addr| format!("{addr}\n")).collect::<String>();
    if let Err(error) = replace(path, &text) {
        tracing::warn!(path = %path.display(), %error, "the peers met cannot be written down");
    }
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".draft");
    let draft = PathBuf::from(draft);
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    fn addr(port: u16, peer: NodeId) -> Multiaddr {
        format!("/ip4/192.0.2.1/tcp/{port}/p2p/{peer}").parse().unwrap()
    }

    #[test]
    fn whom_one_met_last_stands_first_and_the_file_stays_small() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("provider.peers");
        assert!(read(&path).is_empty());
        let peers = std::array::from_fn::<_, 3, _>(|_| NodeId::random());
        save(&path, vec![addr(1, peers[0]), addr(2, peers[1])]);
        save(&path, vec![addr(9, peers[1]), addr(3, peers[2])]);
        save(&path, Vec::new());
        assert_eq!(read(&path), [addr(9, peers[1]), addr(3, peers[2]), addr(1, peers[0])]);
        save(&path, (0..1000).map(|port| addr(port + 1, NodeId::random())).collect());
        assert_eq!(read(&path).len(), MAX_KNOWN);
        assert_eq!(some(read(&path)).len(), TRIED);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft stays behind");
    }

    #[test]
    fn what_makes_no_sense_in_the_file_is_left_out() {
        let (peer, relay) = (NodeId::random(), NodeId::random());
        let good = addr(7, peer);
        let text = format!(
            "{good}\nnonsense\n/ip4/192.0.2.1/tcp/1\n/memory/5/p2p/{peer}\n/ip4/1.2.3.4/tcp/1/p2p/{relay}/p2p-circuit/p2p/{peer}\n"
        );
        assert_eq!(parse(&text), [good]);
    }
}
