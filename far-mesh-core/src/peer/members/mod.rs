//! A mesh of named nodes: an operator signs a list, and who is not on it gets no connection, on no transport.
//!
//! ```text
//! far-mesh members sign --> file --read, signature checked--> Members --> Gate: first of all behaviours
//!                             ^ read again when it changes (Node), higher versions of the same operator alone count
//! ```
//!
//! The identity that is looked up is the one that noise or TLS has proven. A stranger sees its connection end and hears no
//! reason; the operator finds one in the log.

mod error;
mod gate;
mod list;
#[cfg(test)]
mod tests;
mod watch;

pub use self::{
    error::MembersError,
    list::{MAX_MEMBERS, Members, sign},
};
pub(super) use self::{
    gate::{Gate, NotAMember},
    watch::watch,
};
