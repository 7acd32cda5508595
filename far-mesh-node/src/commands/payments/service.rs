//! `far-mesh payments run`.
//!
//! Three things are done side by side, each with a pause of its own and none in the way of another: payouts, deposits, and the
//! ledger's upkeep, which any number of processes may do at once.

use std::time::Duration;

use far_ledger::{
    Store, UnixMillis,
    deposit::{self, Inbox, Scan},
};
use far_mesh_core::task::Tasks;
use serde_json::json;

use crate::{
    cli::PaymentsRunArgs,
    commands::{CommandError, Stop, print_json, until_interrupted},
    config::Config,
};

use super::{
    follow::News,
    setup::{self, Paying},
};

/// The ledger writes its figures once a minute.
const UPKEEP: Duration = Duration::from_secs(60);

pub(super) async fn run(args: PaymentsRunArgs, config: &Config) -> Result<(), CommandError> {
    let mut stop = Stop::listen()?;
    let paying = until_interrupted("nothing was paid; run this again", Box::pin(Paying::begin(config, false))).await?;
    let (account, contract, ledger) = (paying.account, paying.contract, paying.ledger.clone());
    let inbox = config.payments.deposit_address.map(|address| Inbox {
        chain_id: contract.chain_id,
        token: paying.funds.token,
        address: setup::address(address),
        depth: config.payments.confirmations.depth(),
    });
    let tasks = Tasks::new();
    if let Some(inbox) = inbox {
        tasks.spawn(credit(paying.clone(), inbox, config.payments.deployment_block.get()));
    }
    tasks.spawn(keep(paying.clone()));
    // A tick that is under way is finished: it would be safe to cut off, and tidier not to.
    let end = tasks.cancelled();
    tasks.spawn_graceful(async move { pay(&paying, end.cancelled()).await });
    if args.json {
        print_json(&json!({
            "event": "ready",
            "role": "payments",
            "payer": format!("{account:?}"),
            "payout_contract": format!("{:?}", contract.address),
            "chain_id": contract.chain_id,
        }))?;
    } else {
        tracing::info!("ready: {account:?} pays from {:?} on chain {}", contract.address, contract.chain_id);
    }
    stop.asked(false).await;
    tracing::info!("finishing what is under way; press ctrl-C again to end at once");
    stop.finish(async {
        tasks.shutdown().await;
        ledger.close().await;
    })
    .await;
    Ok(())
}

async fn pay(paying: &Paying, end: impl Future<Output = ()>) {
    let mut end = std::pin::pin!(end);
    let (mut news, mut leased) = (News::default(), false);
    loop {
        match paying.payer.tick(UnixMillis::now()).await {
            Ok(tick) => {
                if tick.leased && !leased {
                    tracing::info!("another process pays from this ledger; this one takes over when that is gone");
                }
                leased = tick.leased;
                News::done(&tick).iter().for_each(|line| tracing::info!("{line}"));
                news.alerts(&tick).iter().for_each(|alert| tracing::warn!("{alert}"));
            }
            Err(error) => news.waits(&error).iter().for_each(|line| tracing::error!("{line}")),
        }
        match paying.ledger.payout_totals().await {
            Ok(totals) => news.states(&totals).iter().for_each(|line| tracing::info!("{line}")),
            Err(error) => tracing::error!("batches cannot be counted: {error}"),
        }
        tokio::select! {
            () = &mut end => return,
            () = tokio::time::sleep(paying.interval()) => {}
        }
    }
}

async fn credit(paying: Paying, inbox: Inbox, mut from: u64) {
    let mut failing = false;
    loop {
        match deposit::scan(&paying.ledger, &paying.chain, &inbox, from, UnixMillis::now()).await {
            Ok(scan) => {
                tell(&scan);
                (from, failing) = (scan.next_block, false);
            }
            // Looked at again from the same block: what was credited is credited once.
            Err(error) if !failing => {
                tracing::error!("deposits wait: {error}");
                failing = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(paying.interval()).await;
    }
}

fn tell(scan: &Scan) {
    for deposit in &scan.credited {
        tracing::info!("{} FAR of {} credited to {}", deposit.amount, deposit.from, deposit.account);
    }
    for unclaimed in &scan.unclaimed {
        let (from, tx) = (unclaimed.transfer.from, &unclaimed.tx_hash);
        match unclaimed.why {
            deposit::Why::NoAccount => tracing::warn!(
                "a deposit of {from:?} in {tx} is credited to nobody: no account has that wallet; link it and start this again"
            ),
            _ => tracing::warn!("a deposit of {from:?} in {tx} is credited to nobody: its amount cannot be"),
        }
    }
}

async fn keep(paying: Paying) {
    let mut minutes = tokio::time::interval(UPKEEP);
    let mut failing = false;
    loop {
        minutes.tick().await;
        match paying.ledger.upkeep(UnixMillis::now()).await {
            Ok(_) => failing = false,
            Err(error) if !failing => {
                tracing::error!("the ledger's upkeep waits: {error}");
                failing = true;
            }
            Err(_) => {}
        }
    }
}
