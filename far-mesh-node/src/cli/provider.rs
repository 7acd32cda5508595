//! `far-mesh provider`.

use clap::{Args, Subcommand};
use far_ledger::{WalletAddress, cost::Price};

use super::MeshArgs;
use crate::config::{
    ByteSize, Device, Flags, HttpAddress, Layers, Precision, Quantize, Seconds, Sessions, Threads, parse_money,
    parse_region,
};

/// Serve layers of a model.
#[derive(Clone, Debug, Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub struct ProviderArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ProviderCommand,
}

/// What a provider can do. The help of a command stands at its arguments: text here would hide it.
#[derive(Clone, Debug, Subcommand)]
#[expect(missing_docs, reason = "said where the arguments are")]
pub enum ProviderCommand {
    Run(Box<ProviderRunArgs>),
    Status(ProviderStatusArgs),
}

/// Load a span of layers and serve it until ctrl-C.
///
/// ctrl-C finishes the steps under way, withdraws the advert and exits 0; a second one ends at once.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  far-mesh provider run --bootstrap /ip4/192.0.2.7/tcp/31337     as many layers as fit, where they are needed most
  far-mesh provider run --layers 0..10 --threads 4
  far-mesh provider run --wallet 0x52908400098527886E0F7030069857D2E4169EE7 --price 0.0001 --region eu-central --max-memory 6GiB
  far-mesh provider run --device cuda:1 --data-dir gpu1 --max-sessions 64     one provider a GPU, each with its own key")]
pub struct ProviderRunArgs {
    /// Model to serve by name or path [default: smollm2-135m-instruct]
    #[arg(long, value_name = "NAME|PATH")]
    pub model: Option<String>,

    /// Layers to serve: A..B with B exclusive, or auto: as many as fit in memory, where the mesh needs them most
    /// [default: auto]
    #[arg(long, value_name = "A..B|auto")]
    pub layers: Option<Layers>,

    /// Device to compute on; auto takes the first GPU that runs a trial kernel, else the processor [default: auto]
    #[arg(long, value_name = "auto|cpu|cuda[:N]")]
    pub device: Option<Device>,

    /// packed: weights as in the file, 8-bit activations, fast; exact: dense f32, for checking [default: packed]
    #[arg(long, value_name = "packed|exact")]
    pub precision: Option<Precision>,

    /// none, or what F32, F16 and BF16 weights are packed to while they are loaded: q8_0 halves bf16, q4_0 quarters it. All
    /// nodes of a model must pack it alike: packed, it counts as another model [default: none]
    #[arg(long, value_name = "none|q8_0|q4_0")]
    pub quantize: Option<Quantize>,

    /// Most memory that --layers auto fills with weights and caches, such as 6GiB [default: four fifths of what is free]
    #[arg(long, value_name = "SIZE")]
    pub max_memory: Option<ByteSize>,

    /// Most sessions to serve at once, with room for 2048 positions each [default: room for 16, more if they are shorter]
    #[arg(long, value_name = "N")]
    pub max_sessions: Option<Sessions>,

    /// How often --layers auto looks whether the mesh needs this node elsewhere, 0 for never; it moves only where both spans
    /// fit the free memory meanwhile [default: 300]
    #[arg(long, value_name = "SECONDS")]
    pub rebalance_interval: Option<Seconds>,

    /// Ethereum address that what the node earns is recorded for [default: none, it is recorded for the node alone]
    #[arg(long, value_name = "0x...", value_parser = parse_money::<WalletAddress>, help_heading = "Pay")]
    pub wallet: Option<WalletAddress>,

    /// Price it advertises for a token that passes all layers, in FAR; a span asks its share [default: 0.0001]
    #[arg(long, value_name = "FAR", value_parser = parse_money::<Price>, help_heading = "Pay")]
    pub price: Option<Price>,

    /// Where the node stands, such as eu-central, for those who look at the mesh [default: not advertised]
    #[arg(long, value_name = "NAME", value_parser = parse_region, help_heading = "Mesh")]
    pub region: Option<String>,

    /// What the node's line carries in a second, such as 12MiB for 100 Mbit/s [default: not advertised, counted as that]
    #[arg(long, value_name = "SIZE", help_heading = "Mesh")]
    pub bandwidth: Option<ByteSize>,

    /// Threads that compute [default: the processors this process may use; more only take turns]
    #[arg(long, value_name = "N")]
    pub threads: Option<Threads>,

    /// Flags of every node.
    #[command(flatten)]
    pub mesh: MeshArgs,
}

/// Ask a running provider how it does: its layers, its sessions, and whether others reach it directly, through its NAT or
/// through a relay.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  far-mesh provider status                            the provider on this machine
  far-mesh provider status --http 10.0.0.2:8102 --json")]
pub struct ProviderStatusArgs {
    /// Address of its HTTP server, as it was told itself [default: 127.0.0.1:8102]
    #[arg(long, value_name = "HOST:PORT")]
    pub http: Option<HttpAddress>,

    /// Print what it says as one line of JSON
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

impl ProviderStatusArgs {
    /// What these flags set.
    pub fn flags(&self) -> Flags {
        Flags { http: self.http.clone(), ..Flags::default() }
    }
}

impl ProviderRunArgs {
    /// What these flags set.
    pub fn flags(&self) -> Flags {
        Flags {
            model: self.model.clone(),
            layers: self.layers,
            device: self.device,
            precision: self.precision,
            quantize: self.quantize,
            bandwidth: self.bandwidth,
            max_memory: self.max_memory,
            max_sessions: self.max_sessions,
            rebalance_interval: self.rebalance_interval,
            wallet: self.wallet,
            price: self.price,
            region: self.region.clone(),
            threads: self.threads,
            ..self.mesh.flags()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    const WALLET: &str = "0x52908400098527886E0F7030069857D2E4169EE7";

    fn parse(line: &str) -> Result<ProviderRunArgs, clap::Error> {
        match Cli::try_parse_from(["far-mesh", "provider", "run"].into_iter().chain(line.split_whitespace()))?.command {
            Command::Provider(ProviderArgs { command: ProviderCommand::Run(args) }) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_flags() {
        let line = format!(
            "--model m --layers 10..20 --device cpu --precision exact --wallet {WALLET} --price 0.0003 --region eu \
             --max-memory 6GiB --max-sessions 64 --bandwidth 12MiB --rebalance-interval 0 --json"
        );
        let flags = parse(&line).unwrap().flags();
        assert_eq!(flags.layers.unwrap().to_string(), "10..20");
        assert_eq!((flags.device, flags.precision), (Some(Device::Cpu), Some(Precision::Exact)));
        assert_eq!(flags.wallet.unwrap().to_string(), WALLET);
        assert_eq!(flags.max_memory, Some(ByteSize(6 << 30)));
        assert_eq!(flags.bandwidth, Some(ByteSize(12 << 20)));
        assert_eq!(flags.max_sessions.unwrap().get(), 64);
        assert_eq!(flags.rebalance_interval.unwrap().interval(), None);
        assert_eq!(flags.region.as_deref(), Some("eu"));
    }

    #[test]
    fn wrong_values_name_what_to_write() {
        for (line, hint) in [
            ("--layers 10", "0..10"),
            ("--layers 5..5", "A..B"),
            ("--device tpu", "cuda:N"),
            ("--max-sessions 0", "1 to 4096"),
            ("--rebalance-interval 5m", "0 for never"),
            ("--wallet 0x12", "40 hexadecimal digits"),
            ("--max-memory lots", "6GiB"),
        ] {
            let err = parse(line).unwrap_err().to_string();
            assert!(err.contains(hint), "{line}: {err}");
        }
        assert!(parse(&format!("--region {}", "x".repeat(33))).is_err());
    }
}
