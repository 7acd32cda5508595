//! Finalizes sessions, many in one transaction: costs, contributions, totals of nodes, balances, journal and usage.
//!
//! Rows are locked in the order of the module `database`: sessions, nodes, accounts. What stands in them is then judged
//! here, session by session, each on top of those before it; what is refused leaves no trace, and all the others are
//! written together. One session is a batch of one.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    account::Party,
    contribution::{Contribution, ContributionRow},
    field,
    journal::{Kind, Line, Posting},
    session::{Outcome, Status},
    store::{
        books::{Books, append},
        contract::Finalized,
        database::{Database, Row, Sql, Transaction, bad, batch, query},
        error::{FinalizeError, ReadError},
        rows::{DAY_MS, user},
        sessions,
    },
};

const SESSIONS: Sql = Sql {
    sqlite: "SELECT id, status, tokens_generated, total_cost_far, fee_far, account_id, api_key_id, reserved_far
             FROM far_mesh_sessions WHERE id IN (SELECT value FROM json_each($1))",
    postgres: "SELECT id, status, tokens_generated, total_cost_far, fee_far, account_id, api_key_id, reserved_far
               FROM far_mesh_sessions WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE",
};

const NODES: Sql = Sql {
    sqlite: "SELECT node_id, total_tokens_served, total_earned_far FROM far_nodes
             WHERE node_id IN (SELECT value FROM json_each($1))",
    postgres: "SELECT node_id, total_tokens_served, total_earned_far FROM far_nodes
               WHERE node_id = ANY($1) ORDER BY node_id FOR NO KEY UPDATE",
};

batch! {
    static COMPLETE = "UPDATE far_mesh_sessions
        SET status = 'completed', tokens_generated = b.tokens, total_cost_far = b.cost, fee_far = b.fee, completed_at = b.at
        FROM"
        (session: Text, tokens: Int, cost: Int, fee: Int, at: Int)
        "WHERE far_mesh_sessions.id = b.session";
    static CONTRIBUTE = "INSERT INTO far_session_contributions
        (session_id, node_id, layers_start, layers_end, tokens_contributed, token_layers, compute_ms, exact, payment_far)
        SELECT b.session, b.node, b.layers_start, b.layers_end, b.tokens, b.token_layers, b.compute_ms, b.exact, b.payment
        FROM"
        (session: Text, node: Text, layers_start: Int, layers_end: Int, tokens: Int, token_layers: Int, compute_ms: Int,
         exact: Int, payment: Int)
        "";
    static EARN = "UPDATE far_nodes SET total_tokens_served = b.tokens, total_earned_far = b.earned FROM"
        (node: Text, tokens: Int, earned: Int)
        "WHERE far_nodes.node_id = b.node";
    static USE = "INSERT INTO far_usage (api_key_id, day, sessions, tokens, cost_far)
        SELECT b.api_key, b.day, b.sessions, b.tokens, b.cost FROM"
        (api_key: Text, day: Int, sessions: Int, tokens: Int, cost: Int)
        "WHERE TRUE ON CONFLICT (api_key_id, day) DO UPDATE SET
             sessions = far_usage.sessions + excluded.sessions,
             tokens = far_usage.tokens + excluded.tokens,
             cost_far = far_usage.cost_far + excluded.cost_far";
}

/// How a session ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closing<'a> {
    pub(crate) session_id: &'a str,
    pub(crate) outcome: &'a Outcome,
}

/// What is decided by of a session.
#[derive(Debug)]
struct Standing {
    status: Status,
    tokens: u64,
    cost: i64,
    fee: i64,
    payer: Party,
    api_key: Option<String>,
    reserved: i64,
}

/// A node's totals.
#[derive(Clone, Copy, Debug)]
struct Totals {
    tokens: i64,
    earned: i64,
}

/// Finalizes sessions and says of each what became of it. An error of all of them means that none was written.
pub(crate) async fn finalize_all(
    database: &Database,
    closings: &[Closing<'_>],
) -> Result<Vec<Result<Finalized, FinalizeError>>, ReadError> {
    let mut transaction = database.begin().await?;
    let mut batch = Batch::lock(&mut transaction, closings).await?;
    let mut done = Vec::with_capacity(closings.len());
    for closing in closings {
        done.push(batch.judge(&mut transaction, *closing).await);
    }
    if !batch.accepted.is_empty() {
        batch.write(&mut transaction).await?;
        transaction.commit().await?;
    }
    Ok(done)
}

/// Finalizes one session.
pub(crate) async fn finalize(
    database: &Database,
    session_id: &str,
    outcome: &Outcome,
) -> Result<Finalized, FinalizeError> {
    let done = finalize_all(database, &[Closing { session_id, outcome }]).await?;
    done.into_iter().next().unwrap_or_else(|| Err(FinalizeError::UnknownSession { session_id: session_id.to_owned() }))
}

/// Locked rows, and what is to be written.
struct Batch<'a> {
    sessions: BTreeMap<String, Standing>,
    nodes: BTreeMap<String, Totals>,
    books: Books,
    accepted: BTreeMap<&'a str, &'a Outcome>,
    postings: Vec<Posting>,
    usage: BTreeMap<(String, i64), (i64, i64, i64)>,
}

impl<'a> Batch<'a> {
    async fn lock(transaction: &mut Transaction, closings: &[Closing<'a>]) -> Result<Self, ReadError> {
        let ids: BTreeSet<_> = closings.iter().map(|closing| closing.session_id.to_owned()).collect();
        let mut sessions = BTreeMap::new();
        for row in query(SESSIONS).bind(ids.into_iter().collect::<Vec<_>>()).fetch_all(transaction).await? {
            sessions.insert(row.get("id")?, Standing::read(&row)?);
        }
        let parts = || closings.iter().flat_map(|closing| closing.outcome.contributions());
        let names: BTreeSet<_> = parts().map(|part| part.node_id.clone()).collect();
        let mut nodes = BTreeMap::new();
        for row in query(NODES).bind(names.iter().cloned().collect::<Vec<_>>()).fetch_all(transaction).await? {
            let totals = Totals { tokens: row.number("total_tokens_served")?, earned: row.number("total_earned_far")? };
            nodes.insert(row.get("node_id")?, totals);
        }
        let mut keys: BTreeSet<_> = names.into_iter().map(|name| Party::Node(name).to_string()).collect();
        keys.extend(sessions.values().map(|session| session.payer.to_string()));
        keys.insert(Party::Fees.to_string());
        let books = Books::lock(transaction, keys).await?;
        Ok(Self { sessions, nodes, books, accepted: BTreeMap::new(), postings: Vec::new(), usage: BTreeMap::new() })
    }

    /// Decides on one session, on top of those accepted before it.
    async fn judge(&mut self, transaction: &mut Transaction, closing: Closing<'a>) -> Result<Finalized, FinalizeError> {
        let Closing { session_id, outcome } = closing;
        let own = || session_id.to_owned();
        let same = |same: bool| {
            if same { Ok(Finalized::Before) } else { Err(FinalizeError::Conflict { session_id: own() }) }
        };
        let standing =
            self.sessions.get(session_id).ok_or_else(|| FinalizeError::UnknownSession { session_id: own() })?;
        if let Some(accepted) = self.accepted.get(session_id) {
            return same(accepted.says_the_same(outcome));
        }
        match standing.status {
            Status::Running => self.accept(closing),
            Status::Failed => Err(FinalizeError::Failed { session_id: own() }),
            Status::Completed => {
                let rows = sessions::contributions(transaction, session_id).await?;
                same(standing.says_the_same(&rows, outcome))
            }
        }
    }

    fn accept(&mut self, closing: Closing<'a>) -> Result<Finalized, FinalizeError> {
        let Closing { session_id, outcome } = closing;
        let Some(standing) = self.sessions.get(session_id) else {
            return Err(FinalizeError::UnknownSession { session_id: session_id.to_owned() });
        };
        let tokens = field::bigint("tokens_generated", outcome.tokens_generated())?;
        let nodes = self.totals(outcome.contributions())?;
        let posting = posting(session_id, &standing.payer, outcome);
        let mut draft = self.books.draft();
        draft.release(&standing.payer, standing.reserved)?;
        posting.lines.iter().try_for_each(|line| draft.apply(line))?;
        let moves = draft.finish();
        // Nothing is refused from here on.
        if let Some(key) = &standing.api_key {
            let day = outcome.completed_at().get().div_euclid(DAY_MS);
            let used = self.usage.entry((key.clone(), day)).or_default();
            used.0 = used.0.saturating_add(1);
            used.1 = used.1.saturating_add(tokens);
            used.2 = used.2.saturating_add(outcome.total_cost().nano());
        }
        self.books.accept(moves);
        self.nodes.extend(nodes);
        self.postings.push(posting);
        self.accepted.insert(session_id, outcome);
        Ok(Finalized::Now)
    }

    /// The totals of nodes after their parts.
    fn totals(&self, parts: &[Contribution]) -> Result<BTreeMap<String, Totals>, FinalizeError> {
        let mut changed = BTreeMap::<String, Totals>::new();
        for part in parts {
            let node_id = &part.node_id;
            let found = changed.get(node_id).or_else(|| self.nodes.get(node_id)).copied();
            let found = found.ok_or_else(|| FinalizeError::UnknownNode { node_id: node_id.clone() })?;
            let overflow = || FinalizeError::Overflow { node_id: node_id.clone() };
            let tokens = field::bigint("tokens", part.tokens)?;
            let totals = Totals {
                tokens: found.tokens.checked_add(tokens).ok_or_else(overflow)?,
                earned: found.earned.checked_add(part.payment.nano()).ok_or_else(overflow)?,
            };
            changed.insert(node_id.clone(), totals);
        }
        Ok(changed)
    }

    async fn write(self, transaction: &mut Transaction) -> Result<(), ReadError> {
        let (mut complete, mut contribute, mut earn, mut used) =
            (COMPLETE.rows(), CONTRIBUTE.rows(), EARN.rows(), USE.rows());
        let mut earning = BTreeSet::new();
        for (session_id, outcome) in &self.accepted {
            complete.push((
                *session_id,
                bigint("tokens_generated", outcome.tokens_generated())?,
                outcome.total_cost().nano(),
                outcome.fee().nano(),
                outcome.completed_at().get(),
            ));
            for part in outcome.contributions() {
                earning.insert(&part.node_id);
                contribute.push((
                    *session_id,
                    part.node_id.as_str(),
                    i64::from(part.layers_start),
                    i64::from(part.layers_end),
                    bigint("tokens", part.tokens)?,
                    bigint("token_layers", part.token_layers)?,
                    bigint("compute_ms", part.compute_ms)?,
                    i64::from(part.exact),
                    part.payment.nano(),
                ));
            }
        }
        for (node_id, totals) in self.nodes.iter().filter(|(node_id, _)| earning.contains(node_id)) {
            earn.push((node_id.as_str(), totals.tokens, totals.earned));
        }
        for ((key, day), (sessions, tokens, cost)) in self.usage {
            used.push((key, day, sessions, tokens, cost));
        }
        complete.execute(transaction).await?;
        contribute.execute(transaction).await?;
        earn.execute(transaction).await?;
        self.books.write(transaction).await?;
        // A running session has no posting.
        append(transaction, &self.postings).await?;
        used.execute(transaction).await?;
        Ok(())
    }
}

impl Standing {
    fn read(row: &Row) -> Result<Self, ReadError> {
        let status: String = row.get("status")?;
        let account: Option<String> = row.get("account_id")?;
        Ok(Self {
            status: status.parse().map_err(|_| bad("status", &status))?,
            tokens: row.number("tokens_generated")?,
            cost: row.amount("total_cost_far")?.nano(),
            fee: row.amount("fee_far")?.nano(),
            payer: account.map_or(Ok(Party::Open), |key| user(&key).map(Party::User))?,
            api_key: row.get("api_key_id")?,
            reserved: row.amount("reserved_far")?.nano(),
        })
    }

    /// The same account, whenever it was written.
    fn says_the_same(&self, rows: &[ContributionRow], outcome: &Outcome) -> bool {
        self.tokens == outcome.tokens_generated()
            && self.cost == outcome.total_cost().nano()
            && self.fee == outcome.fee().nano()
            && rows.iter().map(|row| &row.contribution).eq(outcome.contributions())
    }
}

/// The payer's FAR goes to the nodes and to the operator.
fn posting(session_id: &str, payer: &Party, outcome: &Outcome) -> Posting {
    let shares = outcome.contributions().iter().map(|part| (Party::Node(part.node_id.clone()), part.payment));
    let lines = shares.chain([(Party::Fees, outcome.fee())]);
    let lines = lines.map(|(credit, amount)| Line { debit: payer.clone(), credit, amount });
    Posting::new(Kind::Session, session_id, lines, outcome.completed_at())
}

fn bigint(field: &'static str, value: u64) -> Result<i64, ReadError> {
    field::bigint(field, value).map_err(|_| bad(field, value))
}
