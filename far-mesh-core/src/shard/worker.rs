//! The thread that serves the jobs that wait.
//!
//! ```text
//! commands (bounded) -> Queue -> Device, a turn for each forward -> a oneshot reply for each job
//! ```
//!
//! Invariant: a session's pages are free again before the reply to its last step is sent, if its handle is gone; so are
//! the tickets of jobs, and the device's turn.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tokio::sync::{mpsc, oneshot};

use super::{
    device::Device,
    engine::{Engine, EngineStep},
    queue::{LogitsJob, Queue, StepJob, Work},
    seat::Seat,
};
use crate::hop::{Done, HopError};

/// Commands on their way to the worker. Senders wait when it is full.
pub(super) const COMMANDS: usize = 64;

/// Jobs the worker sorts at a time; beyond it they stay in the channel.
const MAX_WAITING: usize = 1024;

/// What the worker is told.
#[derive(Debug)]
pub(super) enum Command {
    Step(StepJob),
    Logits(LogitsJob),
    /// Finish what was queued before, then end.
    Stop,
}

/// A result and who waits for it.
#[derive(Debug)]
pub(super) enum Reply {
    Step(oneshot::Sender<Result<Done, HopError>>, Result<Done, HopError>),
    Logits(oneshot::Sender<Result<Vec<f32>, HopError>>, Result<Vec<f32>, HopError>),
}

/// Serves commands until [`Command::Stop`] or until all senders are gone; with `abandon` set it ends after the forward
/// that is running.
pub(super) fn run(device: &Device, mut commands: mpsc::Receiver<Command>, abandon: &AtomicBool) {
    let mut queue = Queue::default();
    let mut stopping = false;
    while !abandon.load(Ordering::Acquire) {
        if !stopping && queue.waiting() == 0 {
            stopping = admit(&mut queue, commands.blocking_recv());
        }
        let replies = device.turn().with(|engine| {
            // What came while the device was in use joins the batch.
            while !stopping && queue.waiting() < MAX_WAITING {
                match commands.try_recv() {
                    Ok(command) => stopping = admit(&mut queue, Some(command)),
                    Err(_) => break,
                }
            }
            match queue.next()? {
                Work::Logits(jobs) => Some(logits(device, engine, jobs)),
                Work::Steps(jobs) => Some(steps(device, engine, jobs)),
            }
        });
        // The turn is over: who gets an answer finds the device free.
        match replies.flatten() {
            Some(replies) => replies.into_iter().for_each(Reply::send),
            None if stopping => break,
            None => {}
        }
    }
}

/// Queues a command; true when the worker is to stop.
fn admit(queue: &mut Queue, command: Option<Command>) -> bool {
    match command {
        Some(Command::Step(job)) => queue.push_step(job),
        Some(Command::Logits(job)) => queue.push_logits(job),
        Some(Command::Stop) | None => return true,
    }
    false
}

/// Runs steps in one forward. If that fails each is tried alone, so that one session cannot fail another.
pub(super) fn steps(device: &Device, engine: &mut dyn Engine, jobs: Vec<(Arc<Seat>, StepJob)>) -> Vec<Reply> {
    let Some(layers) = jobs.first().map(|(seat, _)| seat.layers.clone()) else { return vec![] };
    let batch: Vec<EngineStep<'_>> = jobs
        .iter()
        .map(|(seat, job)| EngineStep {
            position: job.step.position as usize,
            pages: seat.lease.pages(),
            input: &job.step.input,
            output: job.step.output,
        })
        .collect();
    let rows: usize = batch.iter().map(|step| step.input.tokens()).sum();
    let started = Instant::now();
    let outcome = guarded(|| engine.forward(layers, &batch));
    let compute = started.elapsed();
    drop(batch);
    match outcome {
        Err(_) if jobs.len() > 1 => jobs.into_iter().flat_map(|job| steps(device, engine, vec![job])).collect(),
        Err(error) => jobs
            .into_iter()
            .map(|(seat, job)| {
                seat.end();
                Reply::Step(job.reply, Err(error.clone()))
            })
            .collect(),
        Ok(outputs) => {
            if rows == 1 {
                device.step.note(compute);
            }
            let done = jobs.into_iter().zip(outputs).map(|((seat, job), output)| {
                let tokens = job.step.input.tokens();
                seat.book(tokens, compute.mul_f64(tokens as f64 / rows as f64));
                Reply::Step(job.reply, Ok(Done { seq: job.step.seq, output }))
            });
            done.collect()
        }
    }
}

/// Computes logits in one product, or each alone if that fails.
pub(super) fn logits(device: &Device, engine: &mut dyn Engine, jobs: Vec<LogitsJob>) -> Vec<Reply> {
    let hidden: Vec<_> = jobs.iter().map(|job| &job.hidden).collect();
    let rows: usize = hidden.iter().map(|hidden| hidden.tokens()).sum();
    let started = Instant::now();
    let outcome = guarded(|| engine.logits(&hidden));
    if outcome.is_ok() && rows == 1 {
        device.logits.note(started.elapsed());
    }
    match outcome {
        Err(_) if jobs.len() > 1 => jobs.into_iter().flat_map(|job| logits(device, engine, vec![job])).collect(),
        Ok(values) if jobs.len() > 1 => {
            let vocabulary = values.len() / rows;
            let mut rest = values.as_slice();
            let own = jobs.into_iter().map(|job| {
                let (own, after) = rest.split_at(job.hidden.tokens() * vocabulary);
                rest = after;
                Reply::Logits(job.reply, Ok(own.to_vec()))
            });
            own.collect()
        }
        outcome => jobs.into_iter().next().map(|job| Reply::Logits(job.reply, outcome)).into_iter().collect(),
    }
}

impl Reply {
    /// Answers; nobody may be waiting any more.
    pub(super) fn send(self) {
        match self {
            Self::Step(to, result) => drop(to.send(result)),
            Self::Logits(to, result) => drop(to.send(result)),
        }
    }
}

/// Turns a panic into an error: the model and other sessions' pages are untouched by a forward that ended early.
fn guarded<T>(compute: impl FnOnce() -> Result<T, String>) -> Result<T, HopError> {
    let reason = match catch_unwind(AssertUnwindSafe(compute)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(reason)) => reason,
        Err(panic) => format!("the kernel panicked: {}", message(&*panic)),
    };
    tracing::error!(%reason, "a forward failed");
    Err(HopError::Device { reason })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
