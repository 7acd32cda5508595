//! Which command.

use crate::{
    cli::{PaymentsArgs, PaymentsCommand},
    commands::CommandError,
    config::Config,
};

use super::{audit, deploy, export, once, plan, service, status};

/// Runs a command of `far-mesh payments`.
///
/// # Errors
/// [`CommandError`]; what an audit finds, or what is due and not settled, is one too.
pub async fn run(args: PaymentsArgs, config: Config) -> Result<(), CommandError> {
    match args.command {
        PaymentsCommand::Deploy(args) => Box::pin(deploy::run(*args, &config)).await,
        PaymentsCommand::Plan(args) => Box::pin(plan::run(*args, &config)).await,
        PaymentsCommand::Once(args) => Box::pin(once::run(*args, &config)).await,
        PaymentsCommand::Run(args) => Box::pin(service::run(*args, &config)).await,
        PaymentsCommand::Status(args) => Box::pin(status::run(*args, &config)).await,
        PaymentsCommand::Audit(args) => Box::pin(audit::run(*args, &config)).await,
        PaymentsCommand::Export(args) => Box::pin(export::run(args, &config)).await,
    }
}
