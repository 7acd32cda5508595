//! The thread that owns the device.
//!
//! ```text
//! commands (bounded) -> Queue -> Engine -> a oneshot reply for each job
//! ```
//!
//! Invariant: a session's pages are free again before the reply to its last step is sent, if its handle is gone.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tokio::sync::mpsc;

use super::{
    engine::{Engine, EngineStep},
    queue::{LogitsJob, Queue, StepJob, Work},
    seat::Seat,
};
use crate::{
    hop::{Done, HopError},
    kernel::Pool,
};

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

/// Serves commands until [`Command::Stop`] or until all senders are gone; with `abandon` set it ends after the forward
/// that is running.
pub(super) fn run(engine: &mut dyn Engine, mut commands: mpsc::Receiver<Command>, abandon: &AtomicBool) {
    let pool = Pool::installed();
    let mut queue = Queue::default();
    let mut stopping = false;
    while !abandon.load(Ordering::Acquire) {
        if !stopping && queue.waiting() == 0 {
            pool.iter().for_each(Pool::rest);
            stopping = admit(&mut queue, commands.blocking_recv());
            pool.iter().for_each(Pool::rouse);
        }
        while !stopping && queue.waiting() < MAX_WAITING {
            match commands.try_recv() {
                Ok(command) => stopping = admit(&mut queue, Some(command)),
                Err(_) => break,
            }
        }
        match queue.next() {
            Some(Work::Logits(jobs)) => logits(engine, jobs),
            Some(Work::Steps(jobs)) => steps(engine, jobs),
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
fn steps(engine: &mut dyn Engine, jobs: Vec<(Arc<Seat>, StepJob)>) {
    let Some(layers) = jobs.first().map(|(seat, _)| seat.layers.clone()) else { return };
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
        Err(_) if jobs.len() > 1 => jobs.into_iter().for_each(|job| steps(engine, vec![job])),
        Err(error) => {
            for (seat, job) in jobs {
                seat.end();
                drop(seat);
                // Nobody may be waiting any more.
                let _ = job.reply.send(Err(error.clone()));
            }
        }
        Ok(outputs) => {
            for ((seat, job), output) in jobs.into_iter().zip(outputs) {
                let tokens = job.step.input.tokens();
                seat.book(tokens, compute.mul_f64(tokens as f64 / rows as f64));
                drop(seat);
                let _ = job.reply.send(Ok(Done { seq: job.step.seq, output }));
            }
        }
    }
}

/// Computes logits in one product, or each alone if that fails.
fn logits(engine: &mut dyn Engine, jobs: Vec<LogitsJob>) {
    let hidden: Vec<_> = jobs.iter().map(|job| &job.hidden).collect();
    let rows: usize = hidden.iter().map(|hidden| hidden.tokens()).sum();
    let outcome = guarded(|| engine.logits(&hidden));
    match outcome {
        Err(_) if jobs.len() > 1 => jobs.into_iter().for_each(|job| logits(engine, vec![job])),
        Ok(values) if jobs.len() > 1 => {
            let vocabulary = values.len() / rows;
            let mut rest = values.as_slice();
            for job in jobs {
                let (own, after) = rest.split_at(job.hidden.tokens() * vocabulary);
                rest = after;
                let _ = job.reply.send(Ok(own.to_vec()));
            }
        }
        outcome => {
            if let Some(job) = jobs.into_iter().next() {
                let _ = job.reply.send(outcome);
            }
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
