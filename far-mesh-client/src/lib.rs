//! Client of a Far Mesh coordinator over HTTP, and the one place where the wire schema of its Far routes is written.
//!
//! ```no_run
//! use far_mesh_client::{Client, schema::{Event, GenerateRequest}};
//! use futures::StreamExt;
//!
//! # async fn run() -> Result<(), far_mesh_client::Error> {
//! let client = Client::new("http://127.0.0.1:8100")?;
//! let mut events = client.generate(&GenerateRequest::text("Far away").max_tokens(32)).await?;
//! while let Some(event) = events.next().await {
//!     match event? {
//!         Event::Token(token) => print!("{}", token.token),
//!         Event::Done(done) => println!("\n{} FAR", done.cost_far),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The way of a call: [`Client`] sends (and sends again only where nothing can have happened yet), `stream` reads the
//! answer through [`sse::Parser`], `schema` gives it its types.

mod client;
mod error;
mod retry;
pub mod schema;
pub mod sse;
mod stream;
#[cfg(test)]
mod tests;

pub use client::{Client, Options};
pub use error::Error;
pub use stream::EventStream;
