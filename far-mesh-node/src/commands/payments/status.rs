//! `far-mesh payments status`.

use std::fmt::Write;

use far_ledger::{
    Amount, Ledger, NodeEarnings, Store, UnixMillis, WalletAddress,
    payout::{BatchStatus, NodePayment, StatusTotal, WalletPayment},
};
use serde_json::{Value, json};

use crate::{
    cli::PaymentsStatusArgs,
    commands::{CommandError, books, print, print_json, until_interrupted},
    config::Config,
};

use super::{PaymentsError, batches, setup, shortage};

pub(super) async fn run(args: PaymentsStatusArgs, config: &Config) -> Result<(), CommandError> {
    let work = async {
        let ledger = books::open(config).await?;
        let shown = match (&args.node, args.wallet) {
            (Some(node), _) => of_node(&ledger, node, &args).await,
            (None, Some(wallet)) => of_wallet(&ledger, wallet, &args).await,
            (None, None) => of_all(&ledger, config, &args).await,
        };
        ledger.close().await;
        shown
    };
    until_interrupted("nothing was changed; run this again", Box::pin(work)).await
}

async fn of_all(ledger: &Ledger, config: &Config, args: &PaymentsStatusArgs) -> Result<(), CommandError> {
    let newest = ledger.payout_batches(args.limit).await.map_err(PaymentsError::from)?;
    let totals = ledger.payout_totals().await.map_err(PaymentsError::from)?;
    let mut alerts = of_batches(&newest);
    alerts.extend(of_chain(config, &totals).await);
    if args.json {
        let totals: Vec<Value> = totals
            .iter()
            .map(|total| json!({ "status": total.status, "batches": total.batches, "total_far": total.amount.to_string() }))
            .collect();
        let batches: Vec<Value> = newest.iter().map(batches::json).collect();
        return print_json(&json!({ "batches": batches, "totals": totals, "alerts": alerts }));
    }
    let mut text = if newest.is_empty() { "no week was closed yet\n".to_owned() } else { batches::table(&newest) };
    for StatusTotal { status, batches, amount, .. } in &totals {
        let _ = writeln!(text, "{status}: {batches} in all, {amount} FAR");
    }
    for alert in &alerts {
        let _ = writeln!(text, "alert: {alert}");
    }
    print(&text)
}

fn of_batches(newest: &[BatchStatus]) -> Vec<String> {
    let mut alerts = Vec::new();
    for batch in newest {
        alerts.extend(batch.halted.clone());
        if batch.credited > 0 {
            alerts.push(format!(
                "{} of {} wallets of batch {} could not be sent their FAR: it waits for them in the contract, where \
                 release(address) sends it",
                batch.credited, batch.items, batch.batch_id
            ));
        }
    }
    alerts
}

/// What the chain says of open batches; that it cannot be asked is worth telling, and no reason to show nothing.
async fn of_chain(config: &Config, totals: &[StatusTotal]) -> Vec<String> {
    if config.payments.rpc_url.is_none() || config.payments.payout_contract.is_none() {
        return Vec::new();
    }
    let asked = async {
        let (chain, contract) = (setup::chain(config)?, setup::contract(config)?);
        let funds = setup::funds(config, &chain, &contract).await?;
        Ok::<_, PaymentsError>(shortage::of_funds(&funds, &contract, shortage::unpaid(totals)))
    };
    asked.await.unwrap_or_else(|error| vec![format!("the chain was not asked: {error}")])
}

async fn of_node(ledger: &Ledger, node: &str, args: &PaymentsStatusArgs) -> Result<(), CommandError> {
    let earnings = ledger.node_earnings(node).await.map_err(PaymentsError::from)?;
    let earnings = earnings.ok_or_else(|| PaymentsError::UnknownNode { node: node.to_owned() })?;
    let payments = ledger.node_payments(node, args.limit).await.map_err(PaymentsError::from)?;
    let payments = payments.iter().map(Line::of_node).collect();
    show(&Paid { who: ("node_id", node.to_owned()), earnings: &[earnings], payments }, args.json)
}

async fn of_wallet(ledger: &Ledger, wallet: WalletAddress, args: &PaymentsStatusArgs) -> Result<(), CommandError> {
    let earnings = ledger.wallet_earnings(wallet).await.map_err(PaymentsError::from)?;
    let payments = ledger.wallet_payments(wallet, args.limit).await.map_err(PaymentsError::from)?;
    let payments = payments.iter().map(Line::of_wallet).collect();
    show(&Paid { who: ("wallet", wallet.to_string()), earnings: &earnings, payments }, args.json)
}

/// What somebody earned and was paid.
struct Paid<'a> {
    who: (&'static str, String),
    earnings: &'a [NodeEarnings],
    payments: Vec<Line<'a>>,
}

/// One payment.
struct Line<'a> {
    batch_id: &'a str,
    epoch: u32,
    status: &'a str,
    amount: Amount,
    credited: bool,
    tx_hash: Option<&'a str>,
    block: Option<u64>,
    confirmed_at: Option<UnixMillis>,
}

impl<'a> Line<'a> {
    fn of_node(payment: &'a NodePayment) -> Self {
        Self {
            batch_id: &payment.batch_id,
            epoch: payment.epoch.number(),
            status: &payment.status,
            amount: payment.amount,
            credited: false,
            tx_hash: payment.tx_hash.as_deref(),
            block: payment.block_number,
            confirmed_at: payment.confirmed_at,
        }
    }

    fn of_wallet(payment: &'a WalletPayment) -> Self {
        Self {
            batch_id: &payment.batch_id,
            epoch: payment.epoch.number(),
            status: &payment.status,
            amount: payment.amount,
            credited: payment.credited,
            tx_hash: payment.tx_hash.as_deref(),
            block: payment.block_number,
            confirmed_at: payment.confirmed_at,
        }
    }
}

fn show(paid: &Paid<'_>, json: bool) -> Result<(), CommandError> {
    let sum = |part: fn(&NodeEarnings) -> Amount| {
        Amount::checked_sum(paid.earnings.iter().map(part)).unwrap_or(Amount::MAX).to_string()
    };
    let (earned, settled, unpaid) = (sum(|of| of.earned), sum(|of| of.paid), sum(|of| of.unpaid));
    if json {
        let payments: Vec<Value> = paid
            .payments
            .iter()
            .map(|line| {
                json!({
                    "batch_id": line.batch_id,
                    "epoch": line.epoch,
                    "status": line.status,
                    "amount_far": line.amount.to_string(),
                    "credited": line.credited,
                    "tx_hash": line.tx_hash,
                    "block_number": line.block,
                    "confirmed_at_ms": line.confirmed_at.map(UnixMillis::get),
                })
            })
            .collect();
        let nodes: Vec<&String> = paid.earnings.iter().map(|of| &of.node_id).collect();
        return print_json(&json!({
            paid.who.0: paid.who.1,
            "nodes": nodes,
            "earned_far": earned,
            "paid_far": settled,
            "unpaid_far": unpaid,
            "payments": payments,
        }));
    }
    let mut text = format!("{}: earned {earned} FAR, paid {settled}, unpaid {unpaid}\n", paid.who.1);
    if !paid.payments.is_empty() {
        let _ = writeln!(text, "{:>6}  {:9}  {:>20}  {:>10}  TRANSACTION", "EPOCH", "STATE", "FAR", "BLOCK");
    }
    for line in &paid.payments {
        let state = if line.credited { "credited" } else { line.status };
        let block = line.block.map_or_else(|| "-".to_owned(), |block| block.to_string());
        let tx = line.tx_hash.unwrap_or("-");
        let _ = writeln!(text, "{:>6}  {state:9}  {:>20}  {block:>10}  {tx}", line.epoch, line.amount);
    }
    print(&text)
}
