//! Harness of the tests that cross crates: the program, a model, a mesh of processes that ends with its test.

pub mod crowd;
mod mesh;

use std::path::PathBuf;

pub use mesh::Testnet;

/// The program `far-mesh` that was built beside this test.
///
/// # Panics
/// When it is not there.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_else(|error| panic!("this test has no file: {error}"));
    let folder = test.ancestors().nth(2).unwrap_or_else(|| panic!("{} is not in deps/", test.display()));
    let program = folder.join(format!("far-mesh{}", std::env::consts::EXE_SUFFIX));
    assert!(program.is_file(), "{} is missing: run `cargo build --release --workspace` first", program.display());
    program
}

/// The model that tests run, SmolLM2-135M-Instruct in Q4_1.
///
/// # Panics
/// When `FAR_MESH_TEST_MODEL` does not name it.
pub fn model() -> PathBuf {
    let path = std::env::var_os("FAR_MESH_TEST_MODEL").map(PathBuf::from);
    match path {
        Some(path) if path.is_file() => path,
        other => {
            panic!("FAR_MESH_TEST_MODEL must name the model file, it is {other:?}: tests/run fetches it and sets it")
        }
    }
}
