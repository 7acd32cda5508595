//! `far-mesh payments`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use far_ledger::{Amount, UnixMillis, WalletAddress};
use time::{Date, format_description::well_known::Iso8601};

use super::chain::{ChainArgs, ContractArgs, FeeArgs, KeyArgs, PayArgs};
use crate::config::{Flags, PaymentFlags, ValueError, parse_money};

/// Pay providers once a week, in FAR, from the ledger of a coordinator.
#[derive(Clone, Debug, Args)]
#[command(
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "\
Examples:
  far-mesh payments deploy --artifacts far-ledger/contracts/out     once: FAR and the payout contract; prints the settings
  far-mesh payments plan                                            who would be paid what; changes nothing
  far-mesh payments once                                            pay the week that is over, to the last confirmation
  far-mesh payments run                                             the same every week, until ctrl-C
  far-mesh payments status --node 12D3KooWHHR7ADWeU6DvW7iraMnWYVfvk9u7zRJwdd9qtqo9rzsi
  far-mesh payments audit                                           ledger against itself and against the chain
  far-mesh payments export --from 2026-11-01 --to 2026-12-01        earnings as CSV

Settings, in far-mesh.toml under [payments] (what it does not set, [coordinator] does), as FAR_MESH_* variables or flags:
  rpc_url, chain_id, payout_contract, deployment_block, keystore, keystore_password_file

The ledger is that of the coordinator: ledger.sqlite in the same data folder, or the same POSTGRES_URL."
)]
pub struct PaymentsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PaymentsCommand,
}

/// What can be done about payments. The help of a command stands at its arguments: text here would hide it.
#[derive(Clone, Debug, Subcommand)]
#[expect(missing_docs, reason = "said where the arguments are")]
pub enum PaymentsCommand {
    Deploy(Box<DeployArgs>),
    Plan(Box<PlanArgs>),
    Once(Box<OnceArgs>),
    Run(Box<PaymentsRunArgs>),
    Status(Box<PaymentsStatusArgs>),
    Audit(Box<AuditArgs>),
    Export(ExportArgs),
}

/// Put FAR and the payout contract on a chain.
///
/// The key of --keystore pays for it and, unless others are named, becomes treasury, admin and payer in one, which is right for
/// a trial; in production each has a key of its own. The treasury approves the contract for what batches may take: done here
/// where the key is the treasury's, else printed as the next step.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  far-mesh payments deploy --rpc-url http://127.0.0.1:8545 --chain-id 31337 --keystore payer.json \\
      --artifacts far-ledger/contracts/out
  far-mesh payments deploy --token 0x52908400098527886E0F7030069857D2E4169EE7 --allowance 5000 --artifacts out

The contracts are not part of this program. Build them in a checkout:
  cd far-ledger/contracts && npm ci --omit=optional && npm run build")]
pub struct DeployArgs {
    /// Which chain.
    #[command(flatten)]
    pub chain: ChainArgs,

    /// With whose key.
    #[command(flatten)]
    pub key: KeyArgs,

    /// For what fees.
    #[command(flatten)]
    pub fees: FeeArgs,

    /// Folder of FarToken.json and FarPayout.json, which `npm run build` in far-ledger/contracts makes
    #[arg(long, value_name = "DIR", default_value = "far-ledger/contracts/out")]
    pub artifacts: PathBuf,

    /// Pay in this token, of 18 decimals, instead of deploying FAR
    #[arg(long, value_name = "0x...", value_parser = parse_money::<WalletAddress>, conflicts_with = "supply")]
    pub token: Option<WalletAddress>,

    /// Supply of FAR, all of it the treasury's
    #[arg(long, value_name = "FAR", value_parser = parse_money::<Amount>, default_value = "1000000000")]
    pub supply: Amount,

    /// What the contract may take from the treasury in all [default: the supply; with --token nothing]
    #[arg(long, value_name = "FAR", value_parser = parse_money::<Amount>)]
    pub allowance: Option<Amount>,

    /// Whose FAR is paid out [default: the key's account]
    #[arg(long, value_name = "0x...", value_parser = parse_money::<WalletAddress>)]
    pub treasury: Option<WalletAddress>,

    /// Who names payers and the treasury [default: the key's account]
    #[arg(long, value_name = "0x...", value_parser = parse_money::<WalletAddress>)]
    pub admin: Option<WalletAddress>,

    /// Who may pay; repeat for several [default: the key's account]
    #[arg(long, value_name = "0x...", value_parser = parse_money::<WalletAddress>)]
    pub payer: Vec<WalletAddress>,

    /// Seconds that each transaction may take to be mined
    #[arg(long, value_name = "N", default_value = "300")]
    pub timeout: u32,

    /// Print one JSON object with token, contract, block and gas, and nothing else on standard output
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// Show who would be paid what, what it takes and what carries over; changes nothing.
///
/// Before a week is closed it is that week; afterwards the one that is under way, as far as it has come.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  far-mesh payments plan
  far-mesh payments plan --minimum 5 --batch-items 200 --json")]
pub struct PlanArgs {
    /// How to pay.
    #[command(flatten)]
    pub pay: PayArgs,

    /// Print one JSON object, and nothing else on standard output
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// Pay what is due and wait until all of it is settled.
///
/// Closes the week that is over, unless it is closed, and pays its batches and all that are open. It may be broken off and run
/// again at any point: nothing is paid twice. Exits 0 only when all that was due is settled.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  far-mesh payments once
  far-mesh payments once --confirmations 12 --timeout 1800")]
pub struct OnceArgs {
    /// How to pay.
    #[command(flatten)]
    pub pay: PayArgs,

    /// Seconds to wait for all of it to be settled; the same command goes on later
    #[arg(long, value_name = "N", default_value = "3600")]
    pub timeout: u32,

    /// Print one JSON object at the end, and nothing else on standard output
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// Pay every week until ctrl-C: closes it on Monday 00:00 UTC, pays, credits deposits, keeps the ledger tidy.
///
/// A week that was missed is caught up with the next, once. Any number may run on one ledger: one of them works, another takes
/// over within two minutes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  far-mesh payments run
  far-mesh payments run --deposit-address 0x52908400098527886E0F7030069857D2E4169EE7 --deployment-block 21000000")]
pub struct PaymentsRunArgs {
    /// How to pay.
    #[command(flatten)]
    pub pay: PayArgs,

    /// Address that users send FAR to; it is credited to the account of the sender's wallet once it is settled, from
    /// --deployment-block on [default: none, no deposits are looked for]
    #[arg(long, value_name = "0x...", value_parser = parse_money::<WalletAddress>, help_heading = "Deposits")]
    pub deposit_address: Option<WalletAddress>,

    /// Print one line of JSON when ready, and nothing else on standard output
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// Show how batches stand, or what a node or wallet was paid, with transaction and block.
///
/// What the ledger holds needs no chain; with one, missing funds are told too.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  far-mesh payments status
  far-mesh payments status --node 12D3KooWHHR7ADWeU6DvW7iraMnWYVfvk9u7zRJwdd9qtqo9rzsi
  far-mesh payments status --wallet 0x52908400098527886E0F7030069857D2E4169EE7 --json")]
pub struct PaymentsStatusArgs {
    /// Where.
    #[command(flatten)]
    pub contract: ContractArgs,

    /// What this node was paid
    #[arg(long, value_name = "ID", conflicts_with = "wallet")]
    pub node: Option<String>,

    /// What this wallet was paid, for all its nodes
    #[arg(long, value_name = "0x...", value_parser = parse_money::<WalletAddress>)]
    pub wallet: Option<WalletAddress>,

    /// Newest batches to show
    #[arg(long, value_name = "N", default_value = "20")]
    pub limit: u32,

    /// Print one JSON object, and nothing else on standard output
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// Work out every sum of the ledger anew, compare batches with the chain's events, and print each difference.
///
/// Exits 0 where there is none and 1 where there is one. Without a chain the ledger alone is looked at.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  far-mesh payments audit
  far-mesh payments audit --json --deployment-block 21000000")]
pub struct AuditArgs {
    /// Where.
    #[command(flatten)]
    pub contract: ContractArgs,

    /// Print one JSON object, and nothing else on standard output
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// Write what nodes earned as CSV, a line for each session and span, oldest first.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  far-mesh payments export --from 2026-11-01 --to 2026-12-01 --output november.csv
  far-mesh payments export --node 12D3KooWHHR7ADWeU6DvW7iraMnWYVfvk9u7zRJwdd9qtqo9rzsi")]
pub struct ExportArgs {
    /// First day, UTC [default: the beginning]
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day)]
    pub from: Option<UnixMillis>,

    /// Day after the last, UTC [default: no end]
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day)]
    pub to: Option<UnixMillis>,

    /// What this node earned
    #[arg(long, value_name = "ID")]
    pub node: Option<String>,

    /// File to write, which must not be there yet [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

impl PaymentsArgs {
    /// What the flags of the command set.
    pub fn flags(&self) -> Flags {
        match &self.command {
            PaymentsCommand::Deploy(args) => args.flags(),
            PaymentsCommand::Plan(args) => args.pay.flags(),
            PaymentsCommand::Once(args) => args.pay.flags(),
            PaymentsCommand::Run(args) => args.flags(),
            PaymentsCommand::Status(args) => args.contract.flags(),
            PaymentsCommand::Audit(args) => args.contract.flags(),
            PaymentsCommand::Export(_) => Flags::default(),
        }
    }
}

impl DeployArgs {
    fn flags(&self) -> Flags {
        let mut flags = PaymentFlags::default();
        self.chain.set(&mut flags);
        self.key.set(&mut flags);
        self.fees.set(&mut flags);
        Flags { payments: flags, ..Flags::default() }
    }
}

impl PaymentsRunArgs {
    fn flags(&self) -> Flags {
        let mut flags = self.pay.flags();
        flags.payments.deposit_address = self.deposit_address;
        flags
    }
}

/// The beginning of a day, UTC.
fn parse_day(text: &str) -> Result<UnixMillis, ValueError> {
    let day = Date::parse(text, &Iso8601::DATE).map_err(|_| ValueError::Day)?;
    let seconds = day.midnight().assume_utc().unix_timestamp();
    seconds.checked_mul(1000).and_then(UnixMillis::new).ok_or(ValueError::Day)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    const ADDRESS: &str = "0x52908400098527886E0F7030069857D2E4169EE7";

    fn parsed(line: &str) -> Result<PaymentsArgs, clap::Error> {
        let cli = Cli::try_parse_from(format!("far-mesh payments {line}").split_whitespace())?;
        let Command::Payments(args) = cli.command else { panic!("{line}") };
        Ok(args)
    }

    #[test]
    fn all_flags_of_paying() {
        let line = format!(
            "run --rpc-url https://user:secret@node.example/v1 --chain-id 1 --payout-contract {ADDRESS} --confirmations 12 \
             --deployment-block 7 --keystore key.json --keystore-password-file pass --max-fee-gwei 30.5 --max-tip-gwei 0.1 \
             --minimum 2.5 --batch-items 500 --weeks 4 --poll-seconds 2 --deposit-address {ADDRESS} --json"
        );
        let args = parsed(&line).unwrap();
        assert!(!format!("{args:?}").contains("secret"));
        let flags = args.flags().payments;
        assert_eq!((flags.chain_id.unwrap().get(), flags.deployment_block.unwrap().get()), (1, 7));
        assert_eq!((flags.max_fee.unwrap().wei(), flags.max_tip.unwrap().wei()), (30_500_000_000, 100_000_000));
        assert_eq!(
            (flags.payout_minimum.unwrap().to_string(), flags.payout_batch_items.unwrap().get()),
            ("2.5".into(), 500)
        );
        assert!(flags.rpc_url.is_some() && flags.keystore.is_some() && flags.keystore_password_file.is_some());
        assert_eq!(flags.payout_weeks.unwrap().get().get(), 4);
        assert!(flags.poll.is_some() && flags.confirmations.is_some() && flags.payout_contract.is_some());
        assert_eq!(flags.deposit_address.unwrap().to_string(), ADDRESS);
    }

    #[test]
    fn every_command_parses_and_helps_with_an_example() {
        for name in ["deploy", "plan", "once", "run", "status", "audit", "export"] {
            assert!(parsed(name).is_ok(), "{name}");
            let help = parsed(&format!("{name} --help")).unwrap_err().to_string();
            assert!(help.contains("Examples:"), "{name}");
            for secret in ["--private-key", "--password ", "--key "] {
                assert!(!help.contains(secret), "{name} takes a secret from the command line: {secret}");
            }
        }
    }

    #[test]
    fn wrong_values_name_the_flag_and_what_to_write() {
        for (line, hint) in [
            ("once --rpc-url ws://node", "http://"),
            ("once --chain-id 0", "1 to"),
            ("once --batch-items 501", "1 to 500"),
            ("once --payout-contract 0x1234", "40 hexadecimal digits"),
            ("once --payout-contract 0x52908400098527886e0F7030069857D2E4169EE7", "checksum"),
            ("once --confirmations soon", "finalized"),
            ("once --confirmations 0", "1 to"),
            ("once --max-fee-gwei 1e9", "gwei"),
            ("once --minimum=-1", "digits and one decimal point"),
            ("export --from yesterday", "YYYY-MM-DD"),
            ("export --to 2026-02-30", "YYYY-MM-DD"),
            ("status --node a --wallet 0x52908400098527886E0F7030069857D2E4169EE7", "--wallet"),
            ("deploy --token 0x52908400098527886E0F7030069857D2E4169EE7 --supply 5", "--supply"),
        ] {
            let error = parsed(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(hint), "{line}: {error}");
        }
    }

    #[test]
    fn days_are_utc() {
        assert_eq!(parse_day("1970-01-01").unwrap().get(), 0);
        assert_eq!(parse_day("2026-11-23").unwrap().get(), 1_795_392_000_000);
        assert!(parse_day("1969-12-31").is_err());
    }
}
