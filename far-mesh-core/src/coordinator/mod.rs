//! A coordinator: plans a route for each request and drives it.
//!
//! ```text
//! Coordinator::generate -> Generator (session) -> Router (a hop over all layers that plans when it is opened)
//!                                                   Table (adverts, kept fresh) -> route::plan -> peer::RemoteRoute
//! ```
//!
//! Tokenizer, chat template and head stay here; the layers are elsewhere. One coordinator serves one model; several share
//! a [`crate::peer::Node`].

mod config;
mod generation;
mod repair;
mod router;
mod run;
mod standing;
mod table;
mod tries;

pub use config::{Config, PromptError, StartError};
pub use generation::{Generation, Prompt};
pub use repair::OtherClass;
pub use run::Coordinator;
