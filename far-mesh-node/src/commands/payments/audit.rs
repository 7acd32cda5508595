//! `far-mesh payments audit`.

use far_ledger::{
    Ledger, Store,
    payout::{Mismatch, check_batches, reconcile},
    store::Difference,
};
use serde_json::{Value, json};

use crate::{
    cli::AuditArgs,
    commands::{CommandError, books, print, print_json, until_interrupted},
    config::Config,
};

use super::{PaymentsError, setup, text::count};

/// What an audit found.
#[derive(Debug)]
struct Found {
    sums: Vec<Difference>,
    batches: Vec<Mismatch>,
    /// Whether the chain was asked.
    chain: bool,
}

pub(super) async fn run(args: AuditArgs, config: &Config) -> Result<(), CommandError> {
    let work = async {
        let ledger = books::open(config).await?;
        let found = look(&ledger, config).await;
        ledger.close().await;
        Ok(found?)
    };
    let found = until_interrupted("nothing was changed; run this again", Box::pin(work)).await?;
    if args.json {
        print_json(&found.json())?
    } else {
        print(&found.text())?
    }
    match found.sums.len() + found.batches.len() {
        0 => Ok(()),
        count => Err(PaymentsError::Differences { count }.into()),
    }
}

async fn look(ledger: &Ledger, config: &Config) -> Result<Found, PaymentsError> {
    let payments = &config.payments;
    let chain = payments.rpc_url.is_some() || payments.payout_contract.is_some();
    let sums = ledger.audit().await?;
    let mut batches = check_batches(ledger).await?;
    if chain {
        let (chain, contract) = (setup::chain(config)?, setup::contract(config)?);
        setup::funds(config, &chain, &contract).await?;
        let (depth, from) = (payments.confirmations.depth(), payments.deployment_block.get());
        for mismatch in reconcile(ledger, &chain, &contract, depth, from).await? {
            if !batches.contains(&mismatch) {
                batches.push(mismatch);
            }
        }
    }
    Ok(Found { sums, batches, chain })
}

impl Found {
    fn text(&self) -> String {
        let sums = self.sums.iter().map(|difference| format!("{difference}\n"));
        let mut text: String = sums.chain(self.batches.iter().map(|mismatch| format!("{mismatch}\n"))).collect();
        let number = self.sums.len() + self.batches.len();
        text.push_str(&count(number, "difference", "differences"));
        text.push_str(match self.chain {
            true => ", in the ledger and against the chain\n",
            false => ", in the ledger; set rpc_url, chain_id and payout_contract to compare it with a chain\n",
        });
        text
    }

    fn json(&self) -> Value {
        let sums: Vec<Value> = self
            .sums
            .iter()
            .map(|difference| {
                json!({
                    "about": difference.subject.to_string(),
                    "stored": difference.stored,
                    "computed": difference.computed,
                })
            })
            .collect();
        let batches: Vec<Value> = self
            .batches
            .iter()
            .map(|mismatch| {
                json!({
                    "batch_id": format!("{:?}", mismatch.batch),
                    "about": mismatch.to_string(),
                    "ledger": mismatch.ledger,
                    "other": mismatch.other,
                })
            })
            .collect();
        json!({ "ledger": sums, "batches": batches, "chain": self.chain })
    }
}
