//! Who signs.

use std::fmt;

use ethers_core::{
    k256::ecdsa::SigningKey,
    types::{Address, H256, Signature},
};
use ethers_signers::{LocalWallet, Signer as _};
use futures::future::{BoxFuture, FutureExt};

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The signer cannot be reached, or refused.
    #[error("the signer of {address:?} did not sign: {reason}")]
    Refused {
        /// Whose signer.
        address: Address,
        /// What it said.
        reason: String,
    },
    /// The signature is of another key, or in a form that chains refuse.
    #[error("the signer of {address:?} gave a signature that is not of this key: check which key it holds")]
    OtherKey {
        /// Whose signature it should be.
        address: Address,
    },
}

/// A key that signs digests: in this process, or in a service that never gives it away.
pub trait Signer: Send + Sync + fmt::Debug {
    /// The account of the key.
    fn address(&self) -> Address;

    /// A signature of `digest`, recoverable, with `s` in the lower half of the group's order (EIP-2). `v` may be the parity
    /// or the parity plus 27. Whatever comes back is checked before it is used.
    ///
    /// # Errors
    /// [`SignError::Refused`].
    fn sign(&self, digest: H256) -> BoxFuture<'_, Result<Signature, SignError>>;
}

/// A key in this process, from an encrypted file: see [`LocalSigner::open`].
#[derive(Clone)]
pub struct LocalSigner {
    wallet: LocalWallet,
}

impl LocalSigner {
    /// The signer of a private key. Of use where the key is not a secret (tests); everybody else keeps it in a file.
    ///
    /// # Errors
    /// `None` where the bytes are no key of secp256k1.
    pub fn from_secret(secret: &[u8; 32]) -> Option<Self> {
        Some(Self { wallet: SigningKey::from_slice(secret).ok()?.into() })
    }

    pub(super) fn from_wallet(wallet: LocalWallet) -> Self {
        Self { wallet }
    }
}

impl Signer for LocalSigner {
    fn address(&self) -> Address {
        self.wallet.address()
    }

    fn sign(&self, digest: H256) -> BoxFuture<'_, Result<Signature, SignError>> {
        async move {
            let refused = |error: ethers_signers::WalletError| SignError::Refused {
                address: self.address(),
                reason: error.to_string(),
            };
            self.wallet.sign_hash(digest).map_err(refused)
        }
        .boxed()
    }
}

/// Never the key.
impl fmt::Debug for LocalSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSigner").field("address", &self.address()).finish_non_exhaustive()
    }
}
