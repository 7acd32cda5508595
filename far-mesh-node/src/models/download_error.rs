//! Why a file could not be downloaded.

use super::store::StoreError;
use crate::config::Sha256;

/// Why a file could not be downloaded; what was had so far is kept unless it is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// The hub's address is none.
    #[error("HF_ENDPOINT = {endpoint:?} is no address of a hub: write for example https://hub.example")]
    Endpoint {
        /// What was written.
        endpoint: String,
    },
    /// The server could not be reached or hung up too often.
    #[error(
        "download of {url} failed {attempts} times in a row; check the network and run this again: it goes on where it stopped"
    )]
    Network {
        /// Where from.
        url: String,
        /// How often it was tried without any progress.
        attempts: u32,
        /// What was seen last.
        #[source]
        source: Broken,
    },
    /// There is no such file.
    #[error("{url}: no such file (404); check owner, repository and file name")]
    NotFound {
        /// Where from.
        url: String,
    },
    /// The server wants to know who asks.
    #[error("{url}: access refused ({status}); accept the model's terms on the hub and set HF_TOKEN")]
    Forbidden {
        /// Where from.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The server answered otherwise than with a file.
    #[error("{url}: the server answered {status}, no file; check HF_ENDPOINT")]
    Status {
        /// Where from.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The server sent a page for people.
    #[error(
        "{url}: the server sent a web page ({content_type}), no file; check HF_ENDPOINT and whether a proxy wants a login"
    )]
    WebPage {
        /// Where from.
        url: String,
        /// What it called it.
        content_type: String,
    },
    /// The server led elsewhere too often or to a place that is not safe.
    #[error("{url}: redirected {reason}")]
    Redirect {
        /// Where from.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is larger than it may be.
    #[error("{url}: more than {limit} bytes, {why}; what was downloaded is deleted")]
    TooLarge {
        /// Where from.
        url: String,
        /// Most bytes.
        limit: u64,
        /// Who set the limit.
        why: &'static str,
    },
    /// The server names another hash than the caller.
    #[error("{url}: the server has sha256 {server}, asked for was {wanted}; check --sha256 and the file name")]
    OtherFile {
        /// Where from.
        url: String,
        /// What the server says.
        server: Sha256,
        /// What the caller wants.
        wanted: Sha256,
    },
    /// What was downloaded could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No client of HTTP could be made.
    #[error("cannot set up HTTPS")]
    Client(#[source] reqwest::Error),
}

/// What broke one attempt; the next one may succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// No connection, or it broke.
    #[error("the connection failed")]
    Connection(#[source] reqwest::Error),
    /// The body ended early.
    #[error("the connection ended after {got} of {want} bytes")]
    Truncated {
        /// Bytes had.
        got: u64,
        /// Bytes announced.
        want: u64,
    },
    /// The server is in trouble or busy.
    #[error("the server answered {status}")]
    Status {
        /// HTTP status.
        status: u16,
    },
    /// The server sent another part than was asked for, or another version.
    #[error("the server's file changed or it sent another part than was asked for; starting over")]
    Range,
}
