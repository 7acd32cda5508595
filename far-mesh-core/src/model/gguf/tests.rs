//! What a hostile or damaged file can do to the reader: nothing.

use proptest::prelude::*;

use super::*;
use crate::model::{
    ModelConfig, Source,
    testing::{GgufWriter, TinyLlama},
};

/// A small file with an entry of every kind; its bytes and how many of them are header.
fn sample() -> (Vec<u8>, usize) {
    GgufWriter::default()
        .u32("general.alignment", 32)
        .entry("u8", 0, &[200])
        .entry("i8", 1, &[200])
        .entry("u64", 10, &u64::MAX.to_le_bytes())
        .entry("f64", 12, &0.5f64.to_le_bytes())
        .f32("f32", 1.5)
        .bool("yes", true)
        .text("text", "grüße")
        .texts("texts", ["", "a", "ü€"])
        .i32s("ints", &[-1, 2])
        .f32s("floats", &[0.25, -3.0])
        .tensor("a", &[32, 2], 3, vec![1; 40])
        .tensor("strange", &[7], 999, vec![2; 32])
        .tensor("b", &[3, 1, 2], 0, (0..24).collect())
        .finish()
}

fn read(bytes: &[u8]) -> Result<Header, GgufError> {
    Header::read(bytes, bytes.len() as u64)
}

fn read_changed(change: impl FnOnce(GgufWriter) -> GgufWriter) -> GgufError {
    read(&change(GgufWriter::default()).finish().0).unwrap_err()
}

#[test]
fn entries_and_tensors_are_read() {
    let (bytes, _) = sample();
    for version in [2u32, 3] {
        let mut bytes = bytes.clone();
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
        let Header { metadata: m, tensors, .. } = read(&bytes).unwrap();
        assert_eq!((m.u64("u8"), m.get("i8"), m.u64("u64")), (Ok(200), Some(&Value::Signed(-56)), Ok(u64::MAX)));
        assert_eq!(
            (m.f32("f32"), m.f32("f64"), m.bool("yes"), m.str("text")),
            (Ok(1.5), Ok(0.5), Ok(true), Ok("grüße"))
        );
        assert_eq!(m.strings("texts").unwrap().iter().collect::<Vec<_>>(), ["", "a", "ü€"]);
        assert_eq!((m.i32s("ints"), m.f32s("floats")), (Ok(vec![-1, 2]), Ok(vec![0.25, -3.0])));
        assert_eq!((tensors[0].bytes, tensors[1].bytes, tensors[2].bytes), (Some(40), None, Some(24)));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sample.gguf");
    std::fs::write(&path, &bytes).unwrap();
    let file = File::open(&path).unwrap();
    let mut got = vec![9];
    file.read(file.tensor("b").unwrap(), &mut got).unwrap();
    assert_eq!((got.len(), got[1], file.bytes_read()), (25, 0, 24));
    assert_eq!(got[1..], (0..24).collect::<Vec<u8>>());
    let error = file.read(file.tensor("strange").unwrap(), &mut got).unwrap_err();
    assert!(error.to_string().contains("type 999"), "{error}");
    assert!(matches!(file.tensor("c"), Err(GgufError::MissingTensor(_))));

    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(bytes.len() as u64 - 1).unwrap();
    assert!(matches!(file.read(file.tensor("b").unwrap(), &mut got), Err(GgufError::Outside { .. })));
    assert_eq!(got.len(), 25);
}

#[test]
fn getters_name_the_key_and_the_type_found() {
    let metadata = read(&sample().0).unwrap().metadata;
    let error = metadata.u64("text").unwrap_err().to_string();
    assert!(error.contains("\"text\"") && error.contains("is a text") && error.contains("integer"), "{error}");
    assert!(metadata.u64("i8").is_err(), "a negative number is no count");
    assert!(metadata.f32s("ints").is_err() && metadata.i32s("floats").is_err() && metadata.strings("ints").is_err());
    assert_eq!(metadata.str("no"), Err(MetadataError::Missing { key: "no".into() }));
}

#[test]
fn what_is_wrong_is_named() {
    use GgufError as E;
    let one = |w: GgufWriter| w.tensor("t", &[32], 8, vec![0; 34]);
    assert!(matches!(read(b"PK\x03\x04 and more"), Err(E::Magic(magic)) if &magic == b"PK\x03\x04"));
    assert!(matches!(read_changed(|w| w.version(1)), E::Version(1)));
    assert!(matches!(read_changed(|w| w.version(3u32.swap_bytes())), E::BigEndian));
    assert!(matches!(read_changed(|w| w.u32("k", 1).u32("k", 1)), E::DuplicateKey(_)));
    assert!(matches!(read_changed(|w| one(one(w))), E::DuplicateTensor(_)));
    assert!(matches!(read_changed(|w| w.entry("k", 13, &[])), E::ValueType { number: 13, .. }));
    assert!(matches!(read_changed(|w| w.entry("k", 7, &[2])), E::Bool { value: 2, .. }));
    assert!(matches!(read_changed(|w| w.entry("k", 8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xff])), E::Text { .. }));
    let nested = [9u32.to_le_bytes().as_slice(), &[0; 8]].concat();
    assert!(matches!(read_changed(|w| w.entry("k", 9, &nested)), E::NestedArray { .. }));
    assert!(matches!(read_changed(|w| w.u32("general.alignment", 48)), E::Alignment(48)));
    assert!(matches!(read_changed(|w| w.tensor("t", &[], 0, vec![])), E::Shape { .. }));
    assert!(matches!(read_changed(|w| w.tensor("t", &[1, 1, 1, 1, 1], 0, vec![0; 4])), E::Bound { found: 5, .. }));
    assert!(matches!(read_changed(|w| w.tensor("t", &[4, 0], 0, vec![])), E::Shape { .. }));
    assert!(matches!(read_changed(|w| w.tensor("t", &[33], 8, vec![0; 68])), E::Shape { .. }));
    assert!(matches!(read_changed(|w| w.tensor("t", &[1 << 40, 1 << 40], 0, vec![])), E::Shape { .. }));
    assert!(matches!(read_changed(|w| w.tensor("t", &[1 << 62], 0, vec![])), E::Shape { .. } | E::Outside { .. }));
    let short = read_changed(|w| w.tensor("t", &[64], 8, vec![0; 34]));
    assert!(short.to_string().contains("truncated: tensor \"t\" ends at byte"), "{short}");
    let overlap = read_changed(|w| w.tensor("a", &[64], 0, vec![0; 32]).tensor("b", &[64], 0, vec![0; 256]));
    assert!(matches!(overlap, E::Overlap { .. }), "{overlap}");
}

/// Lengths and counts far beyond the file: an allocation of that size would end the test.
#[test]
fn huge_lengths_are_refused_before_anything_is_allocated() {
    for huge in [u64::MAX, u64::MAX / 8, 1 << 60, 1 << 40, 1 << 28] {
        let huge = huge.to_le_bytes();
        assert!(matches!(
            read_changed(|w| w.entry("k", 8, &huge)),
            GgufError::Bound { .. } | GgufError::Truncated { .. }
        ));
        for element in [0u32, 5, 8, 10] {
            let array = [element.to_le_bytes().as_slice(), &huge].concat();
            let error = read_changed(|w| w.entry("k", 9, &array));
            assert!(matches!(error, GgufError::Bound { .. } | GgufError::Truncated { .. }), "{error}");
        }
        for at in [8, 16, 24] {
            let mut bytes = sample().0;
            bytes[at..at + 8].copy_from_slice(&huge);
            assert!(matches!(read(&bytes), Err(GgufError::Bound { .. } | GgufError::Truncated { .. })));
        }
    }
}

#[test]
fn every_truncation_of_the_header_is_an_error() {
    let (bytes, header) = sample();
    for length in 0..bytes.len() {
        let error = read(&bytes[..length]).unwrap_err();
        let expected = match length {
            _ if length < header => matches!(error, GgufError::Truncated { .. }),
            _ => matches!(error, GgufError::Outside { .. }),
        };
        assert!(expected, "{length} of {} bytes: {error}", bytes.len());
    }
}

/// A damaged header either is refused or still describes tensors inside the file, apart from each other.
fn check_damaged(bytes: &[u8]) {
    let Ok(header) = read(bytes) else { return };
    let mut ends: Vec<(u64, u64)> =
        header.tensors.iter().map(|tensor| (tensor.offset, tensor.offset + tensor.bytes.unwrap_or(1))).collect();
    ends.sort_unstable();
    assert!(ends.iter().all(|&(_, end)| end <= bytes.len() as u64));
    assert!(ends.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    assert!(header.metadata.iter().all(|(_, value)| match value {
        Value::Texts(texts) => texts.iter().count() == texts.len(),
        Value::Array(array) => array.iter().count() == array.len(),
        _ => true,
    }));
}

#[test]
fn every_bit_of_the_header_may_flip() {
    let (mut bytes, header) = sample();
    for bit in 0..header * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        check_damaged(&bytes);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_model_with_any_flipped_bit_is_refused_or_still_whole() {
    let model = TinyLlama { layers: 1, vocabulary: 16, ..TinyLlama::default() };
    let (mut bytes, header) = model.writer().finish();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    for bit in 0..header * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        check_damaged(&bytes);
        // Through the file system now and then: it is slow.
        if bit % 13 == 0 {
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(config) = Source::open(&path).map_err(|_| ()).and_then(|f| ModelConfig::read(&f).map_err(|_| ()))
            {
                assert!(config.attention.heads.is_multiple_of(config.attention.kv_heads));
            }
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

proptest! {
    #[test]
    fn any_bytes_may_replace_any_part(at in 0usize..600, with in prop::collection::vec(any::<u8>(), 0..24)) {
        let (mut bytes, _) = sample();
        let at = at.min(bytes.len());
        let end = (at + with.len()).min(bytes.len());
        bytes.splice(at..end, with);
        check_damaged(&bytes);
    }

    #[test]
    fn any_bytes_may_come(tail in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(tail);
        check_damaged(&bytes);
    }
}

/// The same for the header of a real model, where one is named: a sample of bits and lengths.
#[test]
fn a_real_header_may_be_damaged_too() {
    let Some(path) = std::env::var_os("FAR_MESH_TEST_MODEL") else { return };
    let header = File::open(&path).unwrap().header_bytes();
    let file_bytes = std::fs::metadata(&path).unwrap().len();
    let mut bytes = vec![0; header as usize];
    std::io::Read::read_exact(&mut std::fs::File::open(&path).unwrap(), &mut bytes).unwrap();
    assert!(Header::read(bytes.as_slice(), file_bytes).is_ok());
    for length in (0..bytes.len() as u64).step_by(bytes.len() / 40) {
        assert!(Header::read(bytes.as_slice(), length).is_err());
    }
    for i in 0..60 {
        // Most of the header is vocabulary; the first kilobyte and the table of tensors are what matters.
        let bit = if i % 2 == 0 { i * 131 } else { bytes.len() * 8 - 1 - i * 1987 };
        bytes[bit / 8] ^= 1 << (bit % 8);
        let _ = Header::read(bytes.as_slice(), file_bytes);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}
