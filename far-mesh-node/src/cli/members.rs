//! `far-mesh members`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use far_mesh_core::id::NodeId;

/// Say who belongs to a mesh.
#[derive(Clone, Debug, Args)]
#[command(
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = "\
Examples:
  far-mesh members sign mesh.members --add 12D3KooWHHR7ADWeU6DvW7iraMnWYVfvk9u7zRJwdd9qtqo9rzsi
                                                  make a list, or add to one and sign it anew
  far-mesh members sign mesh.members --remove 12D3KooWHHR7ADWeU6DvW7iraMnWYVfvk9u7zRJwdd9qtqo9rzsi
  far-mesh members show mesh.members
  far-mesh provider run --members mesh.members                    speak to nobody else; copy it to every machine

Every node logs its id when it is ready, and prints it with --json."
)]
pub struct MembersArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: MembersCommand,
}

/// What can be done with member lists.
#[derive(Clone, Debug, Subcommand)]
pub enum MembersCommand {
    /// Make or change a list and sign it; nodes that use the file read it again by themselves
    Sign {
        /// The list; it is made where there is none
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Node to put on it; repeat for several
        #[arg(long, value_name = "ID")]
        add: Vec<NodeId>,
        /// Node to take off it; repeat for several
        #[arg(long, value_name = "ID")]
        remove: Vec<NodeId>,
        /// The operator's key, made where there is none: keep it off the machines of the mesh [default: operator.key in
        /// the data folder]
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Check a list and show who is on it
    Show {
        /// The list
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print one JSON object, and nothing else on standard output
        #[arg(long, help_heading = "Output")]
        json: bool,
    },
}
