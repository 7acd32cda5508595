//! Keys that requests come with: `fl_` and 256 random bits. Only a hash of a key is stored.
//!
//! A key is too random to be guessed, so one round of SHA-256 hides it; what slow hashes are for, passwords, does not
//! occur here.

use std::fmt;

use rand::TryRngCore;
use sha2::{Digest, Sha256};

use crate::time::UnixMillis;

/// What every key begins with.
pub const PREFIX: &str = "fl_";

/// Random bytes of a key.
const BYTES: usize = 32;

/// Length of a key: its prefix and hexadecimal digits.
const LENGTH: usize = PREFIX.len() + 2 * BYTES;

/// Bytes of the random part of a key's identifier.
const ID_BYTES: usize = 8;

/// A key in clear. It shows itself to [`Secret::expose`] alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// A fresh key: the only time that its secret is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Name of the key, by which it is listed and revoked.
    pub id: String,
    /// The key.
    pub secret: Secret,
}

/// A key in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Name of the key.
    pub id: String,
    /// Account that pays for what comes with it.
    pub account: String,
    /// What the operator calls it.
    pub label: String,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was revoked.
    pub revoked_at: Option<UnixMillis>,
    /// When a request came with it last, to the minute.
    pub last_used_at: Option<UnixMillis>,
}

/// The system gives no random numbers.
#[derive(Debug, thiserror::Error)]
#[error("no random numbers from the system: no key can be made, try again")]
pub struct RandomError(#[source] rand::rand_core::OsError);

/// A text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key: one begins with {PREFIX} and has {LENGTH} characters")]
pub struct ParseKeyError;

impl ApiKey {
    /// Draws a key.
    ///
    /// # Errors
    /// [`RandomError`] when the system gives no random numbers.
    pub fn draw() -> Result<Self, RandomError> {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; BYTES]);
        rand::rngs::OsRng.try_fill_bytes(&mut id).map_err(RandomError)?;
        rand::rngs::OsRng.try_fill_bytes(&mut secret).map_err(RandomError)?;
        Ok(Self { id: format!("key_{}", hex::encode(id)), secret: Secret(format!("{PREFIX}{}", hex::encode(secret))) })
    }
}

impl Secret {
    /// A key as a request brings it.
    ///
    /// # Errors
    /// [`ParseKeyError`] when it cannot be one: no database needs to be asked.
    pub fn parse(text: &str) -> Result<Self, ParseKeyError> {
        let digits = text.strip_prefix(PREFIX).ok_or(ParseKeyError)?;
        let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != LENGTH || !digits.bytes().all(lower) {
            return Err(ParseKeyError);
        }
        Ok(Self(text.to_owned()))
    }

    /// The key in clear: to show it once, or to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    pub(crate) fn hash(&self) -> String {
        hex::encode(Sha256::digest(self.0.as_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_drawn_hidden_and_read_back() {
        let (one, two) = (ApiKey::draw().unwrap(), ApiKey::draw().unwrap());
        assert!(one.secret != two.secret && one.id != two.id);
        assert_eq!(Secret::parse(one.secret.expose()), Ok(one.secret.clone()));
        assert!(one.secret.expose().starts_with("fl_") && !format!("{one:?}").contains(&one.secret.expose()[3..]));
        assert_ne!(one.secret.hash(), two.secret.hash());
    }

    #[test]
    fn the_hash_is_sha_256() {
        let key = Secret::parse(&format!("fl_{}", "0".repeat(64))).unwrap();
        let known = hex::encode(Sha256::digest(format!("fl_{}", "0".repeat(64))));
        assert_eq!((key.hash().len(), key.hash()), (64, known));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let right = "ab".repeat(32);
        for text in ["", "fl_", &right, &format!("fl_{right}0"), &format!("fl_{}", right.to_uppercase()), "sk-12345"] {
            assert_eq!(Secret::parse(text), Err(ParseKeyError), "{text}");
        }
    }
}
