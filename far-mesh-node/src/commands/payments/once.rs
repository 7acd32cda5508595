//! `far-mesh payments once`.

use std::time::{Duration, Instant};

use far_ledger::{
    Store, UnixMillis,
    payout::{Alert, BatchStatus, PayError, StatusTotal, Tick},
};
use serde_json::json;

use crate::{
    cli::OnceArgs,
    commands::{CommandError, print, print_json, until_interrupted},
    config::Config,
    progress::Progress,
};

use super::{
    PaymentsError, batches,
    follow::{self, News},
    setup::Paying,
};

const REMEDY: &str = "what was signed is in the ledger: run this again to go on";

/// Longest silence: who waits for blocks to become final waits for a quarter of an hour.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Batches that are listed at the end: a week of 400,000 wallets.
const LISTED: u32 = 1000;

/// What all ticks together did.
#[derive(Debug, Default)]
struct Done {
    closed: Option<far_ledger::payout::Closed>,
    confirmed: Vec<String>,
}

pub(super) async fn run(args: OnceArgs, config: &Config) -> Result<(), CommandError> {
    let work = async {
        let paying = Paying::begin(config, true).await?;
        let mut done = Done::default();
        let settled = settle(&paying, args.timeout, &mut done).await;
        // What was settled is told even where something else was not.
        let told = tell(&paying, &done, args.json).await;
        paying.ledger.close().await;
        settled.and(told)
    };
    until_interrupted(REMEDY, Box::pin(work)).await
}

/// Ticks until nothing is open, and every week that is over by this machine's clock is so by the chain's.
async fn settle(paying: &Paying, timeout: u32, done: &mut Done) -> Result<(), CommandError> {
    let progress = Progress::detect();
    let mut news = News::default();
    let (started, mut spoken, mut open) = (Instant::now(), Instant::now(), 0);
    let say = |lines: Vec<String>, spoken: &mut Instant| {
        if !lines.is_empty() {
            *spoken = Instant::now();
        }
        lines.iter().for_each(|line| progress.say(line));
    };
    loop {
        let looked = async {
            let tick = paying.payer.tick(UnixMillis::now()).await?;
            say(News::done(&tick), &mut spoken);
            say(news.alerts(&tick), &mut spoken);
            done.add(&tick);
            Ok((tick, paying.ledger.payout_totals().await?))
        };
        match looked.await {
            Ok((tick, totals)) if tick.open == 0 && tick.waits.is_none() => return halted(&totals),
            Ok((tick, totals)) => {
                blocked(&tick, &totals)?;
                say(news.states(&totals).into_iter().collect(), &mut spoken);
                open = tick.open;
            }
            Err(error) if waits(&error) => say(news.waits(&error), &mut spoken),
            Err(error) => return Err(PaymentsError::from(error).into()),
        }
        if started.elapsed().as_secs() >= timeout.into() {
            return Err(PaymentsError::Late { open, seconds: timeout }.into());
        }
        if spoken.elapsed() >= HEARTBEAT {
            say(vec![format!("still waiting after {} s", started.elapsed().as_secs())], &mut spoken);
        }
        tokio::time::sleep(paying.interval()).await;
    }
}

/// Batches of other weeks count too: they are due.
fn halted(totals: &[StatusTotal]) -> Result<(), CommandError> {
    match totals.iter().find(|total| total.status == "halted") {
        Some(halted) => Err(PaymentsError::Halted { batches: halted.batches }.into()),
        None => Ok(()),
    }
}

/// Waiting helps nobody where no transaction is under way and none can be signed.
fn blocked(tick: &Tick, totals: &[StatusTotal]) -> Result<(), PaymentsError> {
    let mut open = totals.iter().filter(|total| follow::is_open(&total.status));
    let unsigned = |alert: &&Alert| matches!(alert, Alert::WouldRevert { .. } | Alert::TooMuchGas { .. });
    match tick.alerts.iter().find(unsigned) {
        Some(alert) if open.all(|total| total.status == "planned") => {
            Err(PaymentsError::Blocked { reason: alert.to_string() })
        }
        _ => Ok(()),
    }
}

/// Whether the next tick may do better by itself.
fn waits(error: &PayError) -> bool {
    match error {
        PayError::Rpc(_) => true,
        PayError::Backend(error) => follow::may_pass(error),
        _ => false,
    }
}

impl Done {
    fn add(&mut self, tick: &Tick) {
        self.closed = self.closed.take().or_else(|| tick.closed.clone());
        self.confirmed.extend(tick.confirmed.iter().map(|batch| format!("{batch:?}")));
    }
}

async fn tell(paying: &Paying, done: &Done, json: bool) -> Result<(), CommandError> {
    let newest = paying.ledger.payout_batches(LISTED).await.map_err(PaymentsError::from)?;
    let settled: Vec<BatchStatus> =
        newest.into_iter().filter(|batch| done.confirmed.contains(&batch.batch_id)).collect();
    if json {
        let closed = done.closed.as_ref().map(|closed| {
            json!({
                "epoch": closed.epoch.number(),
                "batches": closed.plan.batches.len(),
                "wallets": closed.plan.wallets(),
                "carried": closed.plan.carried.len(),
                "total_far": closed.plan.total().map(|total| total.to_string()),
            })
        });
        return print_json(&json!({
            "closed": closed,
            "settled": settled.iter().map(batches::json).collect::<Vec<_>>(),
        }));
    }
    match (&done.closed, settled.is_empty()) {
        (None, true) => print("nothing was settled by this run\n"),
        (Some(closed), true) => print(&format!("{}\n", follow::closed(closed))),
        _ => print(&batches::table(&settled)),
    }
}
