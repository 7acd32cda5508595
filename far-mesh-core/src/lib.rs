//! The runtime and the routing protocol of Far Mesh: everything a Rust program needs to become a provider, a
//! coordinator or a client of the mesh. It knows nothing of HTTP, SQL or chains.
//!
//! The way of a request:
//!
//! ```text
//! token -> session -> route::plan -> hop (peer::remote_hop => wire => shard::worker -> model -> kernel)* -> head
//!       -> session::sampler -> token::detokenizer
//! ```
//!
//! A [`provider::Provider`] serves a span to others, a [`coordinator::Coordinator`] turns prompts into tokens along their
//! spans; both are thin compositions of the modules below them.
//!
//! `peer` never sees burn, `model` never sees the network; both meet in the trait [`hop::Hop`].

pub mod activation;
pub mod coordinator;
pub mod hop;
pub mod id;
pub mod kernel;
pub mod limits;
pub mod model;
pub mod peer;
pub mod provider;
pub mod receipt;
pub mod route;
pub mod session;
pub mod shard;
pub mod task;
pub mod token;
