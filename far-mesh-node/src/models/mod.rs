//! Models on this machine: what can be had, what is here, and how it comes here.
//!
//! ```text
//! NAME | hf:OWNER/REPO/FILE | PATH --Reference--> catalogue / hub / file
//!      --lock--> python (wheel) or download (HTTP, resumed) --> FILE.part --verify--> FILE + FILE.json (manifest)
//! ```
//!
//! Everything lies in `<data-dir>/models/`: catalogue files by their name, hub files in `OWNER/REPO/`, and for a file
//! that was registered where it lies, its manifest alone.
//!
//! A path names a GGUF file or a folder as Hugging Face lays it out. A whole repository of a hub is not fetched: its files
//! are copied by the hub's own tools, and the folder is registered.
//!
//! Invariants: a file without `.part` was complete and had the right SHA-256 when it got its name. Two processes that
//! want the same file fetch it once: the second waits for the lock, then finds it. A manifest is trusted as long as
//! size and time of change of its file are what it says; else the file is hashed again.

mod answer;
pub mod catalog;
mod download;
mod download_error;
mod hub;
mod inspect;
mod list;
mod lock;
mod manifest;
mod pull;
mod python;
mod reference;
mod store;
#[cfg(test)]
mod tests;
mod verify;

pub use download_error::{Broken, DownloadError};
pub use hub::{Hub, HubFile};
pub use inspect::{InspectError, Inspection, LayerBytes, TensorKind, inspect};
pub use list::{Listed, State, list};
pub use manifest::Manifest;
pub use pull::{Model, PullError, pull, resolve};
pub use python::PythonError;
pub use reference::{Reference, ReferenceError};
pub use store::StoreError;
