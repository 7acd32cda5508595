//! Who has FAR here: users who pay ahead, nodes that earn, and the operator.

use std::{fmt, str::FromStr};

use crate::{
    amount::Amount,
    field::{self, FieldError},
    time::UnixMillis,
    wallet::WalletAddress,
};

/// A side of a move of FAR.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// What the operator earned in fees.
    Fees,
    /// Earnings of a node that were not paid out.
    Node(String),
    /// What sessions without an account cost: the operator owes it, so its balance is never above zero.
    Open,
    /// FAR that came in from outside or went out: below zero by all that is held here.
    Outside,
    /// A user's prepaid balance.
    User(String),
}

/// A key of an account that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a key of an account: it was written by a newer version or by hand")]
pub struct UnknownParty(pub String);

/// A user's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user.
    pub name: String,
    /// Where deposits come from.
    pub wallet: Option<WalletAddress>,
    /// What was paid in and not used.
    pub balance: Amount,
    /// What running sessions hold of the balance.
    pub reserved: Amount,
    /// When it was opened.
    pub created_at: UnixMillis,
}

/// Who pays for a session, and the most it may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payer {
    /// The user.
    pub account: String,
    /// The key the request came with.
    pub key: Option<String>,
    /// The most the session may cost: it is held of the balance until the session ends.
    pub reserve: Amount,
    /// When the session's coordinator is taken for lost, and what is held is released: later than any session lasts.
    pub until: UnixMillis,
}

/// What a key used on a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The key.
    pub key: String,
    /// The day: its first millisecond, UTC.
    pub day: UnixMillis,
    /// Sessions that ended on it.
    pub sessions: u64,
    /// Tokens they generated.
    pub tokens: u64,
    /// What they cost.
    pub cost: Amount,
}

impl Account {
    /// What a session may reserve now.
    pub fn available(&self) -> Amount {
        self.balance.checked_sub(self.reserved).unwrap_or_default()
    }
}

impl Payer {
    pub(crate) fn check(&self) -> Result<(), FieldError> {
        field::id("account", &self.account)?;
        self.key.as_deref().map_or(Ok(()), |key| field::id("key", key))
    }
}

impl Party {
    /// The kind, as it is stored.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Fees => "fees",
            Self::Node(_) => "node",
            Self::Open => "open",
            Self::Outside => "outside",
            Self::User(_) => "user",
        }
    }

    /// Whether its balance may be below zero: a debt to those inside.
    pub(crate) const fn may_owe(&self) -> bool {
        matches!(self, Self::Open | Self::Outside)
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) | Self::User(name) => write!(f, "{}:{name}", self.kind()),
            _ => f.write_str(self.kind()),
        }
    }
}

impl FromStr for Party {
    type Err = UnknownParty;

    fn from_str(key: &str) -> Result<Self, UnknownParty> {
        match key.split_once(':') {
            Some(("node", name)) => Ok(Self::Node(name.to_owned())),
            Some(("user", name)) => Ok(Self::User(name.to_owned())),
            None if key == "fees" => Ok(Self::Fees),
            None if key == "open" => Ok(Self::Open),
            None if key == "outside" => Ok(Self::Outside),
            _ => Err(UnknownParty(key.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_a_party() {
        for (party, key) in [
            (Party::Fees, "fees"),
            (Party::Open, "open"),
            (Party::Outside, "outside"),
            (Party::Node("12D3:x".into()), "node:12D3:x"),
            (Party::User("fees".into()), "user:fees"),
        ] {
            assert_eq!((party.to_string().as_str(), key.parse()), (key, Ok(party)));
        }
        for key in ["", "bank", "bank:a", "fees:a"] {
            assert!(key.parse::<Party>().is_err(), "{key}");
        }
    }
}
