//! `far-mesh payments deploy`.

use std::{
    fmt::Write,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use far_ledger::{
    Amount,
    evm::{Address, Artifacts, At, Call, Chain, Deployed, Deployment, Signer, Step, U256, deploy, token},
    payout::units,
};
use serde_json::json;

use crate::{
    cli::DeployArgs,
    commands::{CommandError, print, print_json, until_interrupted},
    config::Config,
    progress::Progress,
};

use super::{PaymentsError, setup, shortage, text::decimal};

/// What the token must count in.
const DECIMALS: U256 = U256([18, 0, 0, 0]);

pub(super) async fn run(args: DeployArgs, config: &Config) -> Result<(), CommandError> {
    let work = async {
        let artifacts = Artifacts::read(&args.artifacts).map_err(PaymentsError::from)?;
        let (chain, chain_id) = (setup::chain(config)?, setup::chain_id(config)?);
        if let Some(named) = args.token {
            check(&chain, chain_id, setup::address(named)).await?;
        }
        let signer = setup::signer(config).await?;
        let deployment = deployment(&args, config, chain_id, signer.address());
        let steps = Steps::default();
        let done = deploy(&chain, &signer, &artifacts, &deployment, &|step| steps.tell(step)).await;
        let deployed = done.map_err(|source| PaymentsError::Deploy { token: steps.token(), source })?;
        Ok((deployment, deployed, steps.gas()))
    };
    let remedy = "what was sent stays on the chain: where FAR was deployed, go on with --token and its address";
    let (deployment, deployed, gas) = until_interrupted(remedy, Box::pin(work)).await?;
    if args.json {
        return print_json(&json!({
            "chain_id": deployment.chain_id,
            "token": format!("{:?}", deployed.token),
            "payout_contract": format!("{:?}", deployed.payout),
            "deployment_block": deployed.block,
            "gas": gas,
            "treasury": format!("{:?}", deployment.treasury),
            "admin": format!("{:?}", deployment.admin),
            "payers": deployment.payers.iter().map(|payer| format!("{payer:?}")).collect::<Vec<_>>(),
            "approved": deployed.approved,
            "allowance_far": decimal(if deployed.approved { deployment.allowance } else { U256::zero() }),
        }));
    }
    print(&settings(&deployment, &deployed, config))
}

/// A contract that answers like a token of 18 decimals: one of 6 would be paid out a million million times.
async fn check(chain: &Chain, chain_id: u64, address: Address) -> Result<(), PaymentsError> {
    let found = chain.id().await?;
    if found != chain_id {
        return Err(far_ledger::payout::PayError::OtherChain { found, expected: chain_id }.into());
    }
    let answer = match chain.call(&Call { from: None, to: Some(address), data: token::decimals() }, At::Latest).await {
        Ok(answer) if answer.len() == 32 => U256::from_big_endian(&answer),
        Ok(_) => return Err(PaymentsError::NoToken { token: address, chain_id }),
        Err(error) if error.is_revert() => return Err(PaymentsError::NoToken { token: address, chain_id }),
        Err(error) => return Err(error.into()),
    };
    if answer != DECIMALS {
        return Err(PaymentsError::Decimals { token: address, found: answer.to_string() });
    }
    Ok(())
}

fn deployment(args: &DeployArgs, config: &Config, chain_id: u64, account: Address) -> Deployment {
    let supply = U256::from(units(args.supply));
    let mut deployment = Deployment::for_one(chain_id, account, supply);
    let named = |wallet: Option<_>| wallet.map_or(account, setup::address);
    deployment.token = args.token.map(setup::address);
    (deployment.treasury, deployment.admin) = (named(args.treasury), named(args.admin));
    if !args.payer.is_empty() {
        deployment.payers = args.payer.iter().copied().map(setup::address).collect();
    }
    let allowance = args.allowance.unwrap_or(if args.token.is_some() { Amount::ZERO } else { args.supply });
    deployment.allowance = units(allowance).into();
    deployment.fees = setup::fees(config);
    deployment.timeout = Duration::from_secs(args.timeout.into());
    deployment
}

/// Tells what happens as it happens, and remembers what has to be known if it goes no further.
#[derive(Debug, Default)]
struct Steps(Mutex<(Option<Address>, u64)>);

impl Steps {
    fn tell(&self, step: Step) {
        let progress = Progress::detect();
        match step {
            Step::Sent { what, tx } => progress.say(&format!("{what}: sent in {tx:?}")),
            Step::Mined { what, contract, block, gas } => {
                let place = contract.map_or_else(String::new, |contract| format!(" at {contract:?}"));
                progress.say(&format!("{what}:{place} in block {block}, {gas} gas"));
                let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                // The token is the first contract; the second is the last thing that can be lost.
                seen.0 = seen.0.or(contract.filter(|_| what == "the token"));
                seen.1 = seen.1.saturating_add(gas);
            }
            _ => {}
        }
    }

    fn token(&self) -> Option<Address> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn gas(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

/// What to write into the file, and what is left to do, as its comments.
fn settings(deployment: &Deployment, deployed: &Deployed, config: &Config) -> String {
    let mut text = format!(
        "# for far-mesh.toml, beside rpc_url\n[payments]\nchain_id = {}\ntoken_contract = \"{:?}\"\npayout_contract = \"{:?}\"\n\
         deployment_block = {}\n",
        deployment.chain_id, deployed.token, deployed.payout, deployed.block
    );
    if let Some(keystore) = &config.payments.keystore {
        let _ = writeln!(text, "keystore = {:?}", keystore.display().to_string());
    }
    if deployed.approved {
        let allowed = decimal(deployment.allowance);
        let _ = writeln!(text, "# the treasury {:?} lets the contract take {allowed} FAR", deployment.treasury);
    } else {
        let approve = shortage::approve(deployed.token, deployed.payout, deployment.allowance);
        let _ = writeln!(text, "# next: {approve}");
    }
    if deployment.token.is_some() {
        let _ = writeln!(text, "# next: send the treasury {:?} what is to be paid out", deployment.treasury);
    }
    text
}
