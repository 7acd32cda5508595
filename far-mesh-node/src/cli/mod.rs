//! The command line, one file a command. Here stands only what can be written on it; [`crate::commands`] runs it.
//!
//! Flags have no defaults of their own where a file or variable may set the same thing: absent means "ask
//! [`crate::config`]". The help names the default all the same, with its reason.

mod bench;
mod chain;
mod coordinator;
mod demo;
mod discovery;
mod doctor;
mod keys;
mod members;
mod mesh;
mod models;
mod payments;
mod provider;
mod root;

pub use bench::BenchArgs;
pub use chain::{ChainArgs, ContractArgs, FeeArgs, KeyArgs, PayArgs, RuleArgs};
pub use coordinator::CoordinatorArgs;
pub use demo::{DEFAULT_PROMPT, DemoArgs};
pub use discovery::DiscoveryArgs;
pub use doctor::DoctorArgs;
pub use keys::{KeysArgs, KeysCommand};
pub use members::{MembersArgs, MembersCommand};
pub use mesh::MeshArgs;
pub use models::{ModelsArgs, ModelsCommand};
pub use payments::{
    AuditArgs, DeployArgs, ExportArgs, OnceArgs, PaymentsArgs, PaymentsCommand, PaymentsRunArgs, PaymentsStatusArgs,
    PlanArgs,
};
pub use provider::{ProviderArgs, ProviderCommand, ProviderRunArgs, ProviderStatusArgs};
pub use root::{Cli, Command, GlobalArgs};
