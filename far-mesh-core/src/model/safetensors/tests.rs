//! Sane and damaged checkpoints.

use std::{fs, path::Path};

use proptest::prelude::*;

use super::*;
use crate::kernel::Format;

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn entry(name: &str, dtype: &str, shape: &str, start: u64, end: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{end}]}}"#)
}

fn good() -> Vec<u8> {
    let (a, b) = (entry("a", "BF16", "[2,3]", 0, 12), entry("b", "I64", "[1]", 12, 20));
    file(&format!(r#"{{"__metadata__":{{"format":"pt"}},{a},{b}}}"#), &(0..20).collect::<Vec<u8>>())
}

fn open(bytes: &[u8]) -> Result<Checkpoint, SafetensorsError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.safetensors");
    fs::write(&path, bytes).unwrap();
    Checkpoint::open(path)
}

fn read(checkpoint: &Checkpoint, name: &str) -> Vec<u8> {
    let mut bytes = vec![];
    checkpoint.read(checkpoint.tensor(name).unwrap(), &mut bytes).unwrap();
    bytes
}

#[test]
fn a_tensor_is_read_and_nothing_else() {
    let checkpoint = open(&good()).unwrap();
    let a = checkpoint.tensor("a").unwrap();
    assert_eq!((a.shape.as_slice(), a.format().unwrap(), checkpoint.bytes_read()), (&[2, 3][..], Format::BF16, 0));
    assert_eq!((read(&checkpoint, "a"), checkpoint.bytes_read()), ((0..12).collect(), 12));
    let unsupported = checkpoint.tensor("b").unwrap().format().unwrap_err().to_string();
    assert!(unsupported.contains("I64") && unsupported.contains("BF16"), "{unsupported}");
    assert!(matches!(checkpoint.tensor("c"), Err(SafetensorsError::MissingTensor(name)) if name == "c"));
}

#[test]
fn an_index_joins_the_files_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(Path::join(dir.path(), name), bytes).unwrap();
    put("1.safetensors", &file(&format!("{{{}}}", entry("a", "F16", "[1]", 0, 2)), &[1, 2]));
    put("2.safetensors", &file(&format!("{{{}}}", entry("b", "F16", "[1]", 0, 2)), &[3, 4]));
    let index = |map: &str| {
        put("model.safetensors.index.json", format!(r#"{{"weight_map":{{{map}}}}}"#).as_bytes());
        Checkpoint::open(dir.path())
    };
    let checkpoint = index(r#""a":"1.safetensors","b":"2.safetensors""#).unwrap();
    assert_eq!((read(&checkpoint, "a"), read(&checkpoint, "b")), (vec![1, 2], vec![3, 4]));
    assert!(matches!(index(r#""c":"1.safetensors""#), Err(SafetensorsError::MissingTensor(_))));
    for outside in ["../1.safetensors", "/etc/passwd", "", ".", "x/1.safetensors"] {
        assert!(matches!(index(&format!(r#""a":"{outside}""#)), Err(SafetensorsError::Outside { .. })), "{outside}");
    }
    put("2.safetensors", &file(&format!("{{{}}}", entry("a", "F16", "[1]", 0, 2)), &[3, 4]));
    let twice = index(r#""a":"1.safetensors","b":"2.safetensors""#).unwrap_err().to_string();
    assert!(twice.contains("1.safetensors") && twice.contains("2.safetensors"), "{twice}");
}

#[test]
fn what_is_damaged_is_named() {
    let says = |bytes: &[u8], words: &[&str]| {
        let error = open(bytes).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    let one = |entry: String, data: &[u8]| file(&format!("{{{entry}}}"), data);
    says(&[], &["0 bytes"]);
    says(&u64::MAX.to_le_bytes(), &["18446744073709551615", "the file 8"]);
    says(&file("[]", &[]), &["damaged"]);
    says(&one(entry("a", "F32", "[2]", 0, 8), &[0; 7]), &["\"a\"", "0 to 8 of 7"]);
    says(&one(entry("a", "F32", "[2]", 8, 0), &[0; 8]), &["8 to 0"]);
    says(&one(entry("a", "F32", "[3]", 0, 8), &[0; 8]), &["[3]", "8 bytes"]);
    says(&one(entry("a", "F32", "[4611686018427387905,4]", 0, 8), &[0; 8]), &["8 bytes"]);
    let (a, b) = (entry("a", "F16", "[2]", 0, 4), entry("b", "F16", "[2]", 2, 6));
    says(&one(format!("{a},{b}"), &[0; 6]), &["\"b\"", "overlaps \"a\""]);
    says(&one(format!("{a},{a}"), &[0; 4]), &["twice"]);
}

proptest! {
    #[test]
    fn mutated_files_never_panic(at in 0usize..200, value: u8, length in 0usize..220) {
        let mut bytes = good();
        bytes.truncate(length);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        if let Ok(checkpoint) = open(&bytes) {
            for tensor in checkpoint.tensors() {
                let mut data = vec![];
                checkpoint.read(tensor, &mut data).unwrap();
                prop_assert_eq!(data.len() as u64, tensor.bytes);
            }
        }
    }
}
