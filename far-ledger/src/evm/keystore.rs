//! Keys in encrypted files: the Web3 secret storage, version 3, that geth, foundry and others write.

use std::{
    fmt, fs,
    io::Read,
    path::{Path, PathBuf},
};

use ethers_core::rand::thread_rng;
use ethers_signers::{LocalWallet, WalletError};
use serde_json::Value;

use crate::evm::signer::LocalSigner;

/// A keystore takes half a kilobyte, a password less.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Most memory that deriving the key may take, in bytes: four times what geth's own strength takes (n = 2^18, r = 8).
const MAX_KDF_BYTES: u64 = 1 << 30;

/// Most rounds of PBKDF2, forty times what is usual.
const MAX_KDF_ROUNDS: u64 = 10_485_760;

/// Why a key cannot be had from a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeystoreError {
    /// A file cannot be read or written.
    #[error("{} cannot be read or written: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a keystore.
    #[error("{} is not a keystore of version 3: its {what} is wrong", .path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The password is another one.
    #[error("the password does not open the keystore {}", .path.display())]
    Password {
        /// The file.
        path: PathBuf,
    },
    /// The environment names no password.
    #[error("the environment variable {name} holds no password: set it, or name a password file")]
    NoPassword {
        /// The variable.
        name: String,
    },
}

/// Where a password comes from: never from the command line, which every process of the machine can read.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// The first line of a file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// What somebody typed where nobody else saw it.
    Typed(String),
}

impl Password {
    fn read(&self) -> Result<String, KeystoreError> {
        match self {
            Self::File(path) => {
                let text = read(path)?;
                Ok(text.lines().next().unwrap_or_default().to_owned())
            }
            Self::Env(name) => std::env::var(name)
                .ok()
                .filter(|password| !password.is_empty())
                .ok_or_else(|| KeystoreError::NoPassword { name: name.clone() }),
            Self::Typed(password) => Ok(password.clone()),
        }
    }
}

/// The place, never the password.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "Password in {}", path.display()),
            Self::Env(name) => write!(f, "Password in ${name}"),
            Self::Typed(_) => f.write_str("Password typed"),
        }
    }
}

impl LocalSigner {
    /// The key in a keystore. Takes a second or so, on purpose: call it where blocking is allowed.
    ///
    /// # Errors
    /// [`KeystoreError`]; a file that asks for more memory or time than any keystore needs is refused too.
    pub fn open(path: &Path, password: &Password) -> Result<Self, KeystoreError> {
        check(path, &read(path)?)?;
        let opened = LocalWallet::decrypt_keystore(path, password.read()?);
        opened.map(Self::from_wallet).map_err(|error| failed(path, error))
    }

    /// Draws a key and writes it to a keystore at `path`, where nothing may be yet.
    ///
    /// # Errors
    /// [`KeystoreError`].
    pub fn create(path: &Path, password: &Password) -> Result<Self, KeystoreError> {
        let file = |source| KeystoreError::File { path: path.to_owned(), source };
        let password = password.read()?;
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| file(std::io::ErrorKind::InvalidInput.into()))?;
        // Made here and empty, for its owner alone, so that nothing is written over and nobody else ever reads it.
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path).map_err(file)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let made = LocalWallet::new_keystore(folder, &mut thread_rng(), password, Some(name));
        made.map(|(wallet, _)| Self::from_wallet(wallet)).map_err(|error| {
            // Half a keystore is none; what stays of it must not stand in the way of the next try.
            let _ = fs::remove_file(path);
            failed(path, error)
        })
    }
}

fn read(path: &Path) -> Result<String, KeystoreError> {
    let file = |source| KeystoreError::File { path: path.to_owned(), source };
    let mut text = String::new();
    let bounded = fs::File::open(path).map_err(file)?.take(MAX_FILE_BYTES);
    { bounded }.read_to_string(&mut text).map_err(file)?;
    Ok(text)
}

/// What the crate that decrypts does not look at: it would allocate, compute or index without a bound.
fn check(path: &Path, text: &str) -> Result<(), KeystoreError> {
    let form = |what| Err(KeystoreError::Form { path: path.to_owned(), what });
    let Ok(json) = serde_json::from_str::<Value>(text) else { return form("JSON") };
    let crypto = &json["crypto"];
    let params = &crypto["kdfparams"];
    let hex_bytes = |value: &Value| value.as_str().and_then(|text| hex::decode(text).ok()).map(|bytes| bytes.len());
    if json["version"].as_u64() != Some(3) {
        return form("version");
    }
    if crypto["cipher"] != "aes-128-ctr" || hex_bytes(&crypto["cipherparams"]["iv"]) != Some(16) {
        return form("cipher");
    }
    if hex_bytes(&crypto["ciphertext"]) != Some(32) || hex_bytes(&crypto["mac"]) != Some(32) {
        return form("ciphertext");
    }
    if params["dklen"].as_u64() != Some(32) {
        return form("dklen");
    }
    let bounded = match crypto["kdf"].as_str() {
        Some("scrypt") => {
            let [n, r, p] = ["n", "r", "p"].map(|name| params[name].as_u64().unwrap_or(u64::MAX));
            let bytes = n.checked_mul(r).and_then(|bytes| bytes.checked_mul(128));
            // N must be below 2^(16 r): RFC 7914, section 2.
            let below = u64::from(n.max(1).ilog2()) < r.saturating_mul(16);
            below
                && n.is_power_of_two()
                && n > 1
                && (1..=16).contains(&p)
                && r > 0
                && bytes.is_some_and(|b| b <= MAX_KDF_BYTES)
        }
        Some("pbkdf2") => params["c"].as_u64().is_some_and(|rounds| (1..=MAX_KDF_ROUNDS).contains(&rounds)),
        _ => false,
    };
    if !bounded {
        return form("key derivation");
    }
    Ok(())
}

fn failed(path: &Path, error: WalletError) -> KeystoreError {
    let path = path.to_owned();
    match error {
        // The crate's own error for a wrong password is not exported: it is told by its text.
        WalletError::EthKeystoreError(error) if error.to_string().contains("Mac Mismatch") => {
            KeystoreError::Password { path }
        }
        WalletError::IoError(source) => KeystoreError::File { path, source },
        _ => KeystoreError::Form { path, what: "content" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evm::signer::Signer as _;

    /// The PBKDF2 vector of the Web3 secret storage definition. Its scrypt vector has parameters that RFC 7914 forbids.
    const VECTOR: &str = r#"{"crypto": {"cipher": "aes-128-ctr",
        "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46", "kdf": "pbkdf2",
        "kdfparams": {"c": 262144, "dklen": 32, "prf": "hmac-sha256",
            "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
        "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},
        "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6", "version": 3}"#;

    /// The form of those with scrypt, which nearly all keystores use; never opened.
    const SCRYPT: &str = r#"{"crypto": {"cipher": "aes-128-ctr",
        "cipherparams": {"iv": "83dbcc02d8ccb40e466191a123791e0e"},
        "ciphertext": "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c", "kdf": "scrypt",
        "kdfparams": {"dklen": 32, "n": 262144, "p": 1, "r": 8,
            "salt": "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19"},
        "mac": "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097"},
        "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6", "version": 3}"#;

    fn opened(keystore: &str, password: &str) -> Result<LocalSigner, KeystoreError> {
        let dir = tempfile::tempdir().unwrap();
        let (key, pass) = (dir.path().join("key"), dir.path().join("pass"));
        fs::write(&key, keystore).unwrap();
        fs::write(&pass, format!("{password}\n")).unwrap();
        LocalSigner::open(&key, &Password::File(pass))
    }

    #[test]
    fn the_vector_of_the_definition_opens() {
        let secret = hex::decode("7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d").unwrap();
        let expected = LocalSigner::from_secret(&secret.try_into().unwrap()).unwrap();
        assert_eq!(opened(VECTOR, "testpassword").unwrap().address(), expected.address());
        assert!(matches!(opened(VECTOR, "another"), Err(KeystoreError::Password { .. })));
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("key"), VECTOR).unwrap();
        let typed = Password::Typed("testpassword".into());
        assert!(!format!("{typed:?}").contains("testpassword"));
        assert_eq!(LocalSigner::open(&dir.path().join("key"), &typed).unwrap().address(), expected.address());
    }

    #[test]
    fn what_is_no_keystore_is_refused_before_it_costs_anything() {
        for (from, to) in [
            ("262144", "4294967296"),
            ("262144", "262143"),
            ("\"p\": 1", "\"p\": 4000000000"),
            ("\"r\": 8", "\"r\": 1000000"),
            ("\"r\": 8", "\"r\": 1"),
            ("\"dklen\": 32", "\"dklen\": 8"),
            ("d172bf", "d172"),
            ("83dbcc", ""),
            ("\"version\": 3", "\"version\": 1"),
            ("scrypt", "md5"),
            ("crypto\"", "cryptic\""),
            ("{", "<html>"),
        ] {
            let bad = opened(&SCRYPT.replace(from, to), "testpassword");
            assert!(matches!(bad, Err(KeystoreError::Form { .. })), "{from} -> {to}: {bad:?}");
        }
    }

    #[test]
    fn a_key_that_is_made_opens_and_is_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let (key, pass) = (dir.path().join("key"), Password::File(dir.path().join("pass")));
        fs::write(dir.path().join("pass"), "secret").unwrap();
        let made = LocalSigner::create(&key, &pass).unwrap();
        assert_eq!(LocalSigner::open(&key, &pass).unwrap().address(), made.address());
        assert!(matches!(LocalSigner::create(&key, &pass), Err(KeystoreError::File { .. })));
        assert_eq!(LocalSigner::open(&key, &pass).unwrap().address(), made.address());
        assert!(matches!(
            LocalSigner::open(&key, &Password::Env("FAR_NO_SUCH_VARIABLE".into())),
            Err(KeystoreError::NoPassword { .. })
        ));
    }
}
