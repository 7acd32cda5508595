//! What the command line sets. Flags are typed by their parser, so nothing here can be malformed.

use std::path::PathBuf;

use far_ledger::{WalletAddress, cost::Price};
use multiaddr::Multiaddr;

use super::{
    choice::{Device, Layers, Precision, Quantize, Switch},
    payments::PaymentFlags,
    value::{ByteSize, HttpAddress, Seconds, Sessions, Threads},
};

/// Settings from flags: each that is set wins over file and environment. A list that is not empty replaces.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--bootstrap`
    pub bootstrap: Vec<Multiaddr>,
    /// `--listen`
    pub listen: Vec<Multiaddr>,
    /// `--external`
    pub external: Vec<Multiaddr>,
    /// `--relay`
    pub relay: Option<Switch>,
    /// `--upnp`
    pub upnp: Option<Switch>,
    /// `--http`
    pub http: Option<HttpAddress>,
    /// `--psk`
    pub psk: Option<PathBuf>,
    /// `--members`
    pub members: Option<PathBuf>,
    /// `--threads`
    pub threads: Option<Threads>,
    /// `--model`
    pub model: Option<String>,
    /// `--precision`
    pub precision: Option<Precision>,
    /// `--quantize`
    pub quantize: Option<Quantize>,
    /// `--price`
    pub price: Option<Price>,
    /// `--require-keys`
    pub require_keys: Option<Switch>,
    /// `--layers`
    pub layers: Option<Layers>,
    /// `--device`
    pub device: Option<Device>,
    /// `--wallet`
    pub wallet: Option<WalletAddress>,
    /// `--region`
    pub region: Option<String>,
    /// `--bandwidth`
    pub bandwidth: Option<ByteSize>,
    /// `--max-memory`
    pub max_memory: Option<ByteSize>,
    /// `--max-sessions`
    pub max_sessions: Option<Sessions>,
    /// `--rebalance-interval`
    pub rebalance_interval: Option<Seconds>,
    /// Those of `far-mesh payments`.
    pub payments: PaymentFlags,
}
