//! How a command ends when it does not end well.

use std::{io, path::PathBuf};

use far_ledger::store::{OpenError, UpkeepError};
use far_mesh_core::{
    coordinator,
    hop::HopError,
    kernel::CudaMissing,
    model::{self, SourceError},
    peer::{BootstrapError, MembersError, SpawnError, identity::KeyError},
    provider,
    shard::{LoadError, PlanError},
};

use super::{keys::KeysError, payments::PaymentsError, provider_status::StatusError};
use crate::{
    config::{ConfigError, Device},
    local::LocalError,
    logging::LoggingError,
    models::{InspectError, PullError, StoreError},
};

/// Exit code of wrong usage.
pub const USAGE: u8 = 2;

const FAILED: u8 = 1;

/// What a shell reports for a program that ctrl-C ended: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The settings are not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The filter of the logs is malformed.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// A model could not be had.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// The folder of models could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A model file could not be read.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// No threads could be started.
    #[error("cannot start the runtime's threads; raise the limit of processes (ulimit -u)")]
    Runtime(#[source] io::Error),
    /// Standard output does not take the result.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// ctrl-C or SIGTERM came.
    #[error("interrupted; {remedy}")]
    Interrupted {
        /// What is kept and how to go on.
        remedy: &'static str,
    },
    /// The node did not start.
    #[error("the node did not start")]
    Node(#[from] SpawnError),
    /// A key file is unusable.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A member list is unusable.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// Another process runs a node with this key.
    #[error("another node runs with the key {}: give this one its own --data-dir", path.display())]
    KeyInUse {
        /// The key file.
        path: PathBuf,
    },
    /// The key file cannot be locked.
    #[error("cannot lock the key file {}: keep the data folder where files can be locked", path.display())]
    KeyHeld {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The mesh was not joined.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// A folder or file could not be made.
    #[error("cannot write {}", path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The HTTP address cannot be listened on.
    #[error("cannot serve HTTP on {addr}: choose another with --http, port 0 for a free one")]
    Http {
        /// The address.
        addr: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A shard was not loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The model's files are not usable.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The model is not one that is run here.
    #[error(transparent)]
    Model(#[from] model::ConfigError),
    /// No span fits.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The provider did not start.
    #[error("the provider did not start")]
    Provider(#[from] provider::StartError),
    /// A provider's state could not be had.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// The coordinator did not start.
    #[error("the coordinator did not start")]
    Coordinator(#[from] coordinator::StartError),
    /// The coordinator keeps its books elsewhere, or never ran.
    #[error(
        "there is no ledger at {}: a coordinator or `far-mesh keys create` makes it; name its data folder with --data-dir, or its \
         database with POSTGRES_URL",
        .path.display()
    )]
    NoLedger {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The ledger could not be opened.
    #[error("the ledger cannot be used")]
    Ledger(#[from] OpenError),
    /// What was left in the ledger could not be taken up.
    #[error("the ledger could not be taken up where it was left")]
    TakeUp(#[from] UpkeepError),
    /// Something was not done to accounts and keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Payments did not go as asked.
    #[error(transparent)]
    Payments(#[from] PaymentsError),
    /// The system does not say which program this is.
    #[error("cannot find this program's own file, which is to start the parts of the mesh; call it by its path")]
    Program(#[source] io::Error),
    /// A part of a local mesh did not come up.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The coordinator refused or broke off.
    #[error("the coordinator did not answer the prompt")]
    Client(#[from] far_mesh_client::Error),
    /// The GPU that was asked for cannot be used.
    #[error("--device {device} cannot be used; far-mesh doctor says more")]
    Device {
        /// What was asked for.
        device: Device,
        /// What is in the way.
        #[source]
        source: CudaMissing,
    },
    /// Something is missing that the machine needs to serve.
    #[error("this machine cannot serve as asked: see above")]
    Unfit,
    /// A measurement failed.
    #[error("the measurement failed")]
    Measure(#[from] HopError),
    /// Work on another thread ended early.
    #[error("work in the background was broken off: this is a defect, please report it with the log above")]
    Aborted,
}

impl CommandError {
    /// What the process exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted { .. } => INTERRUPTED,
            Self::Output(err) if err.kind() == io::ErrorKind::BrokenPipe => 0,
            _ => FAILED,
        }
    }

    /// Whether nobody needs to hear of it: a reader such as `head` had enough.
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::Output(err) if err.kind() == io::ErrorKind::BrokenPipe)
    }
}
