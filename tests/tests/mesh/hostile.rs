//! Nodes that know the mesh's key and mean no good, against real providers.
//!
//! After each attack the providers must be as before: no session, all room free, no more memory, and an honest session
//! gets the right bits.

mod crowd;
mod frames;
mod greetings;
mod sessions;
mod strangers;

use std::{collections::HashMap, time::Duration};

use far_mesh_core::{
    activation::Dtype,
    id::SessionId,
    peer::{
        Node, SHARD_PROTOCOL, Stream,
        wire::{BUILD, Fault, Frame, HEADER_BYTES, Header, Link, LinkError, Open, PROTOCOL_VERSION, Source},
    },
};
use far_mesh_node::local::Part;
use futures::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::OnceCell;

use crate::{
    drive::{hidden, load, prompts},
    net::{Mesh, hash, hop, route, span},
    process::{Room, memory, room, until_room, within},
};

/// What a provider may keep of an attack: buffers of connections, what the allocator does not give back at once.
const KEPT: u64 = 32 << 20;

/// Longer than a provider waits for a greeting, or for a refused stream to be closed.
const GREETING: Duration = Duration::from_secs(8);

const ANSWER: Duration = Duration::from_secs(10);

/// Two providers that follow each other, and the two nodes that call them.
struct Targets {
    mesh: Mesh,
    providers: Vec<Part>,
    honest: Node,
    hostile: Node,
    rooms: Vec<Room>,
    resident: HashMap<String, u64>,
}

/// Layers of the targets.
const LAYERS: [&str; 2] = ["0..10", "10..20"];

impl Targets {
    async fn start() -> Self {
        let mesh = Mesh::start().await;
        let providers = mesh.providers(&LAYERS).await;
        let (honest, hostile) = (mesh.node().await, mesh.node().await);
        let rooms = vec![room(&providers[0]).await, room(&providers[1]).await];
        assert_eq!(rooms[0].sessions + rooms[1].sessions, 0);
        let mut targets = Self { mesh, providers, honest, hostile, rooms, resident: HashMap::new() };
        targets.serve_honestly(&targets.honest, "at first").await;
        targets.resident = targets.providers.iter().map(|part| (part.name.clone(), memory(part).resident)).collect();
        targets
    }

    fn first(&self) -> &Part {
        &self.providers[0]
    }

    fn second(&self) -> &Part {
        &self.providers[1]
    }

    /// An honest session through both.
    async fn serve_honestly(&self, from: &Node, when: &str) {
        static WANT: OnceCell<Vec<u32>> = OnceCell::const_new();
        let ids = &prompts()[1];
        let want = WANT.get_or_init(|| async {
            let shard = load(Some("0..20"), false);
            hidden(&*shard.hop().unwrap(), ids).await
        });
        let hops = self.providers.iter().zip(LAYERS).map(|(part, layers)| hop(part, layers)).collect();
        assert!(hidden(&route(from, hops), ids).await == *want.await, "an honest session {when} has other bits");
    }

    /// Holds the providers against what they were before.
    async fn unharmed(&self, after: &str) {
        let rooms = self.providers.iter().zip(self.rooms.iter().copied());
        until_room(GREETING, &format!("all room is free after {after}"), rooms).await;
        self.serve_honestly(&self.honest, after).await;
        for part in &self.providers {
            let (before, now) = (self.resident[&part.name], memory(part).resident);
            println!("{} after {after}: {:.1} MiB, had {:.1}", part.name, mib(now), mib(before));
            assert!(now < before + KEPT, "{} after {after}: {now} bytes resident, had {before}", part.name);
        }
    }

    /// A stream of the hostile node to a provider.
    async fn stream(&self, to: &Part) -> Stream {
        let hop = hop(to, "0..1");
        self.hostile.open_stream(hop.node, &hop.addrs, SHARD_PROTOCOL).await.unwrap()
    }

    /// Sends what may be no frame at all, and reads to the end of the stream.
    async fn send_raw(&self, to: &Part, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.stream(to).await;
        // The provider may have hung up before all of it is sent.
        let _ = within(ANSWER, "sending", stream.write_all(bytes)).await;
        let _ = stream.flush().await;
        let mut answer = vec![];
        let _ = within(GREETING, "the provider hangs up", stream.read_to_end(&mut answer)).await;
        answer
    }

    /// A control stream with this greeting, and the answer.
    async fn open(&self, to: &Part, open: &Open) -> (Link, Frame) {
        let mut link = Link::new(Box::new(self.stream(to).await), open.session);
        link.send(Frame::Open(Box::new(open.clone()))).await.unwrap();
        let answer = within(ANSWER, "an answer to Open", link.recv()).await;
        (link, answer.unwrap_or_else(|error| panic!("no answer to {open:?}: {error}")))
    }

    async fn opened(&self, to: &Part, open: &Open) -> Link {
        match self.open(to, open).await {
            (link, Frame::Opened) => link,
            (_, other) => panic!("{other:?} to {open:?}"),
        }
    }

    async fn stop(self) {
        self.hostile.shutdown().await;
        self.honest.shutdown().await;
        self.mesh.stop(self.providers).await;
    }
}

/// An `Open` that a provider of these layers takes.
fn good_open(layers: &str) -> Open {
    Open {
        protocol: PROTOCOL_VERSION,
        build: BUILD.to_owned(),
        session: SessionId::random(),
        model: hash(),
        span: span(layers),
        dtype: Dtype::F32,
        context_tokens: 64,
        source: Source::Coordinator,
        next: None,
        answered: 0,
        submitted: 0,
    }
}

/// The fault in raw bytes.
fn fault(answer: &[u8]) -> Fault {
    let (header, payload) = answer.split_at_checked(HEADER_BYTES).unwrap_or_else(|| panic!("{answer:?} is no frame"));
    let header = Header::parse(header.try_into().unwrap()).unwrap();
    match Frame::decode(&header, payload.to_vec().into()).unwrap() {
        Frame::Fault(fault) => fault,
        other => panic!("{other:?} where a fault was due"),
    }
}

/// Reads a link to its fault.
async fn next_fault(link: &mut Link) -> Fault {
    let read = async {
        loop {
            match link.recv().await {
                Ok(Frame::Fault(fault)) => return fault,
                Ok(Frame::Output(_) | Frame::State(_)) => {}
                Ok(other) => panic!("{other:?} where a fault was due"),
                Err(error) => panic!("{error} where a fault was due"),
            }
        }
    };
    within(ANSWER, "a fault", read).await
}

/// Waits until the other side has closed.
async fn closed(link: &mut Link) -> LinkError {
    let read = async {
        loop {
            if let Err(error) = link.recv().await {
                return error;
            }
        }
    };
    within(GREETING, "the provider hangs up", read).await
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
