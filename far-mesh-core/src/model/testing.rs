//! Small models for tests: a writer of GGUF files and random models of any shape. Not part of the public interface.

use std::{fs, io, path::Path};

use half::f16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::kernel::Format;

/// Builds the bytes of a GGUF file, sane or not: nothing is checked.
#[derive(Clone, Debug)]
pub struct GgufWriter {
    version: u32,
    entry_count: u64,
    entries: Vec<u8>,
    tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
    alignment: usize,
}

impl Default for GgufWriter {
    fn default() -> Self {
        Self { version: 3, entry_count: 0, entries: vec![], tensors: vec![], alignment: 32 }
    }
}

impl GgufWriter {
    /// Another version than 3.
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// An entry whose value is of type `kind` and stands as `value` in the file.
    pub fn entry(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        push_text(&mut self.entries, key);
        self.entries.extend(kind.to_le_bytes());
        self.entries.extend(value);
        self.entry_count += 1;
        self
    }

    /// A u32.
    pub fn u32(self, key: &str, value: u32) -> Self {
        self.entry(key, 4, &value.to_le_bytes())
    }

    /// An f32.
    pub fn f32(self, key: &str, value: f32) -> Self {
        self.entry(key, 6, &value.to_le_bytes())
    }

    /// A boolean.
    pub fn bool(self, key: &str, value: bool) -> Self {
        self.entry(key, 7, &[value.into()])
    }

    /// A text.
    pub fn text(self, key: &str, value: &str) -> Self {
        let mut bytes = vec![];
        push_text(&mut bytes, value);
        self.entry(key, 8, &bytes)
    }

    /// An array of texts.
    pub fn texts<'a>(self, key: &str, values: impl IntoIterator<Item = &'a str>) -> Self {
        let values: Vec<&str> = values.into_iter().collect();
        let mut bytes = 8u32.to_le_bytes().to_vec();
        bytes.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| push_text(&mut bytes, value));
        self.entry(key, 9, &bytes)
    }

    /// An array of i32.
    pub fn i32s(self, key: &str, values: &[i32]) -> Self {
        let mut bytes = 5u32.to_le_bytes().to_vec();
        bytes.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        self.entry(key, 9, &bytes)
    }

    /// An array of f32.
    pub fn f32s(self, key: &str, values: &[f32]) -> Self {
        let mut bytes = 6u32.to_le_bytes().to_vec();
        bytes.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        self.entry(key, 9, &bytes)
    }

    /// A tensor; dimensions the fastest first.
    pub fn tensor(mut self, name: &str, dims: &[u64], kind: u32, bytes: Vec<u8>) -> Self {
        self.tensors.push((name.to_owned(), dims.to_vec(), kind, bytes));
        self
    }

    /// The file, and how many bytes of it are header.
    pub fn finish(&self) -> (Vec<u8>, usize) {
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend(self.entry_count.to_le_bytes());
        file.extend(&self.entries);
        let mut offset = 0;
        for (name, dims, kind, bytes) in &self.tensors {
            push_text(&mut file, name);
            file.extend((dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|dim| file.extend(dim.to_le_bytes()));
            file.extend(kind.to_le_bytes());
            file.extend((offset as u64).to_le_bytes());
            offset = (offset + bytes.len()).next_multiple_of(self.alignment);
        }
        let header = file.len();
        for (_, _, _, bytes) in &self.tensors {
            file.resize(file.len().next_multiple_of(self.alignment), 0);
            file.extend(bytes);
        }
        (file, header)
    }
}

fn push_text(into: &mut Vec<u8>, text: &str) {
    into.extend((text.len() as u64).to_le_bytes());
    into.extend(text.as_bytes());
}

/// A Llama model with random weights.
#[derive(Clone, Debug)]
pub struct TinyLlama {
    /// Decoder layers.
    pub layers: u32,
    /// Width of the hidden state, a multiple of 32.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Width of the feed-forward layer, a multiple of 32.
    pub feed_forward: usize,
    /// Tokens.
    pub vocabulary: usize,
    /// Positions.
    pub context_tokens: u32,
    /// Encodings the matrices of the blocks take in turn.
    pub formats: Vec<Format>,
    /// Encoding of the embedding.
    pub embedding: Format,
    /// Encoding of the output matrix; without one it is the embedding.
    pub output: Option<Format>,
    /// What the weights are drawn from.
    pub seed: u64,
}

impl Default for TinyLlama {
    fn default() -> Self {
        Self {
            layers: 6,
            hidden: 64,
            heads: 4,
            kv_heads: 2,
            feed_forward: 96,
            vocabulary: 80,
            context_tokens: 256,
            formats: vec![Format::Q4_1],
            embedding: Format::Q8_0,
            output: None,
            seed: 1,
        }
    }
}

impl TinyLlama {
    /// The model as a file.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, path: impl AsRef<Path>) -> io::Result<()> {
        fs::write(path, self.writer().finish().0)
    }

    /// The model in a writer, to be spoiled.
    pub fn writer(&self) -> GgufWriter {
        let head_dim = self.hidden / self.heads;
        let mut writer = GgufWriter::default()
            .text("general.architecture", "llama")
            .text("general.name", "tiny")
            .u32("llama.block_count", self.layers)
            .u32("llama.context_length", self.context_tokens)
            .u32("llama.embedding_length", self.hidden as u32)
            .u32("llama.feed_forward_length", self.feed_forward as u32)
            .u32("llama.attention.head_count", self.heads as u32)
            .u32("llama.attention.head_count_kv", self.kv_heads as u32)
            .f32("llama.rope.freq_base", 10_000.0)
            .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
            .u32("llama.rope.dimension_count", head_dim as u32);
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let mut formats = self.formats.iter().copied().cycle();
        let (hidden, ff) = (self.hidden, self.feed_forward);
        let (queries, keys) = (self.heads * head_dim, self.kv_heads * head_dim);
        let mut add = |writer: GgufWriter, name: &str, n: usize, k: usize, format: Format| {
            writer.tensor(name, &[k as u64, n as u64], ggml_number(format), random_matrix(&mut random, format, n, k))
        };
        writer = add(writer, "token_embd.weight", self.vocabulary, hidden, self.embedding);
        for layer in 0..self.layers {
            for (part, n, k) in [
                ("attn_q", queries, hidden),
                ("attn_k", keys, hidden),
                ("attn_v", keys, hidden),
                ("attn_output", hidden, queries),
                ("ffn_gate", ff, hidden),
                ("ffn_up", ff, hidden),
                ("ffn_down", hidden, ff),
            ] {
                let format = formats.next().unwrap_or(Format::F32);
                writer = add(writer, &format!("blk.{layer}.{part}.weight"), n, k, format);
            }
        }
        if let Some(format) = self.output {
            writer = add(writer, "output.weight", self.vocabulary, hidden, format);
        }
        let mut norm = |writer: GgufWriter, name: &str| {
            let weights = (0..hidden).flat_map(|_| random.random_range(0.5f32..1.5).to_le_bytes()).collect();
            writer.tensor(name, &[hidden as u64], 0, weights)
        };
        for layer in 0..self.layers {
            writer = norm(writer, &format!("blk.{layer}.attn_norm.weight"));
            writer = norm(writer, &format!("blk.{layer}.ffn_norm.weight"));
        }
        norm(writer, "output_norm.weight")
    }
}

/// GGML's number of a format.
pub fn ggml_number(format: Format) -> u32 {
    (0..64).find(|&number| Format::from_ggml(number) == Some(format)).unwrap_or(u32::MAX)
}

/// Blocks of random values whose products stay of order one, through any number of columns.
fn random_matrix(random: &mut ChaCha8Rng, format: Format, n: usize, k: usize) -> Vec<u8> {
    let (per_block, block_bytes) = format.block();
    let spread = 1.7 / (k as f32).sqrt();
    let mut bytes = Vec::with_capacity(n * k / per_block * block_bytes);
    for _ in 0..n * k / per_block {
        let mut value = || random.random_range(-spread..spread);
        match format {
            Format::F32 => bytes.extend(value().to_le_bytes()),
            Format::F16 => bytes.extend(f16::from_f32(value()).to_le_bytes()),
            Format::BF16 => bytes.extend(half::bf16::from_f32(value()).to_le_bytes()),
            Format::Q4_0 | Format::Q4_1 | Format::Q5_0 | Format::Q5_1 | Format::Q8_0 => {
                let steps = match format {
                    Format::Q8_0 => 127.0,
                    Format::Q5_0 | Format::Q5_1 => 15.5,
                    _ => 7.5,
                };
                let scale = spread * random.random_range(0.5f32..1.0) / steps;
                let start = bytes.len();
                bytes.extend(f16::from_f32(scale).to_le_bytes());
                if matches!(format, Format::Q4_1 | Format::Q5_1) {
                    bytes.extend(f16::from_f32(-steps * scale).to_le_bytes());
                }
                let quants = start + block_bytes - bytes.len();
                bytes.extend((0..quants).map(|_| random.random::<u8>()));
            }
            Format::Q4_K | Format::Q5_K | Format::Q6_K => {
                // Any bytes are scales and quants: only their halves are to be drawn with care.
                let mut block: Vec<u8> = (0..block_bytes).map(|_| random.random()).collect();
                let (steps, at) = match format {
                    Format::Q4_K => (63.0 * 7.5, 0),
                    Format::Q5_K => (63.0 * 15.5, 0),
                    _ => (127.0 * 31.5, block_bytes - 2),
                };
                let scale = spread * random.random_range(0.5f32..1.0) / steps;
                block[at..at + 2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
                if at == 0 {
                    let middle = if format == Format::Q4_K { 7.5 } else { 15.5 };
                    block[2..4].copy_from_slice(&f16::from_f32(middle * scale).to_le_bytes());
                }
                bytes.extend(block);
            }
        }
    }
    bytes
}
