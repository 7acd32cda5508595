//! The chain: JSON-RPC, signing and fees, and the few calls that payouts make.
//!
//! ```text
//! payout -> Chain (typed calls) -> Transport (one JSON-RPC request) -> HTTP
//!        -> Unsigned + Signer   -> SignedTx (raw bytes, hash)
//! ```
//!
//! A node is asked, not believed: an answer of another shape, of another request or for another transaction is an error
//! that names the value, a body is read only up to a limit, and no error tells the address of the node, which may hold a
//! key. What cannot be checked from here (is this block really in the chain?) is why payouts wait for depth.
//!
//! Of ethers only types, ABI, RLP and signing are used; its providers bring a second TLS stack.

mod abi;
mod chain;
mod deploy;
mod depth;
mod error;
mod fee;
mod http;
mod keystore;
mod parse;
mod signer;
mod transaction;
mod transport;
mod types;
mod window;

pub use abi::{BatchPaid, Transfer, Unpaid, payout, token};
pub use chain::Chain;
pub use deploy::{Artifacts, ArtifactsError, DeployError, Deployed, Deployment, Step, deploy};
pub(crate) use depth::Blocks;
pub use depth::Depth;
pub use error::RpcError;
pub use ethers_core::types::{Address, H256, Signature, U256};
pub use fee::{FeePolicy, Fees};
pub use http::{HttpOptions, HttpTransport};
pub use keystore::{KeystoreError, Password};
pub use signer::{LocalSigner, SignError, Signer};
pub use transaction::{DecodeError, SignedTx, Unsigned};
pub use transport::Transport;
pub use types::{At, Block, Call, FeeHistory, Log, LogFilter, Receipt};
pub(crate) use window::Window;
