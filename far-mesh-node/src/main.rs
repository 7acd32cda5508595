//! The binary `far-mesh`: parses the command line, starts logging, runs one command.

use std::{error::Error, process::ExitCode};

use clap::Parser;
use far_mesh_node::{
    cli::{Cli, Command, ProviderArgs, ProviderCommand},
    commands::{self, CommandError},
    config::{Config, Flags, Role, Sources},
    logging,
};
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(err) => {
            // Help and version go to standard output with 0, wrong usage to standard error with 2.
            let _ = err.print();
            return ExitCode::from(if err.exit_code() == 0 { 0 } else { commands::USAGE });
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            if !err.is_silent() {
                logging::report(&err as &dyn Error);
            }
            ExitCode::from(err.exit_code())
        }
    }
}

fn run(cli: Cli) -> Result<(), CommandError> {
    logging::init()?;
    let sources = Sources::of_process(cli.global.config.clone());
    let runtime = runtime(&cli.command).map_err(CommandError::Runtime)?;
    let load = |role, mut flags: Flags| {
        flags.data_dir = cli.global.data_dir.clone();
        Config::load(role, &sources, flags)
    };
    let done = match cli.command {
        Command::Models(args) => runtime.block_on(commands::models::run(args, load(Role::Tool, Flags::default())?)),
        Command::Keys(args) => {
            // The coordinator's own section names its ledger.
            runtime.block_on(commands::keys::run(args, load(Role::Coordinator, Flags::default())?))
        }
        Command::Members(args) => commands::members::run(args, &load(Role::Tool, Flags::default())?),
        Command::Payments(args) => {
            let config = load(Role::Payments, args.flags())?;
            runtime.block_on(commands::payments::run(args, config))
        }
        Command::Discovery(args) => {
            let config = load(Role::Discovery, args.flags())?;
            runtime.block_on(commands::discovery::run(args, config))
        }
        Command::Provider(ProviderArgs { command: ProviderCommand::Run(args) }) => {
            let config = load(Role::Provider, args.flags())?;
            runtime.block_on(commands::provider::run(*args, config))
        }
        Command::Provider(ProviderArgs { command: ProviderCommand::Status(args) }) => {
            let config = load(Role::Provider, args.flags())?;
            runtime.block_on(commands::provider_status::run(args, config))
        }
        Command::Coordinator(args) => {
            let config = load(Role::Coordinator, args.flags())?;
            runtime.block_on(commands::coordinator::run(args, config))
        }
        Command::Demo(args) => {
            let config = load(Role::Tool, args.flags())?;
            runtime.block_on(commands::demo::run(args, config))
        }
        Command::Doctor(args) => {
            let config = load(Role::Tool, args.flags())?;
            runtime.block_on(commands::doctor::run(args, config))
        }
        Command::Bench(args) => {
            let config = load(Role::Tool, args.flags())?;
            runtime.block_on(commands::bench::run(args, config))
        }
    };
    // A read or hash that was given up must not keep the process.
    runtime.shutdown_background();
    done
}

/// Nodes that only pass frames on do so with one thread: a frame then crosses no threads between the socket and the
/// shard's worker.
fn runtime(command: &Command) -> std::io::Result<Runtime> {
    let mut builder = match command {
        Command::Provider(_) | Command::Discovery(_) => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.enable_all().build()
}
