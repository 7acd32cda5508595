//! `far-mesh keys`.

use clap::{Args, Subcommand};
use far_ledger::{Amount, WalletAddress};

use crate::config::parse_money;

/// Accounts that pay for requests, and the keys that requests come with.
#[derive(Clone, Debug, Args)]
#[command(
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "\
Examples:
  far-mesh keys create alice                        open an account and show its key, this once
  far-mesh keys topup alice 12.5 --reference inv-1042
                                                    add 12.5 FAR; the same again adds nothing
  far-mesh keys list                                accounts with balances, keys with what they used
  far-mesh keys revoke key_1f0c                     refuse a key from now on; the beginning of its name will do
  curl http://127.0.0.1:8100/account -H \"authorization: Bearer $KEY\"

They work on the coordinator's ledger, ledger.sqlite in --data-dir or the database that POSTGRES_URL names, while the
coordinator runs. Whether requests need a key is the coordinator's --require-keys."
)]
pub struct KeysArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What can be done with accounts and keys.
#[derive(Clone, Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key for an account, which is opened where there is none; the key is shown this once
    #[command(after_help = "\
Examples:
  far-mesh keys create alice
  far-mesh keys create alice --label laptop --wallet 0x5290...9ee7
  far-mesh keys create alice --json")]
    Create {
        /// The account
        #[arg(value_name = "ACCOUNT")]
        account: String,
        /// What to call the key in lists
        #[arg(long, value_name = "TEXT", default_value = "")]
        label: String,
        /// Where the account's deposits come from, an Ethereum address
        #[arg(long, value_name = "0x...", value_parser = parse_money::<WalletAddress>)]
        wallet: Option<WalletAddress>,
        /// Print one JSON object, and nothing else on standard output
        #[arg(long, help_heading = "Output")]
        json: bool,
    },
    /// Show accounts with their balances, and keys with what they used
    #[command(after_help = "\
Examples:
  far-mesh keys list
  far-mesh keys list alice --json")]
    List {
        /// This account alone
        #[arg(value_name = "ACCOUNT")]
        account: Option<String>,
        /// Print one JSON object, and nothing else on standard output
        #[arg(long, help_heading = "Output")]
        json: bool,
    },
    /// Refuse a key from the next request on, for good; what it used stays in the books
    #[command(after_help = "\
Examples:
  far-mesh keys revoke key_1f0c9a77b1e2d3c4
  far-mesh keys revoke key_1f0c")]
    Revoke {
        /// The key's name as `keys list` shows it, or enough of its beginning
        #[arg(value_name = "KEY")]
        key: String,
        /// Print one JSON object, and nothing else on standard output
        #[arg(long, help_heading = "Output")]
        json: bool,
    },
    /// Add FAR to an account
    #[command(after_help = "\
Examples:
  far-mesh keys topup alice 12.5
  far-mesh keys topup alice 12.5 --reference inv-1042     running it twice adds it once")]
    Topup {
        /// The account
        #[arg(value_name = "ACCOUNT")]
        account: String,
        /// How much, in FAR: a decimal of at most nine places
        #[arg(value_name = "FAR", value_parser = parse_money::<Amount>, allow_negative_numbers = true)]
        amount: Amount,
        /// Name of this top-up, such as an invoice's number: one name adds once, however often it is run [default: a fresh
        /// one]
        #[arg(long, value_name = "TEXT")]
        reference: Option<String>,
        /// Print one JSON object, and nothing else on standard output
        #[arg(long, help_heading = "Output")]
        json: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;

    #[test]
    fn amounts_that_are_none_are_refused_with_what_to_write() {
        for (amount, hint) in [
            ("-1", "digits and one decimal point"),
            ("1e3", "digits and one decimal point"),
            ("0.0000000001", "more than 9 decimals"),
            ("9223372036.854775808", "too large"),
            ("12,5", "such as 0.0001"),
            ("many", "digits and one decimal point"),
            ("", "it is empty"),
        ] {
            let error = Cli::try_parse_from(["far-mesh", "keys", "topup", "alice", amount]).unwrap_err().to_string();
            assert!(error.contains(amount) && error.contains(hint), "{amount}: {error}");
        }
        assert!(Cli::try_parse_from(["far-mesh", "keys", "topup", "alice", "12.5"]).is_ok());
    }
}
