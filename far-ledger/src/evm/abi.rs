//! Arguments and events of the two contracts, by hand: paying needs no artifacts.

use ethers_core::{
    abi::{ParamType, Token, decode, encode},
    types::{Address, H256, U256},
    utils::keccak256,
};

use crate::evm::types::Log;

/// A batch was paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPaid {
    /// The batch.
    pub batch_id: H256,
    /// keccak256 of its items.
    pub digest: H256,
    /// Its items.
    pub count: U256,
    /// Their sum, in the token's units.
    pub total: U256,
}

/// An item of a paid batch became a credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpaid {
    /// The batch.
    pub batch_id: H256,
    /// Place of the item.
    pub index: U256,
    /// Whose credit.
    pub to: Address,
    /// How much, in the token's units.
    pub amount: U256,
}

/// Somebody sent an ERC-20's units to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Who.
    pub from: Address,
    /// To whom.
    pub to: Address,
    /// How much.
    pub amount: U256,
}

impl Transfer {
    /// The first topic of the event.
    pub fn topic() -> H256 {
        H256(keccak256("Transfer(address,address,uint256)"))
    }

    /// The topic that an address stands in.
    pub fn address_topic(address: Address) -> H256 {
        H256::from(address)
    }

    /// Reads the event; `None` where the log is another one.
    pub fn read(log: &Log) -> Option<Self> {
        let [topic, from, to] = log.topics[..] else { return None };
        let [amount] = words(&log.data)?;
        let event = Self { from: Address::from(from), to: Address::from(to), amount: uint(amount) };
        (topic == Self::topic()).then_some(event)
    }
}

impl BatchPaid {
    /// The first topic of the event.
    pub fn topic() -> H256 {
        H256(keccak256("BatchPaid(bytes32,bytes32,uint256,uint256)"))
    }

    /// Reads the event; `None` where the log is another one.
    pub fn read(log: &Log) -> Option<Self> {
        let [topic, batch_id] = log.topics[..] else { return None };
        let [digest, count, total] = words(&log.data)?;
        let event = Self { batch_id, digest, count: uint(count), total: uint(total) };
        (topic == Self::topic()).then_some(event)
    }
}

impl Unpaid {
    /// The first topic of the event.
    pub fn topic() -> H256 {
        H256(keccak256("Unpaid(bytes32,uint256,address,uint256)"))
    }

    /// Reads the event; `None` where the log is another one.
    pub fn read(log: &Log) -> Option<Self> {
        let [topic, batch_id, to] = log.topics[..] else { return None };
        let [index, amount] = words(&log.data)?;
        let event = Self { batch_id, index: uint(index), to: Address::from(to), amount: uint(amount) };
        (topic == Self::topic()).then_some(event)
    }
}

/// Calls of `FarPayout`.
pub mod payout {
    use super::{Address, H256, ParamType, Token, U256, call, decode_one, keccak256};

    /// `pay(batchId, items)`.
    pub fn pay(batch_id: H256, items: &[u8]) -> Vec<u8> {
        call("pay(bytes32,bytes)", &[Token::FixedBytes(batch_id.0.to_vec()), Token::Bytes(items.to_vec())])
    }

    /// `paid(batchId)`.
    pub fn paid(batch_id: H256) -> Vec<u8> {
        call("paid(bytes32)", &[Token::FixedBytes(batch_id.0.to_vec())])
    }

    /// `credit(account)`.
    pub fn credit(account: Address) -> Vec<u8> {
        call("credit(address)", &[Token::Address(account)])
    }

    /// `token()`.
    pub fn token() -> Vec<u8> {
        call("token()", &[])
    }

    /// `treasury()`.
    pub fn treasury() -> Vec<u8> {
        call("treasury()", &[])
    }

    /// `hasRole(PAYER, account)`.
    pub fn is_payer(account: Address) -> Vec<u8> {
        let role = keccak256("far.payer").to_vec();
        call("hasRole(bytes32,address)", &[Token::FixedBytes(role), Token::Address(account)])
    }

    /// Arguments of the constructor.
    pub(in crate::evm) fn constructor(
        token: Address,
        treasury: Address,
        admin: Address,
        payers: &[Address],
    ) -> Vec<u8> {
        let payers = payers.iter().map(|payer| Token::Address(*payer)).collect();
        super::encode(&[Token::Address(token), Token::Address(treasury), Token::Address(admin), Token::Array(payers)])
    }

    /// What [`paid`] returned; `None` where the answer has another form, as that of an account without code.
    pub fn digest(answer: &[u8]) -> Option<H256> {
        Some(H256(answer.try_into().ok()?))
    }

    /// What [`token`] or [`treasury`] returned.
    pub fn address(answer: &[u8]) -> Option<Address> {
        decode_one(ParamType::Address, answer)?.into_address()
    }

    /// What [`is_payer`] returned.
    pub fn truth(answer: &[u8]) -> Option<bool> {
        decode_one(ParamType::Bool, answer)?.into_bool()
    }

    /// What [`credit`] returned.
    pub fn amount(answer: &[u8]) -> Option<U256> {
        decode_one(ParamType::Uint(256), answer)?.into_uint()
    }
}

/// Calls of an ERC-20.
pub mod token {
    use super::{Address, Token, U256, call};

    /// `balanceOf(account)`.
    pub fn balance_of(account: Address) -> Vec<u8> {
        call("balanceOf(address)", &[Token::Address(account)])
    }

    /// `allowance(owner, spender)`.
    pub fn allowance(owner: Address, spender: Address) -> Vec<u8> {
        call("allowance(address,address)", &[Token::Address(owner), Token::Address(spender)])
    }

    /// `approve(spender, amount)`.
    pub fn approve(spender: Address, amount: U256) -> Vec<u8> {
        call("approve(address,uint256)", &[Token::Address(spender), Token::Uint(amount)])
    }

    /// `decimals()`.
    pub fn decimals() -> Vec<u8> {
        call("decimals()", &[])
    }

    /// `transfer(to, amount)`.
    pub fn transfer(to: Address, amount: U256) -> Vec<u8> {
        call("transfer(address,uint256)", &[Token::Address(to), Token::Uint(amount)])
    }

    /// Arguments of `FarToken`'s constructor.
    pub(in crate::evm) fn constructor(holder: Address, supply: U256) -> Vec<u8> {
        super::encode(&[Token::Address(holder), Token::Uint(supply)])
    }
}

fn call(signature: &str, arguments: &[Token]) -> Vec<u8> {
    let mut data = keccak256(signature)[..4].to_vec();
    data.extend(encode(arguments));
    data
}

fn decode_one(kind: ParamType, answer: &[u8]) -> Option<Token> {
    if answer.len() != 32 {
        return None;
    }
    decode(&[kind], answer).ok()?.pop()
}

fn words<const N: usize>(data: &[u8]) -> Option<[H256; N]> {
    let (words, rest) = data.as_chunks::<32>();
    if !rest.is_empty() {
        return None;
    }
    let words: &[[u8; 32]; N] = words.try_into().ok()?;
    Some(words.map(H256))
}

fn uint(word: H256) -> U256 {
    U256::from_big_endian(&word.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Selectors as other tools print them (`cast sig`, ERC-20's published ones).
    #[test]
    fn calls_begin_with_the_known_selectors() {
        let account = Address::repeat_byte(0x11);
        for (data, selector, len) in [
            (token::balance_of(account), "70a08231", 36),
            (token::transfer(account, U256::one()), "a9059cbb", 68),
            (token::approve(account, U256::one()), "095ea7b3", 68),
            (token::allowance(account, account), "dd62ed3e", 68),
            (payout::is_payer(account), "91d14854", 68),
        ] {
            assert_eq!((hex::encode(&data[..4]), data.len()), (selector.to_owned(), len));
        }
        let data = payout::pay(H256::repeat_byte(1), &[7; 64]);
        // selector, batch, offset 64, length 64, items
        assert_eq!(data.len(), 4 + 32 * 3 + 64);
        assert_eq!(U256::from_big_endian(&data[36..68]), U256::from(64));
        assert_eq!(U256::from_big_endian(&data[68..100]), U256::from(64));
    }

    #[test]
    fn answers_of_another_form_are_refused() {
        assert_eq!(payout::digest(&[]), None, "an account without code");
        assert_eq!(payout::address(&[0xff; 32]), Some(Address::repeat_byte(0xff)));
        assert_eq!(payout::truth(&[1; 31]), None);
        assert_eq!(payout::truth(&[2; 32]), None);
    }

    #[test]
    fn events_are_read_and_others_are_not() {
        let log = |topics: Vec<H256>, data: Vec<u8>| Log {
            address: Address::zero(),
            topics,
            data,
            block_number: 1,
            block_hash: H256::zero(),
            tx_hash: H256::zero(),
            index: 0,
        };
        let id = H256::repeat_byte(5);
        let mut data = vec![1; 32];
        data.extend(encode(&[Token::Uint(2.into()), Token::Uint(3.into())]));
        let paid = BatchPaid::read(&log(vec![BatchPaid::topic(), id], data.clone())).unwrap();
        assert_eq!((paid.batch_id, paid.digest, paid.count, paid.total), (id, H256([1; 32]), 2.into(), 3.into()));
        assert_eq!(BatchPaid::read(&log(vec![Unpaid::topic(), id], data.clone())), None);
        assert_eq!(BatchPaid::read(&log(vec![BatchPaid::topic(), id], data[1..].to_vec())), None);
        assert_eq!(BatchPaid::read(&log(vec![], data)), None);
    }
}
