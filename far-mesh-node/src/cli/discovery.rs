//! `far-mesh discovery`.

use clap::Args;

use super::MeshArgs;
use crate::config::Flags;

/// Let nodes find each other.
///
/// Runs a node of the mesh's distributed hash table that serves no layers: the address others bootstrap from.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  far-mesh discovery                                             on /ip4/0.0.0.0/tcp/31337 and QUIC beside it
  far-mesh discovery --listen /ip4/192.0.2.7/tcp/31337 --http 0.0.0.0:8101")]
pub struct DiscoveryArgs {
    /// Flags of every node.
    #[command(flatten)]
    pub mesh: MeshArgs,
}

impl DiscoveryArgs {
    /// What these flags set.
    pub fn flags(&self) -> Flags {
        self.mesh.flags()
    }
}
