//! Who does a job: the worker, or the thread that asks.
//!
//! A short job of somebody who is alone is done at once, where it is asked for: that saves the way to the worker and
//! back, two wake-ups, which beside a decode step of a small model are a good part of the time. All else goes to the
//! worker, where it meets the jobs of others and where a long one keeps nobody's connections waiting.
//!
//! Doing it at once blocks an async thread, for no longer than `device::SHORT` says; moving the runtime's other tasks
//! out of the way (`block_in_place`) would cost the very wake-up that is saved.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{
    device::{Device, Pace, Ticket},
    job::{LogitsJob, Piece, Reply, StepJob},
    prefix::PageKey,
    seat::Seat,
    worker::{self, Command},
};
use crate::{
    activation::Activation,
    hop::{Done, HopError, Step},
};

/// The way of sessions and heads to the device.
#[derive(Clone, Debug)]
pub(super) struct Dispatch {
    device: Arc<Device>,
    commands: mpsc::Sender<Command>,
}

/// Where an answer comes; closed without one when the session or the shard has ended.
pub(super) type Answer<T> = oneshot::Receiver<Result<T, HopError>>;

impl Dispatch {
    pub(super) fn new(device: Arc<Device>, commands: mpsc::Sender<Command>) -> Self {
        Self { device, commands }
    }

    /// Whether the worker has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }

    /// Has a checked step done, which fills the pages of these names. A dropped future may or may not have it done.
    pub(super) async fn step(
        &self,
        seat: &Arc<Seat>,
        step: Step,
        keys: Vec<PageKey>,
    ) -> Result<Answer<Done>, HopError> {
        let (reply, answer) = oneshot::channel();
        let rows = step.input.tokens();
        let ticket = self.device.ticket();
        let at_once = rows == 1 && is_alone(&ticket, &self.device.step).await;
        let job = StepJob::new(seat, step, keys, reply, ticket);
        if at_once && let Some(turn) = self.device.try_turn() {
            let piece = Piece { seat: Arc::clone(seat), job, rows };
            let ran = turn.with(|engine| worker::steps(&self.device, engine, vec![piece]));
            ran.into_iter().flat_map(|ran| ran.replies).for_each(Reply::send);
        } else {
            self.commands.send(Command::Step(seat.number, job)).await.map_err(|_| HopError::Closed)?;
        }
        Ok(answer)
    }

    /// Has logits computed. A dropped future may or may not have it done.
    pub(super) async fn logits(&self, hidden: Activation) -> Result<Answer<Vec<f32>>, HopError> {
        let (reply, answer) = oneshot::channel();
        let ticket = self.device.ticket();
        let at_once = hidden.tokens() == 1 && is_alone(&ticket, &self.device.logits).await;
        let job = LogitsJob { hidden, reply, ticket };
        if at_once && let Some(turn) = self.device.try_turn() {
            let replies = turn.with(|engine| worker::logits(&self.device, engine, vec![job]));
            replies.into_iter().flatten().for_each(Reply::send);
        } else {
            self.commands.send(Command::Logits(job)).await.map_err(|_| HopError::Closed)?;
        }
        Ok(answer)
    }
}

/// Whether a job will be short and nobody else has one. Jobs of many sessions become ready together, when a batch is
/// answered or a packet arrives, and on one thread each would find itself alone and run by itself; so all that is ready
/// gets a chance to announce its job first.
async fn is_alone(ticket: &Ticket, pace: &Pace) -> bool {
    if !ticket.is_only() || !pace.is_short() {
        return false;
    }
    tokio::task::yield_now().await;
    ticket.is_only()
}

#[cfg(test)]
mod tests {
    use std::{
        ops::Range,
        sync::{Mutex, atomic::AtomicBool},
        thread::{self, JoinHandle, ThreadId},
        time::Duration,
    };

    use futures::FutureExt;
    use tokio::runtime::Runtime;

    use super::*;
    use crate::{
        hop::{Input, Rows},
        kernel::{Isa, Pool},
        shard::{
            engine::{Engine, EngineStep},
            outputs::Outputs,
            pages::Arena,
            queue::Queue,
            worker::COMMANDS,
        },
    };

    /// Panics on this token id.
    const POISON: u32 = 666;

    /// Notes on which thread it computes, and how many rows.
    #[derive(Debug)]
    struct Recorder(Arc<Mutex<Vec<(ThreadId, usize)>>>);

    impl Engine for Recorder {
        fn forward(&mut self, _: Range<usize>, steps: &[EngineStep<'_>]) -> Result<Vec<Option<Activation>>, String> {
            let rows = steps.iter().map(|step| step.input.tokens()).sum();
            self.0.lock().unwrap().push((thread::current().id(), rows));
            assert!(!steps.iter().any(|step| *step.input == Input::Tokens(vec![POISON])), "poisoned");
            Ok(steps.iter().map(|_| None).collect())
        }

        fn logits(&mut self, hidden: &[&Activation]) -> Result<Vec<f32>, String> {
            self.0.lock().unwrap().push((thread::current().id(), hidden.len()));
            Ok(hidden.iter().flat_map(|hidden| hidden.to_f32()).collect())
        }
    }

    struct Bench {
        dispatch: Dispatch,
        log: Arc<Mutex<Vec<(ThreadId, usize)>>>,
        arena: Arena,
        worker: JoinHandle<()>,
        runtime: Runtime,
    }

    impl Bench {
        /// A device known to be quick, and one session.
        fn quick() -> (Self, Arc<Seat>) {
            let (commands, inbox) = mpsc::channel(COMMANDS);
            let log = Arc::<Mutex<Vec<_>>>::default();
            let device = Device::new(Box::new(Recorder(Arc::clone(&log))), Pool::new(2), Isa::best());
            device.step.note(Duration::from_micros(10));
            device.logits.note(Duration::from_micros(10));
            let worked = Arc::clone(&device);
            let worker = thread::spawn(move || {
                worker::run(&worked, Queue::new(64), inbox, &AtomicBool::new(false));
                worked.end();
            });
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let bench =
                Self { dispatch: Dispatch::new(device, commands), log, arena: Arena::new(8, 16), worker, runtime };
            let seat = bench.seat(0);
            (bench, seat)
        }

        fn seat(&self, number: u64) -> Arc<Seat> {
            let outputs = Arc::new(Mutex::new(Outputs::new(0)));
            Arc::new(Seat::new(number, 0..1, 16, self.arena.lease(16).unwrap(), outputs))
        }

        async fn step(&self, seat: &Arc<Seat>, ids: &[u32]) -> Result<Done, HopError> {
            let step = Step { seq: 0, position: 0, input: Input::Tokens(ids.to_vec()), output: Rows::None };
            self.dispatch.step(seat, step, vec![]).await?.await.unwrap_or(Err(HopError::Closed))
        }

        async fn logits(&self, value: f32) -> Vec<f32> {
            let hidden = Activation::from_f32(1, 1, vec![value]).unwrap();
            self.dispatch.logits(hidden).await.unwrap().await.unwrap().unwrap()
        }

        /// Forwards since the last call: whether on this thread, and their rows.
        fn ran(&self) -> Vec<(bool, usize)> {
            let log = std::mem::take(&mut *self.log.lock().unwrap());
            log.into_iter().map(|(id, rows)| (id == thread::current().id(), rows)).collect()
        }
    }

    #[test]
    fn a_short_job_of_one_who_is_alone_runs_where_it_is_asked_for() {
        let (bench, seat) = Bench::quick();
        bench.runtime.block_on(bench.step(&seat, &[1])).unwrap();
        assert_eq!(bench.runtime.block_on(bench.logits(0.5)), [0.5]);
        assert_eq!(bench.ran(), [(true, 1), (true, 1)]);
        bench.runtime.block_on(bench.step(&seat, &[1, 2])).unwrap();
        assert_eq!(bench.ran(), [(false, 2)], "a chunk");
        assert_eq!(seat.account().0, 3);
        let device = &bench.dispatch.device;
        (0..9).for_each(|_| device.step.note(Duration::from_secs(1)));
        bench.runtime.block_on(bench.step(&seat, &[1])).unwrap();
        assert_eq!(bench.ran(), [(false, 1)], "a slow device");
    }

    #[test]
    fn jobs_of_several_meet_at_the_worker() {
        let (bench, seat) = Bench::quick();
        let seats = [seat, bench.seat(1), bench.seat(2)];
        for _ in 0..20 {
            // Nothing is computed before all have asked.
            let turn = bench.dispatch.device.turn();
            let mut steps = futures::future::join_all(seats.iter().map(|seat| bench.step(seat, &[1])));
            let mut logits = std::pin::pin!(async { futures::join!(bench.logits(0.5), bench.logits(0.25)) });
            bench.runtime.block_on(async {
                for _ in 0..3 {
                    assert!((&mut steps).now_or_never().is_none() && logits.as_mut().now_or_never().is_none());
                    tokio::task::yield_now().await;
                }
            });
            drop(turn);
            assert!(bench.runtime.block_on(steps).iter().all(Result::is_ok));
            assert_eq!(bench.runtime.block_on(logits), (vec![0.5], vec![0.25]), "each gets its own");
            let mut ran = bench.ran();
            ran.sort_unstable();
            assert_eq!(ran, [(false, 2), (false, 3)]);
        }
    }

    #[test]
    fn who_finds_the_device_in_use_leaves_the_job_to_the_worker() {
        let (bench, seat) = Bench::quick();
        let turn = bench.dispatch.device.turn();
        let step = Step { seq: 0, position: 0, input: Input::Tokens(vec![1]), output: Rows::None };
        let answer = bench.runtime.block_on(bench.dispatch.step(&seat, step, vec![])).unwrap();
        drop(turn);
        assert!(answer.blocking_recv().unwrap().is_ok());
        assert_eq!(bench.ran(), [(false, 1)]);
    }

    #[test]
    fn a_panic_on_the_asking_thread_fails_its_own_session_only() {
        let (bench, seat) = Bench::quick();
        let failed = bench.runtime.block_on(bench.step(&seat, &[POISON]));
        assert!(matches!(&failed, Err(HopError::Device { reason }) if reason.contains("poisoned")), "{failed:?}");
        assert!(seat.has_ended() && seat.account() == (0, Duration::ZERO));
        let other = bench.seat(1);
        bench.runtime.block_on(bench.step(&other, &[1])).unwrap();
        assert_eq!(bench.ran(), [(true, 1), (true, 1)]);
    }

    #[test]
    fn a_job_dropped_before_it_ran_leaves_no_trace() {
        let (bench, seat) = Bench::quick();
        bench.runtime.block_on(async {
            assert!(bench.step(&seat, &[1]).now_or_never().is_none(), "waits for others to announce theirs");
        });
        assert_eq!(bench.ran(), []);
        assert_eq!(seat.account().0, 0);
        drop(seat);
        assert_eq!(bench.arena.free_tokens(), bench.arena.total_tokens());
        bench.runtime.block_on(bench.step(&bench.seat(1), &[1])).unwrap();
        assert_eq!(bench.ran(), [(true, 1)], "nobody else is announced");
    }

    #[test]
    fn an_ended_shard_does_nothing_more() {
        let (bench, seat) = Bench::quick();
        bench.dispatch.commands.blocking_send(Command::Stop).unwrap();
        let Bench { worker, dispatch, runtime, log, .. } = bench;
        worker.join().unwrap();
        let step = Step { seq: 0, position: 0, input: Input::Tokens(vec![1]), output: Rows::None };
        assert!(matches!(runtime.block_on(dispatch.step(&seat, step, vec![])), Err(HopError::Closed)));
        assert!(log.lock().unwrap().is_empty() && dispatch.is_closed());
    }
}
