//! Packed matrices times activations.
//!
//! ```text
//! GGUF rows -> weight: 16 rows side by side, so that a vector holds one element of each -> multiply
//! f32 rows  -> rows: int8 in blocks of 32 (quantized weights) or f32 as they are (dense ones) -^
//! ```
//!
//! A quantized weight meets activations rounded to int8 per block of 32; a dense one meets them in f32. The sum over a
//! row goes block by block from the first to the last, so it does not depend on the other rows, on the number of rows
//! done at a time or on who does them.

mod dense;
mod embed;
mod five;
mod multiply;
mod planes;
mod quant;
mod rows;
mod superblock;
mod weight;

pub(super) use embed::embed;
pub(super) use multiply::linear;
pub use weight::Packed;
