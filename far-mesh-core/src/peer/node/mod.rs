//! The handle to a running node: [`Node::spawn`] starts one, the rest of [`Node`] asks its event loop or reads what that
//! has written down.

mod error;
mod handle;
mod spawn;

pub(super) use self::error::list;
pub use self::{
    error::{AlreadyAccepted, BootstrapError, DialError, SpawnError, StreamError},
    handle::Node,
};
