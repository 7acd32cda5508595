//! Keys on disk: who a node is, and which private mesh it belongs to.
//!
//! A node's key is a libp2p ed25519 key in its protobuf form; a mesh key has the text form every libp2p
//! implementation reads (`/key/swarm/psk/1.0.0/`). Both are secrets: files are made with mode 0600, and one that others
//! can read is refused.

use std::{
    fs, io,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use libp2p::{identity::Keypair, pnet::PreSharedKey};

/// Longest key file that is read: both forms take less than 200 bytes.
const MAX_KEY_FILE_BYTES: u64 = 4096;

/// First and second line of a mesh key file.
const PSK_LINES: [&str; 2] = ["/key/swarm/psk/1.0.0/", "/base16/"];

/// Why a key cannot be read or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file system said no.
    #[error("cannot {action} key file {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others can read the secret.
    #[error("key file {path} has mode {mode:03o}, others can read it: run chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is not a node key.
    #[error("{path} is not a node key: {reason}; move it away to have a new one made")]
    NotANodeKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file is not a mesh key.
    #[error("{path} is not a mesh key: {reason}; it must have the lines {}, {} and 64 hexadecimal digits", PSK_LINES[0], PSK_LINES[1])]
    NotAMeshKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

/// The node key in `path`; made there when the file does not exist.
///
/// # Errors
/// [`KeyError`] when the file cannot be read or written, is exposed, or holds something else.
pub fn load_or_create(path: &Path) -> Result<Keypair, KeyError> {
    match read_secret(path) {
        Ok(bytes) => parse_node_key(path, &bytes),
        Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let key = Keypair::generate_ed25519();
            let bytes = key
                .to_protobuf_encoding()
                .map_err(|error| KeyError::NotANodeKey { path: path.into(), reason: error.to_string() })?;
            if create_secret(path, &bytes)? { Ok(key) } else { parse_node_key(path, &read_secret(path)?) }
        }
        Err(error) => Err(error),
    }
}

/// The mesh key in `path`.
///
/// # Errors
/// [`KeyError`] when the file cannot be read, is exposed, or holds something else.
pub fn load_psk(path: &Path) -> Result<PreSharedKey, KeyError> {
    let bytes = read_secret(path)?;
    let not = |reason| KeyError::NotAMeshKey { path: path.into(), reason };
    let text = std::str::from_utf8(&bytes).map_err(|_| not("it is not text"))?;
    parse_psk(text).map_err(not)
}

/// The mesh key in `path`; made there when the file does not exist.
///
/// # Errors
/// As [`load_psk`], and when the file cannot be written.
pub fn load_or_create_psk(path: &Path) -> Result<PreSharedKey, KeyError> {
    match load_psk(path) {
        Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let psk = generate_psk();
            if create_secret(path, psk.to_key_file().as_bytes())? { Ok(psk) } else { load_psk(path) }
        }
        other => other,
    }
}

/// A fresh mesh key of 256 random bits.
pub fn generate_psk() -> PreSharedKey {
    PreSharedKey::new(rand::random())
}

/// Reads the text form of a mesh key.
///
/// Not `PreSharedKey::from_str`: that slices the digits by bytes and panics on text that is not ASCII.
fn parse_psk(text: &str) -> Result<PreSharedKey, &'static str> {
    let mut lines = text.lines().map(str::trim_end);
    if [lines.next(), lines.next()] != PSK_LINES.map(Some) {
        return Err("its first two lines differ");
    }
    let mut key = [0; 32];
    hex::decode_to_slice(lines.next().unwrap_or_default(), &mut key)
        .map_err(|_| "its third line is not 64 hexadecimal digits")?;
    Ok(PreSharedKey::new(key))
}

fn parse_node_key(path: &Path, bytes: &[u8]) -> Result<Keypair, KeyError> {
    let not = |reason: String| KeyError::NotANodeKey { path: path.into(), reason };
    let key = Keypair::from_protobuf_encoding(bytes)
        .map_err(|error| not(format!("its {} bytes do not decode ({error})", bytes.len())))?;
    match key.key_type() {
        libp2p::identity::KeyType::Ed25519 => Ok(key),
        other => Err(not(format!("it is a {other} key, nodes have ed25519"))),
    }
}

fn read_secret(path: &Path) -> Result<Vec<u8>, KeyError> {
    let io = |source| KeyError::Io { action: "read", path: path.into(), source };
    let file = fs::File::open(path).map_err(io)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.into(), mode });
        }
    }
    let mut bytes = Vec::new();
    file.take(MAX_KEY_FILE_BYTES).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

/// Writes a whole new file that only its owner can read; `false` when somebody else made it meanwhile.
///
/// A crash leaves either nothing or the whole key: the bytes are written beside it and then linked into place.
fn create_secret(path: &Path, bytes: &[u8]) -> Result<bool, KeyError> {
    let io = |source| KeyError::Io { action: "write", path: path.into(), source };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(io)?;
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{:016x}", rand::random::<u64>()));
    let draft = PathBuf::from(draft);
    let written = write_draft(&draft, bytes).and_then(|()| match fs::hard_link(&draft, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    });
    // The link holds the key now; a draft that stays behind is only untidy.
    let _ = fs::remove_file(&draft);
    written.map_err(io)
}

fn write_draft(draft: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(draft)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_key_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/node.key");
        let made = load_or_create(&path).unwrap();
        assert_eq!(load_or_create(&path).unwrap().public(), made.public());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft stays behind");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            let error = load_or_create(&path).unwrap_err();
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_broken_node_key_is_refused_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        let good = Keypair::generate_ed25519().to_protobuf_encoding().unwrap();
        for bytes in [&b""[..], b"hello", &good[..good.len() - 1]] {
            let _ = fs::remove_file(&path);
            create_secret(&path, bytes).unwrap();
            assert!(matches!(load_or_create(&path), Err(KeyError::NotANodeKey { .. })), "{bytes:?}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn a_mesh_key_survives_its_file_and_bad_ones_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mesh.psk");
        assert!(matches!(load_psk(&path), Err(KeyError::Io { .. })), "an absent key is not made by reading");
        let made = load_or_create_psk(&path).unwrap();
        assert!(load_psk(&path).unwrap() == made && load_or_create_psk(&path).unwrap() == made);
        let text = made.to_key_file();
        assert!(parse_psk(&text.replace('\n', "\r\n")).unwrap() == made);
        for bad in ["", "/key/swarm/psk/1.0.0/\n/base16/\n", &text[..60], &text.replace("psk", "pks")] {
            assert!(parse_psk(bad).is_err(), "{bad:?}");
        }
        let not_ascii = format!("{}\n{}\n{}\n", PSK_LINES[0], PSK_LINES[1], "é".repeat(32));
        assert!(parse_psk(&not_ascii).is_err());
    }
}
