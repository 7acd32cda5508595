//! `far-mesh coordinator`.

use clap::Args;
use far_ledger::cost::Price;

use super::MeshArgs;
use crate::config::{Flags, Precision, Quantize, Switch, Threads, parse_money, parse_region};

/// Serve the HTTP API: route requests through providers, stream tokens, keep accounts.
///
/// The coordinator holds the tokenizer and the head of its model (final norm and output matrix), not its layers: those
/// it finds in the mesh.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  far-mesh coordinator --bootstrap /ip4/192.0.2.7/tcp/31337
  far-mesh coordinator --http 0.0.0.0:8100 --price 0.0002       open to the network, at its own price, to holders of keys
  far-mesh keys create alice                                    a key for one of them
  curl -N http://127.0.0.1:8100/v1/chat/completions -H 'content-type: application/json' \\
      -d '{\"model\": \"smollm2-135m-instruct\", \"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}'

PRICE_PER_TOKEN_FAR sets the price too. The ledger is ledger.sqlite in the data folder.")]
pub struct CoordinatorArgs {
    /// Model to serve by name or path [default: smollm2-135m-instruct]
    #[arg(long, value_name = "NAME|PATH")]
    pub model: Option<String>,

    /// packed or exact arithmetic of the head [default: packed]
    #[arg(long, value_name = "packed|exact")]
    pub precision: Option<Precision>,

    /// none, or what F32, F16 and BF16 weights are packed to while they are loaded: q8_0 halves bf16, q4_0 quarters it. All
    /// nodes of a model must pack it alike: packed, it counts as another model [default: none]
    #[arg(long, value_name = "none|q8_0|q4_0")]
    pub quantize: Option<Quantize>,

    /// What a generated token costs, in FAR [env: PRICE_PER_TOKEN_FAR] [default: 0.0001]
    #[arg(long, value_name = "FAR", value_parser = parse_money::<Price>)]
    pub price: Option<Price>,

    /// Whether requests need an API key (far-mesh keys); what comes with one is charged to its account in any case [default: auto,
    /// that is where --http is not loopback]
    #[arg(long, value_name = "auto|on|off")]
    pub require_keys: Option<Switch>,

    /// Where the coordinator stands, like eu-west: nodes that answer faster than light could from where they say are not
    /// believed
    #[arg(long, value_name = "NAME", value_parser = parse_region)]
    pub region: Option<String>,

    /// Threads that compute [default: the processors this process may use; more only take turns]
    #[arg(long, value_name = "N")]
    pub threads: Option<Threads>,

    /// Flags of every node.
    #[command(flatten)]
    pub mesh: MeshArgs,
}

impl CoordinatorArgs {
    /// What these flags set.
    pub fn flags(&self) -> Flags {
        Flags {
            model: self.model.clone(),
            precision: self.precision,
            quantize: self.quantize,
            price: self.price,
            require_keys: self.require_keys,
            region: self.region.clone(),
            threads: self.threads,
            ..self.mesh.flags()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::{
        cli::{Cli, Command},
        config::Switch,
    };

    #[test]
    fn all_flags() {
        let line = "far-mesh coordinator --model m --price 0.5 --require-keys off --bootstrap /ip4/127.0.0.1/tcp/1 \
                    --bootstrap /ip4/127.0.0.1/tcp/2 --listen /ip4/127.0.0.1/tcp/0 --http [::1]:0 --psk k --threads 3 --region eu-west --json";
        let Command::Coordinator(args) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
            panic!()
        };
        let flags = args.flags();
        assert_eq!((flags.bootstrap.len(), flags.listen.len()), (2, 1));
        assert_eq!(flags.http.unwrap().to_string(), "[::1]:0");
        assert_eq!(flags.price.unwrap().per_token().nano(), 500_000_000);
        assert_eq!(flags.require_keys, Some(Switch::Off));
        assert_eq!((flags.psk, flags.region), (Some("k".into()), Some("eu-west".into())));
        assert!(args.mesh.json);
    }

    #[test]
    fn wrong_values_name_the_flag_and_what_to_write() {
        for (flag, value, hint) in [
            ("--http", "8100", "HOST:PORT"),
            ("--bootstrap", "192.0.2.7:31337", "/ip4/"),
            ("--price", "-1", "digits and one decimal point"),
            ("--price", "0,1", "0.0001"),
        ] {
            let flag = format!("{flag}={value}");
            let err = Cli::try_parse_from(["far-mesh", "coordinator", &flag]).unwrap_err().to_string();
            assert!(err.contains(hint) && err.contains(value), "{flag}: {err}");
        }
    }
}
