//! Sessions with the same beginnings, on an engine whose cache can be looked at.

use std::{
    ops::Range,
    sync::{Arc, Mutex, atomic::AtomicBool},
    thread::JoinHandle,
};

use tokio::{runtime::Runtime, sync::mpsc};

use super::{
    Batching, Info, PrefixSharing,
    device::Device,
    dispatch::Dispatch,
    engine::{Engine, EngineStep},
    local_hop::LocalHop,
    pages::Arena,
    queue::Queue,
    worker,
};
use crate::{
    activation::{Activation, Dtype},
    hop::{Hop, HopSession, Input, OpenSession, Rows, Step},
    id::{ModelHash, NodeId, SessionId, Span},
    kernel::{Isa, Pool},
};

const PAGE: usize = 16;
const HASH: ModelHash = ModelHash([1; 32]);

/// Writes ids into pages; what comes out of a row tells all ids up to it, as its pages hold them.
#[derive(Debug)]
struct Memory {
    pages: Vec<[u32; PAGE]>,
    /// Rows of each forward.
    log: Arc<Mutex<Vec<usize>>>,
}

impl Engine for Memory {
    fn forward(&mut self, _: Range<usize>, steps: &[EngineStep<'_>]) -> Result<Vec<Option<Activation>>, String> {
        self.log.lock().unwrap().push(steps.iter().map(|step| step.input.tokens()).sum());
        for step in steps {
            let Input::Tokens(ids) = step.input else { return Err("ids".into()) };
            for (at, id) in (step.position..).zip(ids) {
                self.pages[step.pages[at / PAGE] as usize][at % PAGE] = *id;
            }
        }
        let read = |step: &EngineStep<'_>| {
            let ids = |end| (0..end).map(|at| self.pages[step.pages[at / PAGE] as usize][at % PAGE]);
            let end = step.position + step.input.tokens();
            let first = match step.output {
                Rows::None => return None,
                Rows::Last => end - 1,
                Rows::All => step.position,
            };
            Activation::from_f32(end - first, 1, (first..end).map(|at| digest(ids(at + 1))).collect()).ok()
        };
        Ok(steps.iter().map(read).collect())
    }

    fn logits(&mut self, _: &[&Activation]) -> Result<Vec<f32>, String> {
        Err("no head".into())
    }
}

fn digest(ids: impl Iterator<Item = u32>) -> f32 {
    ids.fold(0u32, |sum, id| (sum.wrapping_mul(31) + id) % 100_003) as f32
}

struct Bench {
    hop: LocalHop,
    arena: Arena,
    log: Arc<Mutex<Vec<usize>>>,
    worker: Option<JoinHandle<()>>,
    commands: mpsc::Sender<worker::Command>,
    runtime: Runtime,
}

impl Bench {
    fn new(prefix_sharing: PrefixSharing, output_bytes: usize) -> Self {
        let batching = Batching { step_tokens: 40, prefix_sharing, output_bytes };
        let (commands, inbox) = mpsc::channel(64);
        let log = Arc::<Mutex<Vec<usize>>>::default();
        let engine = Memory { pages: vec![[0; PAGE]; 64], log: Arc::clone(&log) };
        let device = Device::new(Box::new(engine), Pool::new(1), Isa::best());
        let dispatch = Dispatch::new(Arc::clone(&device), commands.clone());
        let worker = std::thread::spawn(move || {
            worker::run(&device, Queue::new(batching.step_tokens), inbox, &AtomicBool::new(false));
        });
        let span = Span::new(0, 1).unwrap();
        let info = Info {
            hash: HASH,
            name: "memory".into(),
            span: Some(span),
            layers: 1,
            hidden: 1,
            vocab: 1000,
            context_tokens: 1024,
            dtype: Dtype::F32,
            kernel_class: "test".into(),
            packed_bytes: 0,
            arena_bytes: 0,
            arena_tokens: 1024,
        };
        let arena = Arena::new(64, PAGE);
        let hop = LocalHop::new(Arc::new(info), span, arena.clone(), batching, false, dispatch);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { hop, arena, log, worker: Some(worker), commands, runtime }
    }

    fn open(&self, owner: Option<NodeId>) -> Box<dyn HopSession> {
        let span = Span::new(0, 1).unwrap();
        let request =
            OpenSession { session: SessionId::random(), model: HASH, span, dtype: Dtype::F32, context_tokens: 256 };
        let session = match owner {
            Some(owner) => self.hop.open_for(owner, request),
            None => self.hop.open(request),
        };
        self.runtime.block_on(session).unwrap()
    }

    /// Sends a prompt in chunks; what comes out of the last, and the rows computed for it.
    fn prompt(
        &self,
        session: &mut dyn HopSession,
        ids: &[u32],
        chunk: usize,
        inner: Rows,
        last: Rows,
    ) -> (Vec<f32>, usize) {
        let before: usize = self.log.lock().unwrap().iter().sum();
        let mut out = vec![];
        for (seq, part) in ids.chunks(chunk).enumerate() {
            let output = if (seq + 1) * chunk < ids.len() { inner } else { last };
            let step =
                Step { seq: seq as u64, position: (seq * chunk) as u32, input: Input::Tokens(part.to_vec()), output };
            let done = self.runtime.block_on(async {
                session.submit(step).await.unwrap();
                session.next().await.unwrap()
            });
            assert_eq!(done.seq, seq as u64);
            out.extend(done.output.iter().flat_map(Activation::to_f32));
        }
        (out, self.log.lock().unwrap().iter().sum::<usize>() - before)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.commands.blocking_send(worker::Command::Stop);
        self.worker.take().map(JoinHandle::join);
    }
}

fn ids(count: u32) -> Vec<u32> {
    (0..count).map(|at| (at * 7 + 3) % 1000).collect()
}

#[test]
fn a_repeated_prompt_is_computed_only_where_its_end_is_needed() {
    let bench = Bench::new(PrefixSharing::Owner, 0);
    let ids = ids(100);
    let want = vec![digest(ids.iter().copied())];
    let mut first = bench.open(None);
    assert_eq!(bench.prompt(first.as_mut(), &ids, 30, Rows::None, Rows::Last), (want.clone(), 100));
    let free = bench.arena.free_tokens();
    for chunk in [100, 30, 64, 7] {
        let mut again = bench.open(None);
        let (got, rows) = bench.prompt(again.as_mut(), &ids, chunk, Rows::None, Rows::Last);
        assert_eq!(got, want, "in chunks of {chunk}");
        // Rows of a page that a chunk begins are computed before the next chunk says what page it is.
        let most = if chunk < PAGE { 100 } else { 4 + (100 / chunk) * PAGE };
        assert!((4..=most).contains(&rows), "{rows} rows in chunks of {chunk}");
        assert_eq!(bench.arena.free_tokens(), free - 256 + 96, "six pages are read by both");
    }
    // The page with the row that is wanted is computed: whole pages end there.
    let mut even = bench.open(None);
    let (got, rows) = bench.prompt(even.as_mut(), &ids[..96], 48, Rows::None, Rows::Last);
    assert_eq!((got, rows), (vec![digest(ids[..96].iter().copied())], 16));
    // Another end after the same beginning.
    let mut other = ids.clone();
    other[70] = 999;
    let mut branch = bench.open(None);
    let (got, rows) = bench.prompt(branch.as_mut(), &other, 100, Rows::None, Rows::Last);
    assert_eq!((got, rows), (vec![digest(other.iter().copied())], 36));
    drop((first, even, branch));
    assert_eq!(bench.arena.free_tokens(), 1024);
    let mut late = bench.open(None);
    assert_eq!(bench.prompt(late.as_mut(), &ids, 100, Rows::None, Rows::Last), (want, 4), "kept after its sessions");
}

#[test]
fn what_a_next_hop_needs_is_kept_or_computed_again() {
    let ids = ids(100);
    let want: Vec<f32> = (1..=100).map(|end| digest(ids[..end].iter().copied())).collect();
    // An activation of a page takes 64 bytes here: room for all six, for two, for none.
    for (output_bytes, most) in [(1024, 4), (128, 100), (0, 100)] {
        let bench = Bench::new(PrefixSharing::Owner, output_bytes);
        for round in 0..3 {
            let mut session = bench.open(None);
            let (got, rows) = bench.prompt(session.as_mut(), &ids, 48, Rows::All, Rows::All);
            assert_eq!(got, want);
            assert_eq!(rows, if round == 0 { 100 } else { most }, "with {output_bytes} bytes in round {round}");
        }
        assert_eq!(bench.arena.free_tokens(), 1024);
    }
}

#[test]
fn pages_are_shared_with_whom_the_setting_says() {
    let (one, two) = (NodeId::random(), NodeId::random());
    let ids = ids(33);
    // Rows computed by: this machine, a node, the same node, another node, this machine.
    for (sharing, rows) in [
        (PrefixSharing::Off, [33; 5]),
        (PrefixSharing::Owner, [33, 33, 1, 33, 1]),
        (PrefixSharing::All, [33, 1, 1, 1, 1]),
    ] {
        let bench = Bench::new(sharing, 0);
        let owners = [None, Some(one), Some(one), Some(two), None];
        let computed = owners.map(|owner| {
            let mut session = bench.open(owner);
            let (got, rows) = bench.prompt(session.as_mut(), &ids, 33, Rows::None, Rows::Last);
            assert_eq!(got, [digest(ids.iter().copied())]);
            rows
        });
        assert_eq!(computed, rows, "{sharing:?}");
    }
}

#[test]
fn sessions_that_begin_alike_at_once_compute_it_once() {
    let bench = Bench::new(PrefixSharing::Owner, 0);
    let ids = ids(80);
    let mut sessions: Vec<_> = (0..4).map(|_| bench.open(None)).collect();
    let step = || Step { seq: 0, position: 0, input: Input::Tokens(ids.clone()), output: Rows::Last };
    let done = bench.runtime.block_on(futures::future::join_all(sessions.iter_mut().map(async |session| {
        session.submit(step()).await.unwrap();
        session.next().await.unwrap().output.unwrap().to_f32()
    })));
    assert!(done.iter().all(|row| *row == [digest(ids.iter().copied())]));
    let rows: usize = bench.log.lock().unwrap().iter().sum();
    assert_eq!(rows, 80 + 3 * 16, "each its own last page");
}
