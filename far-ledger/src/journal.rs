//! The journal of double entries: every move of FAR from one account to another, under the name of its cause.
//!
//! A [`Line`] takes an amount from one side and gives it to the other, so whatever is posted sums to zero: there is no way
//! to write a line for which it does not. A [`Posting`] is named after its cause, and a cause is posted once.

use crate::{account::Party, amount::Amount, time::UnixMillis};

/// A move of FAR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Who has it less.
    pub debit: Party,
    /// Who has it more.
    pub credit: Party,
    /// How much, more than nothing.
    pub amount: Amount,
}

/// What a posting is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The cost of a session.
    Session,
    /// FAR that the operator added to a balance.
    TopUp,
    /// FAR that came in on a chain.
    Deposit,
    /// Earnings that were paid out on a chain.
    Payout,
}

/// All lines of one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    /// Name of the cause: the same name is the same cause.
    pub id: String,
    /// What it is for.
    pub kind: Kind,
    /// The moves.
    pub lines: Vec<Line>,
    /// When.
    pub at: UnixMillis,
}

/// What posting did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// It moved the amounts.
    Now,
    /// The same was posted before; nothing changed.
    Before,
}

impl Kind {
    /// The kind as it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::TopUp => "topup",
            Self::Deposit => "deposit",
            Self::Payout => "payout",
        }
    }
}

impl Posting {
    /// A posting of `kind`; its cause has the name `cause` among those of its kind. Lines without an amount are left out.
    pub fn new(kind: Kind, cause: &str, lines: impl IntoIterator<Item = Line>, at: UnixMillis) -> Self {
        let lines = lines.into_iter().filter(|line| !line.amount.is_zero() && line.debit != line.credit).collect();
        Self { id: format!("{}:{cause}", kind.as_str()), kind, lines, at }
    }
}
