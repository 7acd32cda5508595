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
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use tokio::sync::mpsc;

use super::{
    device::Device,
    engine::{Engine, EngineStep},
    gather::{Gather, LOOK},
    job::{LogitsJob, Piece, Reply, StepJob},
    queue::{Queue, Work},
};
use crate::hop::{HopError, Input};

/// Commands on their way to the worker. Senders wait when it is full.
pub(super) const COMMANDS: usize = 64;

/// Jobs the worker sorts at a time; beyond it they stay in the channel.
const MAX_WAITING: usize = 1024;

/// What the worker is told.
#[derive(Debug)]
pub(super) enum Command {
    /// With the number of its session.
    Step(u64, StepJob),
    Logits(LogitsJob),
    /// Finish what was queued before, then end.
    Stop,
}

/// Serves commands until [`Command::Stop`] or until all senders are gone; with `abandon` set it ends after the forward
/// that is running.
pub(super) fn run(device: &Device, mut queue: Queue, mut commands: mpsc::Receiver<Command>, abandon: &AtomicBool) {
    let mut stopping = false;
    let mut gather = Gather::default();
    while !abandon.load(Ordering::Acquire) {
        if !stopping && queue.waiting() == 0 {
            stopping = admit(&mut queue, commands.blocking_recv());
        }
        if !stopping {
            stopping = wait_for_more(&mut queue, &mut commands, mem::take(&mut gather));
        }
        let started = Instant::now();
        let replies = device.turn().with(|engine| {
            // What came while the device was in use joins the batch.
            while !stopping && queue.waiting() < MAX_WAITING {
                match commands.try_recv() {
                    Ok(command) => stopping = admit(&mut queue, Some(command)),
                    Err(_) => break,
                }
            }
            let done = queue.skip();
            if !done.is_empty() {
                return Some(done);
            }
            match queue.next()? {
                Work::Logits(jobs) => Some(logits(device, engine, jobs)),
                Work::Steps(pieces) => {
                    let Ran { replies, rest } = steps(device, engine, pieces);
                    rest.into_iter().for_each(|(session, job)| queue.put_back(session, job));
                    Some(replies)
                }
            }
        });
        // The turn is over: who gets an answer finds the device free.
        match replies.flatten() {
            Some(replies) => {
                gather = Gather::after(replies.iter().filter(|reply| reply.is_followed()).count(), started.elapsed());
                replies.into_iter().for_each(Reply::send);
            }
            None if stopping => break,
            None => {}
        }
    }
}

/// Waits for whom `gather` says; true when the worker is to stop.
fn wait_for_more(queue: &mut Queue, commands: &mut mpsc::Receiver<Command>, gather: Gather) -> bool {
    let started = Instant::now();
    let mut last = started;
    while gather.waits(queue.waiting(), last.elapsed(), started.elapsed()) {
        match commands.try_recv() {
            Ok(command) => {
                last = Instant::now();
                if admit(queue, Some(command)) {
                    return true;
                }
            }
            Err(_) => thread::sleep(LOOK),
        }
    }
    false
}

/// Queues a command; true when the worker is to stop.
fn admit(queue: &mut Queue, command: Option<Command>) -> bool {
    match command {
        Some(Command::Step(session, job)) => queue.push_step(session, job),
        Some(Command::Logits(job)) => queue.push_logits(job),
        Some(Command::Stop) | None => return true,
    }
    false
}

/// What came of a forward.
#[derive(Debug, Default)]
pub(super) struct Ran {
    /// Steps that are over.
    pub(super) replies: Vec<Reply>,
    /// Steps of which there is more to compute, with the numbers of their sessions.
    pub(super) rest: Vec<(u64, StepJob)>,
}

/// Runs pieces of different sessions in one forward. If that fails each is tried alone, so that one session cannot fail
/// another.
pub(super) fn steps(device: &Device, engine: &mut dyn Engine, pieces: Vec<Piece>) -> Ran {
    let Some(layers) = pieces.first().map(|piece| piece.seat.layers.clone()) else { return Ran::default() };
    let rows: usize = pieces.iter().map(|piece| piece.rows).sum();
    let started = Instant::now();
    pieces.iter().filter_map(|piece| piece.job.waited(started)).for_each(|waited| device.wait.note(waited));
    let outcome = {
        let parts: Vec<Option<Input>> = pieces.iter().map(Piece::part).collect();
        let leases: Vec<_> = pieces.iter().map(|piece| piece.seat.lease()).collect();
        let batch: Vec<EngineStep<'_>> = pieces
            .iter()
            .zip(&parts)
            .zip(&leases)
            .map(|((piece, part), lease)| EngineStep {
                position: piece.position(),
                pages: lease.pages(),
                input: part.as_ref().unwrap_or(piece.whole()),
                output: piece.output(),
                chunk: piece.whole().tokens() > 1,
            })
            .collect();
        guarded(|| engine.forward(layers, &batch))
    };
    let compute = started.elapsed();
    tracing::trace!(rows, sessions = pieces.len(), ?compute, "a forward");
    let mut ran = Ran::default();
    match outcome {
        Err(_) if pieces.len() > 1 => {
            for piece in pieces {
                let Ran { replies, rest } = steps(device, engine, vec![piece]);
                ran.replies.extend(replies);
                ran.rest.extend(rest);
            }
        }
        Err(error) => {
            ran.replies.extend(pieces.into_iter().map(|Piece { seat, job, .. }| job.fail(&seat, error.clone())));
        }
        Ok(outputs) => {
            if rows == 1 {
                device.step.note(compute);
            }
            for (piece, output) in pieces.into_iter().zip(outputs) {
                let share = compute.mul_f64(piece.rows as f64 / rows as f64);
                let (seat, job) = piece.advance(output, share);
                if job.is_done() {
                    ran.replies.push(job.finish());
                } else {
                    ran.rest.push((seat.number, job));
                }
            }
        }
    }
    ran
}

/// Computes logits in one product, or each alone if that fails.
pub(super) fn logits(device: &Device, engine: &mut dyn Engine, jobs: Vec<LogitsJob>) -> Vec<Reply> {
    let hidden: Vec<_> = jobs.iter().map(|job| &job.hidden).collect();
    let rows: usize = hidden.iter().map(|hidden| hidden.tokens()).sum();
    let started = Instant::now();
    let outcome = guarded(|| engine.logits(&hidden));
    tracing::trace!(rows, compute = ?started.elapsed(), "logits");
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
