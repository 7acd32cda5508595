//! Attention over keys and values kept in pages.
//!
//! ```text
//! qkv -> write: keys rotated, keys and values into their pages -> attend: queries rotated, scores, softmax, values
//! ```
//!
//! Invariant: what a query gives depends only on itself and on the positions it sees, added up from the first to the
//! last in an order fixed by position: not on the other rows, the pages' numbers or the threads.

mod attend;
mod cache;
mod rope;
mod sequences;
mod softmax;

pub(super) use attend::attention;
pub(super) use cache::PAGE_TOKENS;
pub use cache::PagedCache;
