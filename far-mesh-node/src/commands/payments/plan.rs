//! `far-mesh payments plan`.

use std::{fmt::Write, time::Duration};

use far_ledger::{
    Amount, Store, UnixMillis,
    evm::{At, U256},
    payout::{CannotPay, Carried, PayoutStatus, PlannedBatch, Why, units},
};
use serde_json::{Value, json};

use crate::{
    cli::PlanArgs,
    commands::{CommandError, print, print_json, until_interrupted},
    config::Config,
};

use super::{
    PaymentsError, follow,
    setup::{self, Paying},
    shortage,
    text::{count, decimal, moment},
};

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Wallets and nodes that a person is shown of each kind; a program gets all.
const SHOWN: usize = 20;

/// Everything that is shown.
#[derive(Debug)]
struct Shown {
    status: PayoutStatus,
    account: String,
    /// Gas of all batches; `None` where that of one is not known.
    gas: Option<u64>,
    max_fee: u64,
    /// What open batches of weeks that are closed still take.
    open: U256,
    problems: Vec<String>,
}

pub(super) async fn run(args: PlanArgs, config: &Config) -> Result<(), CommandError> {
    let work = async {
        let paying = Paying::begin(config, true).await?;
        let shown = look(&paying, config).await;
        paying.ledger.close().await;
        shown
    };
    let shown = until_interrupted("nothing was changed; run this again", Box::pin(work)).await?;
    if args.json { print_json(&shown.json()) } else { print(&shown.text()) }
}

async fn look(paying: &Paying, config: &Config) -> Result<Shown, CommandError> {
    let now = UnixMillis::now();
    let mut status = paying.payer.plan(now).await.map_err(PaymentsError::from)?;
    if status.closed {
        let weeks = WEEK.saturating_mul(config.payments.payout_weeks.get().get());
        let week = i64::try_from(weeks.as_millis()).unwrap_or_default();
        let then = UnixMillis::new(now.get().saturating_add(week)).unwrap_or(now);
        status = paying.payer.plan(then).await.map_err(PaymentsError::from)?;
    }
    let open = shortage::unpaid(&paying.ledger.payout_totals().await.map_err(PaymentsError::from)?);
    let gas = status.gas.iter().try_fold(0_u64, |sum, gas| sum.checked_add(*gas.as_ref().ok()?));
    let fees = setup::fees(config).first(&paying.chain.fees().await.map_err(PaymentsError::from)?);
    let planned = status.plan.total().unwrap_or(Amount::MAX);
    let needed = open.saturating_add(units(planned).into());
    let mut problems = shortage::of_funds(&status.funds, &paying.contract, needed);
    if !status.is_payer {
        problems.push(shortage::not_a_payer(paying.account, &paying.contract));
    }
    let ether = paying.chain.balance(paying.account, At::Latest).await.map_err(PaymentsError::from)?;
    if let Some(cost) = gas.map(|gas| U256::from(gas).saturating_mul(fees.max_fee.into()))
        && ether < cost
    {
        let (has, cost) = (decimal(ether), decimal(cost));
        problems.push(format!("{:?} holds {has} of the chain's coin, and the fees may come to {cost}", paying.account));
    }
    for (seq, gas) in status.gas.iter().enumerate() {
        match gas {
            Err(why @ CannotPay::TooMuchGas { .. }) => {
                problems.push(format!("batch {seq} could not be paid: {why}; lower payout_batch_items"));
            }
            // One reason often holds for all batches, and is among the problems already.
            Err(why) if problems.is_empty() => problems.push(format!("batch {seq} could not be paid now: {why}")),
            _ => {}
        }
    }
    Ok(Shown { status, account: format!("{:?}", paying.account), gas, max_fee: fees.max_fee, open, problems })
}

impl Shown {
    /// Whether the week is over; else more will be earned before it is closed.
    fn due(&self) -> bool {
        self.status.epoch.end() <= UnixMillis::now()
    }

    fn most_cost(&self) -> Option<String> {
        self.gas.map(|gas| decimal(U256::from(gas).saturating_mul(self.max_fee.into())))
    }

    fn text(&self) -> String {
        let PayoutStatus { epoch, plan, funds, .. } = &self.status;
        let when = if self.due() { "is due" } else { "ends then; what was earned so far" };
        let mut text = format!("week up to {} {when}: {}\n", moment(epoch.end()), follow::summary(plan));
        for (seq, batch) in plan.batches.iter().enumerate() {
            let gas = match self.status.gas.get(seq) {
                Some(Ok(gas)) => format!("{gas} gas"),
                _ => "gas not known".to_owned(),
            };
            let total = total_of(batch).map_or_else(String::new, |total| total.to_string());
            let _ =
                writeln!(text, "batch {seq}: {}, {total} FAR, {gas}", count(batch.items.len(), "wallet", "wallets"));
            for (item, nodes) in batch.items.iter().zip(&batch.nodes).take(SHOWN) {
                let _ = writeln!(
                    text,
                    "  {}  {:>20} FAR  {}",
                    item.wallet,
                    item.amount,
                    count(nodes.len(), "node", "nodes")
                );
            }
            more(&mut text, batch.items.len());
        }
        if !plan.carried.is_empty() {
            text.push_str("carried over:\n");
        }
        for Carried { node_id, amount, why } in plan.carried.iter().take(SHOWN) {
            let _ = writeln!(text, "  {node_id}  {amount} FAR: {}", reason(why).1);
        }
        more(&mut text, plan.carried.len());
        if let Some(cost) = self.most_cost().filter(|_| !plan.batches.is_empty()) {
            let _ = writeln!(text, "fees: {} gas, at most {cost} of the chain's coin", self.gas.unwrap_or_default());
        }
        let (held, allowed) = (decimal(funds.held), decimal(funds.allowance));
        let _ = writeln!(text, "treasury {:?}: holds {held} FAR, lets the contract take {allowed}", funds.treasury);
        if !self.open.is_zero() {
            let _ = writeln!(text, "open batches of closed weeks still take {} FAR", decimal(self.open));
        }
        self.problems.iter().for_each(|problem| {
            let _ = writeln!(text, "problem: {problem}");
        });
        text
    }

    fn json(&self) -> Value {
        let PayoutStatus { epoch, plan, funds, is_payer, .. } = &self.status;
        let batches: Vec<Value> = plan.batches.iter().enumerate().map(|(seq, batch)| self.batch(seq, batch)).collect();
        let carried: Vec<Value> = plan
            .carried
            .iter()
            .map(|Carried { node_id, amount, why }| {
                json!({ "node_id": node_id, "amount_far": amount.to_string(), "why": reason(why).0 })
            })
            .collect();
        let left = Amount::checked_sum(plan.carried.iter().map(|carried| carried.amount));
        json!({
            "epoch": epoch.number(),
            "ends_at_ms": epoch.end().get(),
            "due": self.due(),
            "wallets": plan.wallets(),
            "total_far": plan.total().map(|total| total.to_string()),
            "batches": batches,
            "carried": carried,
            "carried_far": left.map(|left| left.to_string()),
            "open_far": decimal(self.open),
            "gas": self.gas,
            "most_fees": self.most_cost(),
            "payer": self.account,
            "is_payer": is_payer,
            "token": format!("{:?}", funds.token),
            "treasury": format!("{:?}", funds.treasury),
            "treasury_far": decimal(funds.held),
            "allowance_far": decimal(funds.allowance),
            "problems": self.problems,
        })
    }

    fn batch(&self, seq: usize, batch: &PlannedBatch) -> Value {
        let items: Vec<Value> = batch
            .items
            .iter()
            .zip(&batch.nodes)
            .map(
                |(item, nodes)| json!({ "wallet": item.wallet, "amount_far": item.amount.to_string(), "nodes": nodes }),
            )
            .collect();
        json!({
            "seq": seq,
            "total_far": total_of(batch).map(|total| total.to_string()),
            "gas": self.status.gas.get(seq).and_then(|gas| gas.as_ref().ok()),
            "items": items,
        })
    }
}

fn total_of(batch: &PlannedBatch) -> Option<Amount> {
    Amount::checked_sum(batch.items.iter().map(|item| item.amount))
}

fn more(text: &mut String, all: usize) {
    if let Some(hidden) = all.checked_sub(SHOWN).filter(|hidden| *hidden > 0) {
        let _ = writeln!(text, "  and {hidden} more: --json has all");
    }
}

/// Why a balance waits: for a program and for a person.
fn reason(why: &Why) -> (&'static str, String) {
    match why {
        Why::NoWallet => ("no_wallet", "the node named no wallet".to_owned()),
        Why::BadWallet(text) => ("bad_wallet", format!("its wallet {text:?} is not an address")),
        Why::OwnContract => ("own_contract", "its wallet is the token or the payout contract".to_owned()),
        Why::BelowMinimum => ("below_minimum", "its wallet has less than the minimum".to_owned()),
        Why::TooMuch => ("too_much", "its wallet has more than an amount can hold".to_owned()),
        _ => ("other", "it cannot be paid".to_owned()),
    }
}
