//! The worker with an engine that computes nothing: order, fairness, failures.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::AtomicBool,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use tokio::sync::{mpsc, oneshot};

use super::{
    device::Device,
    engine::{Engine, EngineStep},
    job::{LogitsJob, StepJob},
    outputs::Outputs,
    pages::Arena,
    queue::Queue,
    seat::Seat,
    worker::{self, Command},
};
use crate::{
    activation::Activation,
    hop::{Done, HopError, Input, Rows, Step},
    kernel::{Isa, Pool},
};

/// Panics on this token id.
const POISON: u32 = 666;

/// Notes what it is asked; every forward tells that it begins, then waits until the test lets go.
#[derive(Debug)]
struct Recorder {
    entered: SyncSender<()>,
    gate: Receiver<()>,
    log: Arc<Mutex<Vec<Vec<u32>>>>,
}

impl Engine for Recorder {
    fn forward(&mut self, layers: Range<usize>, steps: &[EngineStep<'_>]) -> Result<Vec<Option<Activation>>, String> {
        let _ = self.entered.try_send(());
        let _ = self.gate.recv();
        let ids = |step: &EngineStep<'_>| match step.input {
            Input::Tokens(ids) => ids.clone(),
            Input::Activation(_) => vec![],
        };
        let all: Vec<u32> = steps.iter().flat_map(ids).collect();
        self.log.lock().unwrap().push(all.clone());
        assert!(!layers.is_empty() && !all.contains(&POISON), "poisoned");
        Ok(steps.iter().map(|_| None).collect())
    }

    fn logits(&mut self, hidden: &[&Activation]) -> Result<Vec<f32>, String> {
        self.log.lock().unwrap().push(vec![1000 + hidden.len() as u32]);
        Ok(hidden.iter().flat_map(|hidden| hidden.to_f32()).collect())
    }
}

type Reply = oneshot::Receiver<Result<Done, HopError>>;

struct Bench {
    commands: mpsc::Sender<Command>,
    device: Arc<Device>,
    gate: SyncSender<()>,
    entered: Receiver<()>,
    log: Arc<Mutex<Vec<Vec<u32>>>>,
    arena: Arena,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Bench {
    fn new() -> Self {
        let (commands, inbox) = mpsc::channel(64);
        let (gate, gated) = sync_channel(1);
        let (enter, entered) = sync_channel(1);
        let log = Arc::<Mutex<Vec<Vec<u32>>>>::default();
        let engine = Recorder { entered: enter, gate: gated, log: Arc::clone(&log) };
        let device = Device::new(Box::new(engine), Pool::new(1), Isa::best());
        let worked = Arc::clone(&device);
        let thread = std::thread::spawn(move || worker::run(&worked, Queue::new(32), inbox, &AtomicBool::new(false)));
        Self { commands, device, gate, entered, log, arena: Arena::new(32, 16), thread: Some(thread) }
    }

    fn seat(&self, number: u64, layers: Range<usize>) -> Arc<Seat> {
        let outputs = Arc::new(Mutex::new(Outputs::new(0)));
        Arc::new(Seat::new(number, layers, 16, self.arena.lease(16).unwrap(), outputs))
    }

    fn step(&self, seat: &Arc<Seat>, ids: &[u32]) -> Reply {
        let (reply, result) = oneshot::channel();
        let step = Step { seq: 0, position: 0, input: Input::Tokens(ids.to_vec()), output: Rows::None };
        let job = StepJob::new(seat, step, vec![], reply, self.device.ticket());
        self.commands.blocking_send(Command::Step(seat.number, job)).unwrap();
        result
    }

    fn logits(&self, value: f32) -> oneshot::Receiver<Result<Vec<f32>, HopError>> {
        let (reply, result) = oneshot::channel();
        let hidden = Activation::from_f32(1, 1, vec![value]).unwrap();
        self.commands
            .blocking_send(Command::Logits(LogitsJob { hidden, reply, ticket: self.device.ticket() }))
            .unwrap();
        result
    }

    /// Has the worker hold a first step, so that all that is sent until `run` waits in the queue.
    fn hold(&self) -> (Arc<Seat>, Reply) {
        let seat = self.seat(0, 0..1);
        let reply = self.step(&seat, &[0]);
        self.entered.recv().unwrap();
        (seat, reply)
    }

    /// Lets everything run and ends; the order of forwards after the first.
    fn run(mut self) -> Vec<Vec<u32>> {
        self.commands.blocking_send(Command::Stop).unwrap();
        drop(self.gate);
        self.thread.take().unwrap().join().unwrap();
        assert_eq!(self.log.lock().unwrap().remove(0), [0]);
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

#[test]
fn decoding_sessions_and_prompts_share_a_forward() {
    let bench = Bench::new();
    let _held = bench.hold();
    let seats: Vec<_> = (1..=4).map(|number| bench.seat(number, 0..2)).collect();
    let mut replies = vec![];
    for chunk in [[11, 11], [12, 12], [13, 13]] {
        replies.push(bench.step(&seats[0], &chunk));
    }
    replies.push(bench.step(&seats[1], &[21, 21]));
    for (seat, ids) in [(2, 31), (3, 41), (2, 32), (3, 42)] {
        replies.push(bench.step(&seats[seat], &[ids]));
    }
    let logits = [bench.logits(0.5), bench.logits(0.25)];
    let log = bench.run();
    let order: Vec<&[u32]> = log.iter().map(Vec::as_slice).collect();
    let expected: [&[u32]; 4] = [&[1002], &[11, 11, 21, 21, 31, 41], &[12, 12, 32, 42], &[13, 13]];
    assert_eq!(order, expected);
    assert!(replies.into_iter().all(|reply| reply.blocking_recv().unwrap().is_ok()));
    let logits = logits.map(|reply| reply.blocking_recv().unwrap().unwrap());
    assert_eq!(logits, [[0.5], [0.25]], "each gets its own rows");
}

#[test]
fn who_decodes_waits_for_no_more_of_a_long_step_than_a_forward_holds() {
    let bench = Bench::new();
    let _held = bench.hold();
    let (long, quick) = (bench.seat(1, 0..1), bench.seat(2, 0..1));
    let ids: Vec<u32> = (100..180).collect();
    let replies = [bench.step(&long, &ids), bench.step(&quick, &[1]), bench.step(&quick, &[2])];
    let log = bench.run();
    let expected = [[&ids[..31], &[1]].concat(), [&ids[31..62], &[2]].concat(), ids[62..].to_vec()];
    assert_eq!(log, expected);
    assert!(replies.into_iter().all(|reply| reply.blocking_recv().unwrap().is_ok()));
    assert_eq!((long.account().0, quick.account().0), (80, 2));
}

#[test]
fn a_session_that_ends_within_a_step_is_not_computed_to_its_end() {
    let bench = Bench::new();
    let _held = bench.hold();
    let (sick, well) = (bench.seat(1, 0..1), bench.seat(2, 0..1));
    let mut ids = vec![5; 90];
    ids[40] = POISON;
    let replies = [bench.step(&sick, &ids), bench.step(&well, &[6; 40]), bench.step(&sick, &[8])];
    let log = bench.run();
    assert_eq!(log.iter().map(Vec::len).collect::<Vec<_>>(), [32, 32, 32, 8], "{log:?}");
    assert!(!log.iter().flatten().any(|id| *id == 8));
    let [poisoned, well, after] = replies.map(|reply| reply.blocking_recv());
    assert!(matches!(poisoned, Ok(Err(HopError::Device { .. }))) && well.unwrap().is_ok() && after.is_err());
}

#[test]
fn only_steps_over_the_same_layers_meet() {
    let bench = Bench::new();
    let _held = bench.hold();
    let seats = [bench.seat(1, 0..2), bench.seat(2, 1..2), bench.seat(3, 0..2)];
    let _replies: Vec<_> = seats.iter().zip([1, 2, 3]).map(|(seat, id)| bench.step(seat, &[id])).collect();
    assert_eq!(bench.run(), [vec![1, 3], vec![2]]);
}

#[test]
fn a_panic_fails_its_own_session_and_the_worker_goes_on() {
    let bench = Bench::new();
    let _held = bench.hold();
    let (sick, well) = (bench.seat(1, 0..1), bench.seat(2, 0..1));
    let replies =
        [bench.step(&sick, &[POISON]), bench.step(&well, &[7]), bench.step(&sick, &[8]), bench.step(&well, &[9])];
    let log = bench.run();
    assert_eq!(log, [vec![POISON, 7], vec![POISON], vec![7], vec![9]]);
    let [poisoned, first, later, second] = replies.map(|reply| reply.blocking_recv());
    assert!(matches!(&poisoned, Ok(Err(HopError::Device { reason })) if reason.contains("poisoned")), "{poisoned:?}");
    assert!(first.unwrap().is_ok() && second.unwrap().is_ok());
    assert!(later.is_err() && sick.has_ended() && !well.has_ended(), "the session is over");
}

#[test]
fn steps_of_a_session_that_is_gone_are_not_run() {
    let bench = Bench::new();
    let _held = bench.hold();
    let (gone, closed, here) = (bench.seat(1, 0..1), bench.seat(2, 0..1), bench.seat(3, 0..1));
    let replies = [bench.step(&gone, &[1]), bench.step(&closed, &[2]), bench.step(&here, &[3])];
    let arena = bench.arena.clone();
    let free = arena.free_tokens();
    drop(gone);
    assert_eq!(arena.free_tokens(), free + 16, "while the worker is busy");
    closed.end();
    assert_eq!(bench.run(), [vec![3]]);
    let [gone, closed, here] = replies.map(|reply| reply.blocking_recv());
    assert!(gone.is_err() && closed.is_err() && here.is_ok());
}
