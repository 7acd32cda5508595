//! A session's account: from its beginning to what it cost and who earned it.

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::{
    account::Payer,
    amount::Amount,
    contribution::{Contribution, ShareOutError, Work, share_out},
    cost::{CostError, Price},
    fee::FeeRate,
    field::{self, FieldError, MAX_PROMPT_BYTES},
    time::UnixMillis,
    wallet::WalletAddress,
};

/// A session that begins. Its identifier is made by the caller, so that a retry is the same session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSession {
    /// The session.
    pub id: String,
    /// The request it answers, as the caller of the API names it.
    pub request_id: Option<String>,
    /// Wallet of the user who pays.
    pub user_wallet: Option<WalletAddress>,
    /// The account that pays; `None` where the coordinator asks for no key.
    pub payer: Option<Payer>,
    /// The coordinator that runs it; see [`Ledger::release_left`](crate::Ledger::release_left).
    pub coordinator: Option<String>,
    /// The model it runs.
    pub model_id: String,
    /// The prompt. Give it only where the operator turned storing on.
    pub prompt_text: Option<String>,
    /// When it began.
    pub started_at: UnixMillis,
}

/// How a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// Begun and not ended.
    Running,
    /// Ended, with its cost and contributions.
    Completed,
    /// Ended without a cost.
    Failed,
}

/// A session in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What was known at its beginning.
    pub begun: NewSession,
    /// Tokens it generated.
    pub tokens_generated: u64,
    /// What it cost.
    pub total_cost: Amount,
    /// What of the cost is the operator's; the rest is the contributions' payments.
    pub fee: Amount,
    /// When it ended.
    pub completed_at: Option<UnixMillis>,
    /// How it stands.
    pub status: Status,
    /// Why it failed, where it did.
    pub failure: Option<String>,
}

/// How a session ended: its cost, fully shared out.
///
/// Invariant: the operator's fee and the payments of the contributions sum to the total cost, and no two contributions
/// have the same node and first layer. There is no way to make one for which this does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    tokens_generated: u64,
    total_cost: Amount,
    fee: Amount,
    completed_at: UnixMillis,
    contributions: Vec<Contribution>,
}

/// Why a session's end is not an [`Outcome`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutcomeError {
    /// The tokens cost too much.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// The work cannot be turned into contributions.
    #[error(transparent)]
    Share(#[from] ShareOutError),
    /// A value that no row can hold.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The payments are not the cost.
    #[error("fee and payments sum to {} FAR and the session cost {total_cost} FAR: split the cost with share_out",
        .payments.map_or_else(|| "more than an amount can hold".to_owned(), |sum| sum.to_string()))]
    Unbalanced {
        /// Sum of the fee and the payments; `None` beyond [`Amount::MAX`].
        payments: Option<Amount>,
        /// Cost of the session.
        total_cost: Amount,
    },
    /// Two contributions of one node from one layer on.
    #[error("node {node_id} contributes twice from layer {layers_start} on: add its accounts up with share_out")]
    Twice {
        /// The node.
        node_id: String,
        /// First layer of both.
        layers_start: u32,
    },
}

/// A status that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a status of a session: it was written by a newer version or by hand")]
pub struct UnknownStatus(pub String);

impl NewSession {
    /// A session of which only what is needed is known.
    pub fn new(id: impl Into<String>, model_id: impl Into<String>, started_at: UnixMillis) -> Self {
        Self {
            id: id.into(),
            request_id: None,
            user_wallet: None,
            payer: None,
            coordinator: None,
            model_id: model_id.into(),
            prompt_text: None,
            started_at,
        }
    }

    pub(crate) fn check(&self) -> Result<(), FieldError> {
        field::id("session id", &self.id)?;
        field::id("model_id", &self.model_id)?;
        self.request_id.as_deref().map_or(Ok(()), |id| field::id("request_id", id))?;
        self.payer.as_ref().map_or(Ok(()), Payer::check)?;
        self.coordinator.as_deref().map_or(Ok(()), |id| field::id("coordinator", id))?;
        self.prompt_text.as_deref().map_or(Ok(()), |prompt| field::text("prompt_text", prompt, MAX_PROMPT_BYTES))
    }
}

impl Outcome {
    /// Prices `tokens_generated` tokens and splits their cost over the work that was done; the operator takes nothing.
    ///
    /// # Errors
    /// [`OutcomeError`] when the cost does not fit an amount, or when there is a cost and no work to split it by.
    pub fn settle(
        price: Price,
        tokens_generated: u64,
        work: &[Work],
        completed_at: UnixMillis,
    ) -> Result<Self, OutcomeError> {
        Self::settle_with_fee(price, FeeRate::ZERO, tokens_generated, work, completed_at)
    }

    /// Prices `tokens_generated` tokens, takes the operator's fee and splits the rest over the work that was done.
    ///
    /// # Errors
    /// [`OutcomeError`] when the cost does not fit an amount, or when something is left and no work to split it by.
    pub fn settle_with_fee(
        price: Price,
        rate: FeeRate,
        tokens_generated: u64,
        work: &[Work],
        completed_at: UnixMillis,
    ) -> Result<Self, OutcomeError> {
        Self::settle_vouched(price, rate, tokens_generated, work, token_layers(work), completed_at)
    }

    /// As [`Outcome::settle_with_fee`], where `asked` token-layers were asked for and only those of `work` are vouched for.
    /// Nobody pays for the rest and nobody else gets it, so that nobody gains when the word for another's work is missing.
    ///
    /// # Errors
    /// As there, but where none is vouched for there is no cost.
    pub fn settle_vouched(
        price: Price,
        rate: FeeRate,
        tokens_generated: u64,
        work: &[Work],
        asked: u64,
        completed_at: UnixMillis,
    ) -> Result<Self, OutcomeError> {
        let total_cost = price.of(tokens_generated)?.share(token_layers(work), asked);
        let (fee, rest) = rate.of(total_cost);
        Self::with_fee(tokens_generated, total_cost, fee, share_out(rest, work)?, completed_at)
    }

    /// An outcome without a fee from contributions that are already shared out.
    ///
    /// # Errors
    /// [`OutcomeError::Unbalanced`] when the payments do not sum to the cost, [`OutcomeError::Twice`] when a node appears
    /// twice from one layer on, [`OutcomeError::Field`] when a value is out of bounds.
    pub fn new(
        tokens_generated: u64,
        total_cost: Amount,
        contributions: Vec<Contribution>,
        completed_at: UnixMillis,
    ) -> Result<Self, OutcomeError> {
        Self::with_fee(tokens_generated, total_cost, Amount::ZERO, contributions, completed_at)
    }

    /// An outcome from a fee and contributions that are already shared out.
    ///
    /// # Errors
    /// As [`Outcome::new`].
    pub fn with_fee(
        tokens_generated: u64,
        total_cost: Amount,
        fee: Amount,
        mut contributions: Vec<Contribution>,
        completed_at: UnixMillis,
    ) -> Result<Self, OutcomeError> {
        field::bigint("tokens_generated", tokens_generated)?;
        let mut keys = BTreeSet::new();
        for part in &contributions {
            field::id("node_id", &part.node_id)?;
            field::layers(part.layers_start, part.layers_end)?;
            field::bigint("tokens", part.tokens)?;
            field::bigint("token_layers", part.token_layers)?;
            field::bigint("compute_ms", part.compute_ms)?;
            if !keys.insert((part.layers_start, &part.node_id)) {
                return Err(OutcomeError::Twice { node_id: part.node_id.clone(), layers_start: part.layers_start });
            }
        }
        let payments = Amount::checked_sum(contributions.iter().map(|part| part.payment).chain([fee]));
        if payments != Some(total_cost) {
            return Err(OutcomeError::Unbalanced { payments, total_cost });
        }
        // The order in which the ledger gives them back, so that a repeated outcome can be compared.
        contributions.sort_by(|a, b| (a.layers_start, &a.node_id).cmp(&(b.layers_start, &b.node_id)));
        Ok(Self { tokens_generated, total_cost, fee, completed_at, contributions })
    }

    /// Tokens generated.
    pub fn tokens_generated(&self) -> u64 {
        self.tokens_generated
    }

    /// What the session cost.
    pub fn total_cost(&self) -> Amount {
        self.total_cost
    }

    /// What of the cost is the operator's.
    pub fn fee(&self) -> Amount {
        self.fee
    }

    /// When it ended.
    pub fn completed_at(&self) -> UnixMillis {
        self.completed_at
    }

    /// Whether both are one account, whenever they were made.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        let of = |outcome: &Self| (outcome.tokens_generated, outcome.total_cost, outcome.fee);
        of(self) == of(other) && self.contributions == other.contributions
    }

    /// Who did what, in the order of layers, then of nodes.
    pub fn contributions(&self) -> &[Contribution] {
        &self.contributions
    }
}

/// Layers run, summed over positions.
fn token_layers(work: &[Work]) -> u64 {
    let layers = |done: &Work| done.tokens.saturating_mul(done.layers_end.abs_diff(done.layers_start).into());
    work.iter().map(layers).fold(0, u64::saturating_add)
}

impl Status {
    /// The status as it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        [Self::Running, Self::Completed, Self::Failed]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(node_id: &str, payment: i64) -> Contribution {
        Contribution {
            node_id: node_id.into(),
            layers_start: 0,
            layers_end: 10,
            tokens: 5,
            token_layers: 50,
            compute_ms: 1,
            exact: true,
            payment: Amount::from_nano(payment).unwrap(),
        }
    }

    fn outcome(cost: i64, parts: Vec<Contribution>) -> Result<Outcome, OutcomeError> {
        Outcome::new(1, Amount::from_nano(cost).unwrap(), parts, UnixMillis::default())
    }

    #[test]
    fn only_a_balanced_outcome_can_be_made() {
        assert!(outcome(12, vec![part("a", 5), part("b", 7)]).is_ok());
        assert!(outcome(0, vec![]).is_ok());
        for (cost, parts) in [
            (11, vec![part("a", 5), part("b", 7)]),
            (13, vec![part("a", 5), part("b", 7)]),
            (1, vec![]),
            (i64::MAX, vec![part("a", i64::MAX), part("b", i64::MAX)]),
        ] {
            assert!(matches!(outcome(cost, parts), Err(OutcomeError::Unbalanced { .. })), "{cost}");
        }
    }

    #[test]
    fn work_that_nobody_vouches_for_is_paid_by_nobody_and_to_nobody() {
        let work = |node: &str, start, tokens| Work {
            node_id: node.into(),
            layers_start: start,
            layers_end: start + 10,
            tokens,
            compute_ms: 0,
            exact: true,
        };
        let price = Price::new(Amount::from_nano(7).unwrap());
        let settle = |work: &[Work], asked| {
            Outcome::settle_vouched(price, FeeRate::ZERO, 100, work, asked, UnixMillis::default()).unwrap()
        };
        let paid =
            |outcome: &Outcome| outcome.contributions().iter().map(|part| part.payment.nano()).collect::<Vec<_>>();
        let whole = settle(&[work("a", 0, 60), work("b", 10, 60)], 1200);
        assert_eq!((whole.total_cost().nano(), paid(&whole)), (700, vec![350, 350]));
        let part = settle(&[work("a", 0, 28), work("b", 10, 60)], 1200);
        assert_eq!((part.total_cost().nano(), paid(&part)), (513, vec![163, 350]), "b does not gain by a's loss");
        let none = settle(&[work("a", 0, 0), work("b", 10, 0)], 1200);
        assert_eq!((none.total_cost().nano(), paid(&none)), (0, vec![0, 0]));
    }

    #[test]
    fn a_part_is_named_once() {
        assert!(matches!(outcome(4, vec![part("a", 2), part("a", 2)]), Err(OutcomeError::Twice { .. })));
    }

    #[test]
    fn the_order_of_contributions_is_one() {
        assert_eq!(outcome(9, vec![part("b", 4), part("a", 5)]), outcome(9, vec![part("a", 5), part("b", 4)]));
    }

    #[test]
    fn a_price_beyond_bounds_is_refused() {
        let price = Price::new(Amount::MAX);
        let settled = Outcome::settle(price, 2, &[], UnixMillis::default());
        assert!(matches!(settled, Err(OutcomeError::Cost(_))), "{settled:?}");
    }

    #[test]
    fn numbers_that_no_row_holds_are_refused() {
        for broken in [
            Contribution { tokens: u64::MAX, ..part("a", 1) },
            Contribution { token_layers: 1 << 63, ..part("a", 1) },
            Contribution { layers_end: 0, ..part("a", 1) },
            Contribution { node_id: "a\0".into(), ..part("a", 1) },
            Contribution { node_id: "a".repeat(field::MAX_ID_BYTES + 1), ..part("a", 1) },
        ] {
            assert!(matches!(outcome(1, vec![broken]), Err(OutcomeError::Field(_))));
        }
    }
}
