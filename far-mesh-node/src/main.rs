//! The binary `far-mesh`: parses the command line, starts logging, runs one command.

use std::{error::Error, process::ExitCode};

use clap::Parser;
use far_mesh_node::{
    cli::{Cli, Command},
    commands::{self, CommandError},
    config::{Config, Role, Sources},
    logging,
};

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
    let runtime = tokio::runtime::Runtime::new().map_err(CommandError::Runtime)?;
    let done = match cli.command {
        Command::Models(args) => {
            let config = Config::load(Role::Tool, &sources, cli.global.flags())?;
            runtime.block_on(commands::models::run(args, config))
        }
        command => Err(CommandError::Absent(command.name())),
    };
    // A read or hash that was given up must not keep the process.
    runtime.shutdown_background();
    done
}
