//! The header: metadata and the table of tensors, checked in full before it is used.

use std::{
    collections::HashSet,
    io::{self, Read},
};

use super::{Array, Encoding, GgufError, Metadata, Strings, TensorInfo, Value, ValueType};

/// Most bytes of header. Vocabularies make it large: 1.8 MB for 49 thousand tokens, about 12 MB for 256 thousand.
pub const MAX_HEADER_BYTES: u64 = 256 << 20;

/// Most dimensions of a tensor, as in GGML.
pub(super) const MAX_DIMS: usize = 4;

/// Most metadata entries: real files have about 50.
const MAX_ENTRIES: u64 = 1 << 16;

/// Most tensors: Llama 3.1 405B has 1138.
const MAX_TENSORS: u64 = 1 << 18;

/// Longest key or tensor name, as the specification has it for keys.
const MAX_NAME_BYTES: u64 = (1 << 16) - 1;

/// Greatest alignment: 2 MiB pages are the largest anybody aligns to, and nobody does.
const MAX_ALIGNMENT: u64 = 1 << 20;

/// Alignment of files that do not name one.
const DEFAULT_ALIGNMENT: u64 = 32;

/// A checked header.
///
/// Invariant: no two tensors share a name or a byte, and every tensor of known encoding lies within the file.
#[derive(Clone, Debug)]
pub struct Header {
    /// Metadata entries.
    pub metadata: Metadata,
    /// Tensors in the order of the file's table.
    pub tensors: Vec<TensorInfo>,
    /// Bytes before the first tensor.
    pub bytes: u64,
}

impl Header {
    /// Reads and checks the header of a file of `file_bytes` bytes.
    ///
    /// # Errors
    /// [`GgufError`] says what is wrong. Memory stays within a small multiple of the header's real bytes.
    pub fn read(source: impl Read, file_bytes: u64) -> Result<Self, GgufError> {
        let mut reader = Reader { source, at: 0, file_bytes };
        let magic = reader.array::<4>("the magic number")?;
        if &magic != b"GGUF" {
            return Err(GgufError::Magic(magic));
        }
        match reader.u32("the version")? {
            2 | 3 => {}
            version if matches!(version.swap_bytes(), 1..=3) => return Err(GgufError::BigEndian),
            version => return Err(GgufError::Version(version)),
        }
        let tensor_count = reader.count("the number of tensors", MAX_TENSORS)?;
        let entry_count = reader.count("the number of metadata entries", MAX_ENTRIES)?;

        let mut metadata = Metadata::default();
        for _ in 0..entry_count {
            let key = reader.text("a metadata key", MAX_NAME_BYTES)?;
            let value = reader.value(&key)?;
            if !metadata.insert(key.clone(), value) {
                return Err(GgufError::DuplicateKey(key));
            }
        }
        let alignment = match metadata.get("general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(&Value::Unsigned(alignment)) if alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT => alignment,
            Some(Value::Unsigned(alignment)) => return Err(GgufError::Alignment(*alignment)),
            Some(_) => return Err(GgufError::Alignment(0)),
        };

        let mut tensors = Vec::new();
        for _ in 0..tensor_count {
            tensors.push(reader.tensor(alignment)?);
        }
        let bytes = reader.at.next_multiple_of(alignment);
        place(&mut tensors, bytes, file_bytes)?;
        Ok(Self { metadata, tensors, bytes })
    }
}

/// Turns offsets within the data section into places in the file, and checks that none leaves it or meets another.
fn place(tensors: &mut [TensorInfo], data_start: u64, file_bytes: u64) -> Result<(), GgufError> {
    let mut names = HashSet::new();
    for tensor in tensors.iter_mut() {
        if !names.insert(tensor.name.as_str()) {
            return Err(GgufError::DuplicateTensor(tensor.name.clone()));
        }
        let end = data_start
            .checked_add(tensor.offset)
            .inspect(|&offset| tensor.offset = offset)
            .and_then(|offset| offset.checked_add(tensor.bytes.unwrap_or(1)))
            .unwrap_or(u64::MAX);
        if end > file_bytes {
            return Err(GgufError::Outside { tensor: tensor.name.clone(), end, file_bytes });
        }
    }
    let mut by_offset: Vec<&TensorInfo> = tensors.iter().collect();
    by_offset.sort_unstable_by_key(|tensor| tensor.offset);
    for pair in by_offset.windows(2) {
        if pair[0].offset + pair[0].bytes.unwrap_or(1) > pair[1].offset {
            return Err(GgufError::Overlap {
                first: pair[0].name.clone(),
                second: pair[1].name.clone(),
                at: pair[1].offset,
            });
        }
    }
    Ok(())
}

/// Reads forward and knows how much there can still be.
struct Reader<R> {
    source: R,
    at: u64,
    file_bytes: u64,
}

impl<R: Read> Reader<R> {
    /// Fails unless `needed` bytes can still come. Called before every allocation.
    fn expect(&self, what: &'static str, needed: u64) -> Result<(), GgufError> {
        if needed > self.file_bytes.saturating_sub(self.at) {
            return Err(GgufError::Truncated { what, at: self.at, needed, file_bytes: self.file_bytes });
        }
        if needed > MAX_HEADER_BYTES.saturating_sub(self.at) {
            return Err(GgufError::HeaderTooLarge { what, at: self.at, needed });
        }
        Ok(())
    }

    fn fill(&mut self, what: &'static str, into: &mut [u8]) -> Result<(), GgufError> {
        let needed = into.len() as u64;
        self.expect(what, needed)?;
        self.source.read_exact(into).map_err(|source| match source.kind() {
            // The file shrank under us.
            io::ErrorKind::UnexpectedEof => {
                GgufError::Truncated { what, at: self.at, needed, file_bytes: self.file_bytes }
            }
            _ => GgufError::Io { path: what.into(), source },
        })?;
        self.at += needed;
        Ok(())
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        self.fill(what, &mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn count(&mut self, what: &'static str, most: u64) -> Result<u64, GgufError> {
        let found = self.u64(what)?;
        if found > most {
            return Err(GgufError::Bound { what, found, most });
        }
        Ok(found)
    }

    fn bytes(&mut self, what: &'static str, length: u64) -> Result<Vec<u8>, GgufError> {
        self.expect(what, length)?;
        let mut bytes = vec![0; length as usize];
        self.fill(what, &mut bytes)?;
        Ok(bytes)
    }

    fn text(&mut self, what: &'static str, most: u64) -> Result<String, GgufError> {
        let length = self.count(what, most)?;
        let at = self.at;
        String::from_utf8(self.bytes(what, length)?).map_err(|_| GgufError::Text { what, at })
    }

    fn value(&mut self, key: &str) -> Result<Value, GgufError> {
        match self.value_type(key)? {
            ValueType::Text => Ok(Value::Text(self.text("a metadata text", MAX_HEADER_BYTES)?)),
            ValueType::Array => self.elements(key),
            kind => {
                let mut bytes = [0; 8];
                let bytes = &mut bytes[..kind.bytes().unwrap_or(8)];
                self.fill("a metadata value", bytes)?;
                check_bools(key, kind, bytes)?;
                kind.decode(bytes).ok_or(GgufError::ValueType { key: key.to_owned(), number: kind as u32 })
            }
        }
    }

    fn value_type(&mut self, key: &str) -> Result<ValueType, GgufError> {
        let number = self.u32("a value type")?;
        ValueType::from_number(number).ok_or_else(|| GgufError::ValueType { key: key.to_owned(), number })
    }

    fn elements(&mut self, key: &str) -> Result<Value, GgufError> {
        let element = self.value_type(key)?;
        let count = self.count("the length of an array", MAX_HEADER_BYTES)?;
        match element {
            ValueType::Array => Err(GgufError::NestedArray { key: key.to_owned() }),
            ValueType::Text => {
                // Each text takes at least the eight bytes of its length.
                self.expect("an array of texts", count.saturating_mul(8))?;
                let mut texts = Strings::default();
                for _ in 0..count {
                    texts.push(&self.text("a text of an array", MAX_HEADER_BYTES)?);
                }
                Ok(Value::Texts(texts))
            }
            number => {
                let length = count.saturating_mul(number.bytes().unwrap_or(8) as u64);
                let bytes = self.bytes("an array", length)?;
                check_bools(key, number, &bytes)?;
                Ok(Value::Array(Array::new(number, bytes)))
            }
        }
    }

    fn tensor(&mut self, alignment: u64) -> Result<TensorInfo, GgufError> {
        let name = self.text("a tensor's name", MAX_NAME_BYTES)?;
        let dim_count = self.u32("a tensor's number of dimensions")?;
        if dim_count as usize > MAX_DIMS {
            return Err(GgufError::Bound {
                what: "a tensor's number of dimensions",
                found: dim_count.into(),
                most: MAX_DIMS as u64,
            });
        }
        let dims = (0..dim_count).map(|_| self.u64("a tensor's shape")).collect::<Result<Vec<_>, _>>()?;
        let encoding = Encoding(self.u32("a tensor's type")?);
        let offset = self.u64("a tensor's offset")?;
        if !offset.is_multiple_of(alignment) {
            return Err(GgufError::Misaligned { tensor: name, offset, alignment });
        }
        let bytes = TensorInfo::measure(&name, &dims, encoding)?;
        Ok(TensorInfo { name, dims, encoding, offset, bytes })
    }
}

fn check_bools(key: &str, kind: ValueType, bytes: &[u8]) -> Result<(), GgufError> {
    match bytes.iter().find(|&&byte| byte > 1) {
        Some(&value) if kind == ValueType::Bool => Err(GgufError::Bool { key: key.to_owned(), value }),
        _ => Ok(()),
    }
}
