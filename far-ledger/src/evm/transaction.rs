//! Transactions (EIP-1559) as bytes.

use ethers_core::{
    types::{
        Address, Eip1559TransactionRequest, H256, Signature, U256,
        transaction::{eip2718::TypedTransaction, eip2930::AccessList},
    },
    utils::{keccak256, rlp::Rlp},
};

use crate::evm::{
    fee::Fees,
    signer::{SignError, Signer},
};

/// First byte of a transaction of this kind (EIP-2718).
const KIND: u8 = 2;

/// A transaction before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    /// The chain it is for; no other executes it.
    pub chain_id: u64,
    /// Its place among the sender's transactions.
    pub nonce: u64,
    /// The contract or account; `None` makes a contract.
    pub to: Option<Address>,
    /// Selector and arguments.
    pub data: Vec<u8>,
    /// Most gas it may use.
    pub gas: u64,
    /// What it costs.
    pub fees: Fees,
}

/// A signed transaction: nobody can change it, anybody can send it.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedTx {
    raw: Vec<u8>,
    hash: H256,
    sender: Address,
    body: Unsigned,
}

/// Bytes that are no signed transaction of the kind made here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes of a stored transaction are not one: {reason}")]
pub struct DecodeError {
    len: usize,
    reason: String,
}

impl Unsigned {
    /// Signs it.
    ///
    /// # Errors
    /// [`SignError`], also where the signature that comes back is not of this key.
    pub async fn sign(self, signer: &dyn Signer) -> Result<SignedTx, SignError> {
        let address = signer.address();
        let typed = self.typed();
        let digest = typed.sighash();
        let mut signature = signer.sign(digest).await?;
        if signature.v >= 27 {
            signature.v = signature.v.saturating_sub(27);
        }
        let other_key = SignError::OtherKey { address };
        if signature.v > 1 || signature.s > half_order() || recovered(&signature, digest) != Some(address) {
            return Err(other_key);
        }
        let raw = typed.rlp_signed(&signature).to_vec();
        Ok(SignedTx { hash: H256(keccak256(&raw)), raw, sender: address, body: self })
    }

    fn typed(&self) -> TypedTransaction {
        let mut request = Eip1559TransactionRequest::new()
            .chain_id(self.chain_id)
            .nonce(self.nonce)
            .data(self.data.clone())
            .gas(self.gas)
            .value(0)
            .max_fee_per_gas(self.fees.max_fee)
            .max_priority_fee_per_gas(self.fees.tip);
        if let Some(to) = self.to {
            request = request.to(to);
        }
        TypedTransaction::Eip1559(request)
    }
}

impl SignedTx {
    /// Reads a transaction back from its bytes and recovers its sender.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(raw: &[u8]) -> Result<Self, DecodeError> {
        let error = |reason: &dyn ToString| DecodeError { len: raw.len(), reason: reason.to_string() };
        let fields = raw.strip_prefix(&[KIND]).ok_or_else(|| error(&"another kind"))?;
        let decoded = Eip1559TransactionRequest::decode_signed_rlp(&Rlp::new(fields));
        let (request, _) = decoded.map_err(|reason| error(&reason))?;
        let small = |value: Option<U256>| value.and_then(|value| u64::try_from(value).ok());
        let body = Unsigned {
            chain_id: request.chain_id.map(|id| id.as_u64()).unwrap_or_default(),
            nonce: small(request.nonce).ok_or_else(|| error(&"a nonce beyond 2^64"))?,
            to: request.to.as_ref().and_then(|to| to.as_address().copied()),
            data: request.data.as_ref().map(|data| data.to_vec()).unwrap_or_default(),
            gas: small(request.gas).ok_or_else(|| error(&"gas beyond 2^64"))?,
            fees: Fees {
                max_fee: small(request.max_fee_per_gas).ok_or_else(|| error(&"a fee beyond 2^64"))?,
                tip: small(request.max_priority_fee_per_gas).ok_or_else(|| error(&"a tip beyond 2^64"))?,
            },
        };
        if request.value.is_some_and(|value| !value.is_zero()) || request.access_list != AccessList::default() {
            return Err(error(&"it moves ether or has an access list"));
        }
        let sender = request.from.ok_or_else(|| error(&"no signature"))?;
        Ok(Self { raw: raw.to_vec(), hash: H256(keccak256(raw)), sender, body })
    }

    /// The bytes to send.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The transaction's name on the chain.
    pub fn hash(&self) -> H256 {
        self.hash
    }

    /// Who signed it.
    pub fn sender(&self) -> Address {
        self.sender
    }

    /// What was signed.
    pub fn body(&self) -> &Unsigned {
        &self.body
    }
}

impl std::fmt::Debug for SignedTx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "transaction {:?} of {:?}, nonce {}", self.hash, self.sender, self.body.nonce)
    }
}

fn recovered(signature: &Signature, digest: H256) -> Option<Address> {
    let v = signature.v.checked_add(27)?;
    Signature { v, ..*signature }.recover(digest).ok()
}

/// Half the order of secp256k1: of two valid signatures chains take the one below it (EIP-2).
fn half_order() -> U256 {
    U256([0xdfe9_2f46_681b_20a0, 0x5d57_6e73_57a4_501d, 0xffff_ffff_ffff_ffff, 0x7fff_ffff_ffff_ffff])
}

#[cfg(test)]
mod tests {
    use futures::future::{BoxFuture, FutureExt};
    use proptest::prelude::*;

    use super::*;
    use crate::evm::signer::LocalSigner;

    fn signer() -> LocalSigner {
        LocalSigner::from_secret(&[7; 32]).unwrap()
    }

    fn unsigned(nonce: u64, data: Vec<u8>) -> Unsigned {
        let fees = Fees { max_fee: 30_000_000_000, tip: 1_000_000_000 };
        Unsigned { chain_id: 1, nonce, to: Some(Address::repeat_byte(9)), data, gas: 21_000, fees }
    }

    #[tokio::test]
    async fn a_signed_transaction_is_read_back_with_its_sender() {
        for to in [None, Some(Address::repeat_byte(3))] {
            let body = Unsigned { to, ..unsigned(5, vec![1, 2, 3]) };
            let signed = body.clone().sign(&signer()).await.unwrap();
            assert_eq!(signed.sender(), signer().address());
            assert_eq!(SignedTx::decode(signed.raw()).unwrap(), signed);
            assert_eq!(signed.body(), &body);
        }
        let once = unsigned(0, vec![]).sign(&signer()).await.unwrap();
        assert_eq!(once, unsigned(0, vec![]).sign(&signer()).await.unwrap(), "the same bytes every time");
    }

    /// The example transaction of geth's tests for EIP-1559 signing would need its key; ethers' own vectors cover RLP. What
    /// is checked here is that a service with another key, or with signatures that chains refuse, is found out.
    #[tokio::test]
    async fn a_signature_of_another_key_is_refused() {
        #[derive(Debug)]
        struct Liar(fn(Signature) -> Signature);
        impl Signer for Liar {
            fn address(&self) -> Address {
                signer().address()
            }
            fn sign(&self, digest: H256) -> BoxFuture<'_, Result<Signature, SignError>> {
                async move { signer().sign(digest).await.map(self.0) }.boxed()
            }
        }
        let order = U256([0xbfd2_5e8c_d036_4141, 0xbaae_dce6_af48_a03b, 0xffff_ffff_ffff_fffe, u64::MAX]);
        assert_eq!(half_order(), order / 2);
        let sign = |change| async move { unsigned(0, vec![]).sign(&Liar(change)).await };
        assert!(sign(|signature| Signature { v: signature.v - 27, ..signature }).await.is_ok());
        let lies: [fn(Signature) -> Signature; 4] = [
            |signature| Signature { v: 55 - signature.v, ..signature },
            |signature| Signature { r: signature.r + 1, ..signature },
            |signature| Signature { v: 35, ..signature },
            |signature| {
                let order = U256([0xbfd2_5e8c_d036_4141, 0xbaae_dce6_af48_a03b, 0xffff_ffff_ffff_fffe, u64::MAX]);
                Signature { s: order - signature.s, v: 55 - signature.v, ..signature }
            },
        ];
        for lie in lies {
            assert!(matches!(sign(lie).await, Err(SignError::OtherKey { .. })));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut raw in proptest::collection::vec(any::<u8>(), 0..200), known in any::<bool>(), at in any::<usize>(), byte in any::<u8>()) {
            if known {
                raw = futures::executor::block_on(unsigned(1, vec![9; 40]).sign(&signer())).unwrap().raw().to_vec();
                let at = at % raw.len();
                raw[at] = byte;
            }
            if let Ok(read) = SignedTx::decode(&raw) {
                prop_assert_eq!(read.raw(), &raw[..]);
            }
        }
    }
}
