//! Flags of every node of the mesh.

use std::path::PathBuf;

use clap::Args;
use multiaddr::Multiaddr;

use crate::config::{Flags, HttpAddress, Switch, parse_multiaddr};

/// Flags of every node of the mesh.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Mesh")]
pub struct MeshArgs {
    /// Node to join the mesh through; repeat for several [env: FAR_MESH_DHT_BOOTSTRAP, separated by commas]
    #[arg(long, value_name = "MULTIADDR", value_parser = parse_multiaddr)]
    pub bootstrap: Vec<Multiaddr>,

    /// Address to be reached at; repeat for several [default: every interface, TCP and QUIC; port 31337 for
    /// discovery, 31330 for a provider, a free one for a coordinator]
    #[arg(long, value_name = "MULTIADDR", value_parser = parse_multiaddr)]
    pub listen: Vec<Multiaddr>,

    /// Address under which others reach this node, where a port is forwarded to it; repeat for several [default: it finds out]
    #[arg(long, value_name = "MULTIADDR", value_parser = parse_multiaddr)]
    pub external: Vec<Multiaddr>,

    /// Whether to pass on what nodes behind a NAT send and are sent [default: auto, that is discovery nodes, and others
    /// that the whole world reaches]
    #[arg(long, value_name = "auto|on|off")]
    pub relay: Option<Switch>,

    /// Whether to ask the router to open a port, by UPnP [default: auto, that is providers of a public mesh]
    #[arg(long, value_name = "auto|on|off")]
    pub upnp: Option<Switch>,

    /// Address of the HTTP server (the API of a coordinator, /health of others), port 0 for a free one [default:
    /// 127.0.0.1, not open to the network; port 8100 for a coordinator, 8101 for discovery, 8102 for a provider]
    #[arg(long, value_name = "HOST:PORT")]
    pub http: Option<HttpAddress>,

    /// Pre-shared key of a private mesh, whose nodes talk to no others and over TCP only; discovery makes the file
    /// where there is none, copy it to the other machines [default: none, a public mesh]
    #[arg(long, value_name = "FILE")]
    pub psk: Option<PathBuf>,

    /// List of the nodes of the mesh, signed by its operator (far-mesh members sign); nobody else is spoken to, over TCP and
    /// QUIC. It is read again when it changes [default: none, anybody may join]
    #[arg(long, value_name = "FILE")]
    pub members: Option<PathBuf>,

    /// Print one line of JSON when ready, and nothing else on standard output
    #[arg(long, help_heading = "Output")]
    pub json: bool,

    /// End when standard input closes: for parts of a local mesh, which must not outlive the program that started them
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
}

impl MeshArgs {
    /// What these flags set.
    pub fn flags(&self) -> Flags {
        Flags {
            bootstrap: self.bootstrap.clone(),
            listen: self.listen.clone(),
            external: self.external.clone(),
            relay: self.relay,
            upnp: self.upnp,
            http: self.http.clone(),
            psk: self.psk.clone(),
            members: self.members.clone(),
            ..Flags::default()
        }
    }
}
