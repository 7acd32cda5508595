//! What a store of the ledger does.

use std::fmt;

use futures::future::BoxFuture;

use crate::{
    contribution::ContributionRow,
    node::{Node, NodeEarnings, NodeModel, NodeRow},
    session::{NewSession, Outcome, Session},
    store::error::{BackendError, BeginError, FailError, FinalizeError, NodeError, ReadError},
    time::UnixMillis,
};

/// Keeps sessions, nodes and contributions.
///
/// Every write is one transaction: it happens as a whole or not at all, and when the future returns `Ok` it is on the
/// disk. A dropped future may or may not have written; every write may be repeated, and the repetition changes nothing.
pub trait Store: Send + Sync + fmt::Debug {
    /// Writes what a node says of itself and marks it active. Its totals stay; so does its wallet where `node` names
    /// none, and `last_seen` never goes back.
    ///
    /// # Errors
    /// [`NodeError::Field`] when a value cannot be stored.
    fn upsert_node<'a>(&'a self, node: &'a Node) -> BoxFuture<'a, Result<(), NodeError>>;

    /// Writes that a node serves layers of a model.
    ///
    /// # Errors
    /// [`NodeError::Unknown`] before [`Store::upsert_node`], [`NodeError::Field`] when a value cannot be stored.
    fn upsert_node_model<'a>(&'a self, model: &'a NodeModel) -> BoxFuture<'a, Result<(), NodeError>>;

    /// Writes that a node left: it serves no model and is not active until it is upserted again.
    ///
    /// # Errors
    /// [`NodeError::Unknown`] when there is no such node.
    fn withdraw_node_models<'a>(&'a self, node_id: &'a str) -> BoxFuture<'a, Result<(), NodeError>>;

    /// Writes that a node was heard of. An earlier time than the stored one changes nothing.
    ///
    /// # Errors
    /// [`NodeError::Unknown`] when there is no such node.
    fn update_node_last_seen<'a>(&'a self, node_id: &'a str, seen: UnixMillis) -> BoxFuture<'a, Result<(), NodeError>>;

    /// Writes that a session began, and holds what it may cost of its payer's balance, if it has one.
    ///
    /// # Errors
    /// [`BeginError::Insufficient`] when the payer has less, [`BeginError::Conflict`] when another session has its
    /// identifier, [`BeginError::Field`] when a value cannot be stored.
    fn begin_session<'a>(&'a self, session: &'a NewSession) -> BoxFuture<'a, Result<(), BeginError>>;

    /// Writes a session's cost and contributions, adds them to the totals of its nodes, moves the cost from its payer to
    /// nodes and operator, and releases what was held beyond it.
    ///
    /// Exactly once: the same tokens, cost and contributions again are [`Finalized::Before`] and change nothing (the time
    /// of the first call stays), others are refused.
    ///
    /// # Errors
    /// [`FinalizeError`]; nothing is written then.
    fn finalize_session<'a>(
        &'a self,
        session_id: &'a str,
        outcome: &'a Outcome,
    ) -> BoxFuture<'a, Result<Finalized, FinalizeError>>;

    /// Writes that a session ended without a cost, and releases what it held. On a failed session this changes nothing.
    ///
    /// # Errors
    /// [`FailError::UnknownSession`], or [`FailError::Completed`] when the session was finalized.
    fn fail_session<'a>(
        &'a self,
        session_id: &'a str,
        reason: &'a str,
        at: UnixMillis,
    ) -> BoxFuture<'a, Result<(), FailError>>;

    /// A session; `None` when there is none of this name.
    fn session<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<Option<Session>, ReadError>>;

    /// The contributions to a session, in the order of layers, then of nodes.
    fn contributions<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<Vec<ContributionRow>, ReadError>>;

    /// The nodes that did not leave and were heard of at `since` or later, in the order of their identifiers.
    fn active_nodes(&self, since: UnixMillis) -> BoxFuture<'_, Result<Vec<NodeRow>, ReadError>>;

    /// What a node earned; `None` when there is no such node.
    fn node_earnings<'a>(&'a self, node_id: &'a str) -> BoxFuture<'a, Result<Option<NodeEarnings>, ReadError>>;

    /// Whether the store reads and could write now.
    fn health(&self) -> BoxFuture<'_, Result<Health, BackendError>>;

    /// Ends all work and lets the database go. Whatever is asked later fails with [`BackendError::Closed`].
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// What [`Store::finalize_session`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finalized {
    /// It wrote the account.
    Now,
    /// The same account was written before; nothing changed.
    Before,
}

/// State of a store that works.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Number of the last migration.
    pub schema_version: i64,
}
