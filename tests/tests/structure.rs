//! The rules of the tree: who may depend on whom, what may not be depended on, and what stands at the top.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the tree fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// What each member may use of the others, outside its tests.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("far-mesh-core", &[]),
    ("far-ledger", &[]),
    ("far-mesh-client", &[]),
    ("far-mesh-node", &["far-mesh-core", "far-ledger", "far-mesh-client"]),
    ("far-mesh-python", &["far-mesh-client", "far-mesh-core"]),
    ("far-mesh-napi", &["far-mesh-client", "far-mesh-core"]),
    ("far-mesh-examples", &["far-mesh-core", "far-ledger", "far-mesh-client"]),
    ("far-mesh-tests", &["far-mesh-core", "far-ledger", "far-mesh-client", "far-mesh-node"]),
];

/// Crates that must not be in the tree, with the reason; a version is a prefix.
const BANS: &[(&str, &str, &str)] = &[
    ("openssl", "", "one TLS stack: rustls"),
    ("openssl-sys", "", "one TLS stack: rustls"),
    ("native-tls", "", "one TLS stack: rustls"),
    ("ring", "0.16.", "unmaintained"),
    ("ethers-providers", "", "brings reqwest 0.11 and ring 0.16"),
    ("ethers-contract", "", "brings reqwest 0.11 and ring 0.16"),
    ("ethers-middleware", "", "brings reqwest 0.11 and ring 0.16"),
];

/// Words that the files under a folder of far-mesh-core must not use.
const BLIND: &[(&str, &[&str])] = &[
    ("peer", &["burn", "crate::kernel", "crate::model", "crate::shard"]),
    ("route", &["burn", "tokio", "Instant::now", "SystemTime::now", "crate::kernel", "crate::model", "crate::shard"]),
    ("model", &["libp2p", "tokio", "crate::peer", "crate::route", "crate::session", "crate::shard"]),
    ("kernel", &["libp2p", "tokio", "crate::peer", "crate::route", "crate::session", "crate::shard", "crate::model"]),
    ("receipt", &["burn", "tokio", "Instant::now", "SystemTime::now", "crate::kernel", "crate::peer", "crate::shard"]),
    ("session", &["burn", "crate::peer", "crate::kernel", "crate::model", "crate::shard"]),
];

/// What stands at the top, dotfiles aside.
const TOP: &[&str] = &[
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "bindings",
    "clippy.toml",
    "deny.toml",
    "examples",
    "far-ledger",
    "far-mesh-client",
    "far-mesh-core",
    "far-mesh-node",
    "tests",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(root().join("Cargo.toml")).other_options(["--locked".into()]).exec().unwrap()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Whether a file holds unit tests alone: `tests.rs`, `plan_tests.rs`, or whatever stands in a folder `tests`.
fn is_tests(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem == "tests" || stem.ends_with("_tests") || path.parent().is_some_and(|folder| folder.ends_with("tests"))
}

/// The lines of a file before its unit tests, without comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    lines.map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Whether `word` stands in `text` as a path or name of its own.
fn uses(text: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(is_name) && !text[at + word.len()..].starts_with(is_name))
}

#[test]
fn members_depend_one_way() {
    let metadata = metadata();
    let members: BTreeMap<_, _> = metadata.workspace_packages().into_iter().map(|p| (p.name.to_string(), p)).collect();
    let ruled: BTreeSet<_> = DIRECTIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(members.keys().cloned().collect::<BTreeSet<_>>(), ruled, "every member has its line in DIRECTIONS");
    for (name, allowed) in DIRECTIONS {
        for dependency in &members[*name].dependencies {
            let inner = members.contains_key(&dependency.name) && dependency.kind != DependencyKind::Development;
            assert!(
                !inner || allowed.contains(&dependency.name.as_str()),
                "{name} may not depend on {}",
                dependency.name
            );
        }
    }
}

#[test]
fn banned_crates_are_absent() {
    for package in &metadata().packages {
        for (name, version, reason) in BANS {
            assert!(
                package.name.as_str() != *name || !package.version.to_string().starts_with(version),
                "{name} {} is banned: {reason}",
                package.version
            );
        }
    }
    let deny = fs::read_to_string(root().join("deny.toml")).unwrap();
    for (name, ..) in BANS {
        assert!(deny.contains(&format!("crate = \"{name}")), "deny.toml does not ban {name}");
    }
}

#[test]
fn dependencies_are_declared_once() {
    for package in metadata().workspace_packages() {
        let manifest = fs::read_to_string(&package.manifest_path).unwrap();
        let mut inside = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                inside = line.ends_with("dependencies]");
            } else if inside && !line.trim().is_empty() && !line.starts_with('#') {
                assert!(
                    line.contains("workspace = true"),
                    "{}: {line:?} is not in the workspace's table",
                    package.name
                );
            }
        }
    }
}

#[test]
fn modules_do_not_see_what_they_must_not() {
    for (folder, words) in BLIND {
        let files = rust_files(&root().join("far-mesh-core/src").join(folder));
        assert!(!files.is_empty());
        for file in files.into_iter().filter(|file| !is_tests(file)) {
            let text = code(&file);
            for word in *words {
                assert!(!uses(&text, word), "{} uses {word}", file.display());
            }
        }
    }
}

#[test]
fn unsafe_stands_only_in_the_kernels() {
    for member in ["far-mesh-core", "far-ledger", "far-mesh-client", "far-mesh-node", "examples"] {
        for file in rust_files(&root().join(member)) {
            let kernel = file.starts_with(root().join("far-mesh-core/src/kernel"));
            assert!(kernel || !uses(&code(&file), "unsafe"), "{} has unsafe code", file.display());
        }
    }
}

#[test]
fn the_top_holds_what_it_should() {
    let output = std::process::Command::new("git").args(["ls-files"]).current_dir(root()).output().unwrap();
    if !output.status.success() {
        eprintln!("not a git checkout: the top is not checked");
        return;
    }
    let files = String::from_utf8(output.stdout).unwrap();
    let top: BTreeSet<_> = files.lines().filter_map(|f| f.split('/').next()).filter(|f| !f.starts_with('.')).collect();
    assert_eq!(top, TOP.iter().copied().collect());
}

#[test]
fn the_word_matcher_tells_names_apart() {
    assert!(uses("use burn::tensor", "burn") && uses("(burn)", "burn"));
    assert!(!uses("burned", "burn") && !uses("auburn", "burn"));
}
