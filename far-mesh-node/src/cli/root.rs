//! The root of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::{
    BenchArgs, CoordinatorArgs, DemoArgs, DiscoveryArgs, DoctorArgs, KeysArgs, MembersArgs, ModelsArgs, PaymentsArgs,
    ProviderArgs,
};
use crate::config::Flags;

/// Language models that many machines run together, each a few layers.
#[derive(Debug, Parser)]
#[command(
    name = "far-mesh",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "\
Examples:
  far-mesh demo \"Explain quantum computing\"     everything on this machine: three providers answer together
  far-mesh demo --keep                          the same, staying up with its HTTP API

  far-mesh discovery                            on three machines: where nodes meet,
  far-mesh provider run --layers auto \\
      --bootstrap /ip4/192.0.2.7/tcp/31337      a node that serves as many layers as fit,
  far-mesh coordinator \\
      --bootstrap /ip4/192.0.2.7/tcp/31337      and the HTTP API on 127.0.0.1:8100

  far-mesh keys create alice                    an account with a key, for an API that is open to the network
  far-mesh models pull smollm2-135m-instruct    fetch a model ahead of time
  far-mesh payments plan                        who would be paid what this week
  far-mesh doctor                               what this machine can serve with, and what is missing

Settings: ./far-mesh.toml, then FAR_MESH_* variables (FAR_MESH_HTTP for --http), then flags.
Logs: standard error; FAR_MESH_LOG=debug or FAR_MESH_LOG=far_mesh_core::peer=trace for more.
Exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
}

/// What every command takes.
#[derive(Clone, Debug, Default, Args)]
pub struct GlobalArgs {
    /// Configuration file [default: ./far-mesh.toml, else ~/.config/far-mesh/far-mesh.toml; neither needs to exist]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Settings")]
    pub config: Option<PathBuf>,

    /// Folder of models, keys and the database [default: ~/.local/share/far-mesh]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Settings")]
    pub data_dir: Option<PathBuf>,
}

/// What to do. The help of a command stands at its arguments: text here would hide it.
#[derive(Debug, Subcommand)]
#[expect(missing_docs, reason = "said where the arguments are")]
pub enum Command {
    Demo(DemoArgs),
    Coordinator(CoordinatorArgs),
    Provider(ProviderArgs),
    Discovery(DiscoveryArgs),
    Models(ModelsArgs),
    Keys(KeysArgs),
    Members(MembersArgs),
    Payments(PaymentsArgs),
    Bench(BenchArgs),
    Doctor(DoctorArgs),
}

impl GlobalArgs {
    /// What these flags set.
    pub fn flags(&self) -> Flags {
        Flags { data_dir: self.data_dir.clone(), ..Flags::default() }
    }
}

impl Command {
    /// How it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Demo(_) => "demo",
            Self::Coordinator(_) => "coordinator",
            Self::Provider(_) => "provider",
            Self::Discovery(_) => "discovery",
            Self::Models(_) => "models",
            Self::Keys(_) => "keys",
            Self::Members(_) => "members",
            Self::Payments(_) => "payments",
            Self::Bench(_) => "bench",
            Self::Doctor(_) => "doctor",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_with_an_example() {
        for name in ["demo", "coordinator", "discovery", "keys", "payments", "bench", "doctor"] {
            let err = Cli::try_parse_from(["far-mesh", name, "--help"]).unwrap_err();
            assert_eq!((err.kind(), err.exit_code()), (clap::error::ErrorKind::DisplayHelp, 0), "{name}");
            assert!(err.to_string().contains("Example"), "{name}");
        }
    }

    #[test]
    fn a_group_without_its_command_shows_help_as_wrong_usage() {
        for line in [vec!["far-mesh"], vec!["far-mesh", "provider"], vec!["far-mesh", "models"]] {
            let err = Cli::try_parse_from(&line).unwrap_err();
            assert_eq!(err.exit_code(), 2, "{line:?}");
            assert!(err.to_string().contains("Usage:"), "{line:?}");
        }
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        for line in ["far-mesh --data-dir /d models list", "far-mesh models list --data-dir /d"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.global.data_dir, Some("/d".into()), "{line}");
        }
    }
}
