//! How a tensor's elements are stored, by the number GGML gives it.

use std::fmt;

use crate::kernel::Format;

/// GGML's number of an element type. Numbers this version does not know are kept: they matter only when such a tensor
/// is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Encoding(pub u32);

/// Number, name, elements of a block, bytes of a block (`ggml.h`, `ggml-common.h`).
const KNOWN: &[(u32, &str, u64, u64)] = &[
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
];

impl Encoding {
    /// Its name, where this version knows it.
    pub fn name(self) -> Option<&'static str> {
        self.row().map(|row| row.1)
    }

    /// Elements of a block and its bytes, where this version knows them.
    pub fn block(self) -> Option<(u64, u64)> {
        self.row().map(|row| (row.2, row.3))
    }

    /// The format our kernels know it by, where they do.
    pub fn format(self) -> Option<Format> {
        Format::from_ggml(self.0)
    }

    fn row(self) -> Option<&'static (u32, &'static str, u64, u64)> {
        KNOWN.iter().find(|row| row.0 == self.0)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "type {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_formats_have_the_same_blocks_here() {
        for number in 0..64 {
            let encoding = Encoding(number);
            if let Some(format) = encoding.format() {
                let (elements, bytes) = format.block();
                assert_eq!(encoding.block(), Some((elements as u64, bytes as u64)), "{encoding}");
            }
        }
        assert_eq!(Encoding(3).to_string(), "Q4_1");
        assert_eq!(Encoding(4711).to_string(), "type 4711");
    }
}
