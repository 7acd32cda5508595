//! What tokens cost: a price for each, a total while they come.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::amount::{Amount, ParseAmountError};

/// What one generated token costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Price(Amount);

/// A cost beyond what an [`Amount`] can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{tokens} tokens at {per_token} FAR cost more than an amount can hold ({} FAR): lower the price", Amount::MAX)]
pub struct CostError {
    /// Tokens asked for, all in all.
    pub tokens: u128,
    /// Price of each.
    pub per_token: Amount,
}

/// The cost of a session while its tokens come.
///
/// ```
/// use far_ledger::cost::{Price, RunningCost};
///
/// let mut cost = RunningCost::new("0.0001".parse::<Price>()?);
/// assert_eq!(cost.add(1)?.to_string(), "0.0001");
/// assert_eq!(cost.add(1)?.to_string(), "0.0002");
/// assert_eq!(cost.tokens(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Invariant: `total == price * tokens`, so the last running cost is the cost of the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningCost {
    price: Price,
    tokens: u64,
    total: Amount,
}

impl Price {
    /// A price of `per_token` for each token; zero is free.
    pub const fn new(per_token: Amount) -> Self {
        Self(per_token)
    }

    /// The price of one token.
    pub const fn per_token(self) -> Amount {
        self.0
    }

    /// The cost of `tokens` tokens.
    ///
    /// # Errors
    /// [`CostError`] when it is beyond [`Amount::MAX`].
    pub fn of(self, tokens: u64) -> Result<Amount, CostError> {
        self.0.checked_mul(tokens).ok_or(CostError { tokens: tokens.into(), per_token: self.0 })
    }
}

impl FromStr for Price {
    type Err = ParseAmountError;

    fn from_str(text: &str) -> Result<Self, ParseAmountError> {
        text.parse().map(Self)
    }
}

impl RunningCost {
    /// No token yet.
    pub const fn new(price: Price) -> Self {
        Self { price, tokens: 0, total: Amount::ZERO }
    }

    /// Counts `tokens` more and says what all cost until now.
    ///
    /// # Errors
    /// [`CostError`] when the total is beyond [`Amount::MAX`]; nothing is counted then.
    pub fn add(&mut self, tokens: u64) -> Result<Amount, CostError> {
        let beyond = CostError {
            tokens: u128::from(self.tokens).saturating_add(tokens.into()),
            per_token: self.price.per_token(),
        };
        let count = self.tokens.checked_add(tokens).ok_or(beyond)?;
        self.total = self.price.of(count)?;
        self.tokens = count;
        Ok(self.total)
    }

    /// What all tokens cost until now.
    pub const fn total(&self) -> Amount {
        self.total
    }

    /// Tokens counted until now.
    pub const fn tokens(&self) -> u64 {
        self.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_cost_is_the_price_of_its_tokens() {
        let price: Price = "0.000000003".parse().unwrap();
        let mut cost = RunningCost::new(price);
        for tokens in [1, 0, 7, 500] {
            let total = cost.add(tokens).unwrap();
            assert_eq!(total, price.of(cost.tokens()).unwrap());
        }
        assert_eq!((cost.tokens(), cost.total().nano()), (508, 1524));
    }

    #[test]
    fn a_cost_that_does_not_fit_counts_nothing() {
        let mut cost = RunningCost::new(Price::new(Amount::MAX));
        cost.add(1).unwrap();
        assert_eq!(cost.add(1), Err(CostError { tokens: 2, per_token: Amount::MAX }));
        assert_eq!((cost.tokens(), cost.total()), (1, Amount::MAX));
        let mut free = RunningCost::new(Price::default());
        assert_eq!(free.add(u64::MAX), Ok(Amount::ZERO));
        assert!(free.add(1).is_err());
    }

    #[test]
    fn a_price_is_a_decimal_string() {
        assert_eq!(serde_json::to_string(&"0.0002".parse::<Price>().unwrap()).unwrap(), "\"0.0002\"");
        assert!(serde_json::from_str::<Price>("0.0002").is_err());
        assert!("-0.1".parse::<Price>().is_err());
    }
}
