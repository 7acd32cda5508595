//! Settings: `far-mesh.toml`, then the environment, then flags, checked once and handed on as typed values.
//!
//! ```text
//! file (far-mesh.toml) ─┐
//! environment          ─┼─> Entries (text + Origin) ──parse──> Config <──apply── Flags (typed by clap)
//! defaults of the role ─┘                                         │
//!                                                            check (values that must fit together)
//! ```
//!
//! A setting at the top level of the file holds for every role; in a section `[coordinator]`, `[provider]` or
//! `[discovery]` it holds for that role alone and wins there; `[payments]` holds for `far-mesh payments`, which otherwise
//! reads `[coordinator]`, whose ledger it pays from. Every error names where the value came from
//! ([`Origin`]), the value and what to write instead. [`KEYS`] lists all settings with their variables and the reasons
//! of their defaults.
//!
//! ```
//! use far_mesh_node::config::{Config, Flags, Role, Sources};
//!
//! let variables = vec![("HOME".into(), "/home/me".into()), ("FAR_MESH_HTTP".into(), "127.0.0.1:9000".into())];
//! let sources = Sources { variables, ..Sources::none("/tmp") };
//! let config = Config::load(Role::Coordinator, &sources, Flags::default())?;
//! assert_eq!(config.http.to_string(), "127.0.0.1:9000");
//! # Ok::<(), far_mesh_node::config::ConfigError>(())
//! ```

mod chain;
mod choice;
mod entry;
mod environment;
mod error;
mod file;
mod flags;
mod key;
mod payments;
mod settings;
mod sources;
#[cfg(test)]
mod tests;
mod value;

pub use chain::{BatchItems, BlockNumber, ChainId, Confirmations, Gwei, PollSeconds, Weeks};
pub use choice::{Device, Layers, OtherKernelClass, Precision, PrefixSharing, Quantize, StorePrompts, Switch};
pub use entry::Origin;
pub use environment::KEYSTORE_PASSWORD;
pub use error::{ConfigError, ValueError};
pub use flags::Flags;
pub use key::{KEYS, Key, Role};
pub use payments::{DEFAULT_PAYOUT_MINIMUM, PaymentFlags, Payments, parse_rpc_url};
pub use settings::{
    Config, DEFAULT_MODEL, DEFAULT_PRICE, MAX_REGION_CHARS, parse_money, parse_multiaddr, parse_region,
};
pub use sources::{FILE_NAME, Sources};
pub use value::{ByteSize, Days, HttpAddress, Seconds, SecretUrl, Sessions, Sha256, Threads};
