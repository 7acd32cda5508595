//! The coordinator's side of receipts: it signs for the last hop, collects what the others signed for each other, and
//! settles it against its own count.
//!
//! Signatures are checked while the hops compute, a few a step, so no token waits for them.

use std::{collections::VecDeque, ops::Range};

use libp2p::identity::Keypair;

use super::RemoteHop;
use crate::{
    activation::Activation,
    hop::{OpenSession, Step},
    id::{NodeId, SessionId, Span},
    limits::{MAX_HOPS, MAX_RECEIPT_TOKENS},
    receipt::{Accepted, Committer, Count, Counted, Receipt, Refusal, Settlement, Signed, Tally},
};

/// Receipts that are checked with one step: a hop gives one in [`MAX_RECEIPT_TOKENS`] steps.
const CHECKED_A_STEP: usize = 2;

/// Receipts of one cell that a hop may hand in: the hop before it may be replaced some times.
const RECEIPTS_A_CELL: usize = 4;

/// Receipts that are checked in a row when the session ends, before others have their turn.
const CHECKED_IN_A_ROW: usize = 32;

/// The receipts of one session, and what they are settled against.
#[derive(Debug)]
pub(super) struct Receipts {
    key: Keypair,
    tally: Tally,
    /// Came, but were not checked yet.
    inbox: VecDeque<Receipt>,
    /// How many one hop may hand in.
    of_a_hop: usize,
    sent: Committer,
    /// For each last hop that the route had; the one of now stands last.
    received: Vec<Committer>,
    /// Decoder layers of the route.
    layers: u32,
    /// Hops that left the route.
    gone: Vec<Counted>,
}

impl Receipts {
    pub(super) fn new(request: &OpenSession, hops: usize, key: Keypair) -> Self {
        let cells = request.context_tokens.div_ceil(MAX_RECEIPT_TOKENS) as usize;
        // A session that is mended again and again gets receipts from more hops than its route has.
        let limit = cells.saturating_mul((4 * hops).min(2 * MAX_HOPS));
        let of_a_hop = cells.saturating_mul(RECEIPTS_A_CELL);
        Self {
            key,
            tally: Tally::new(request.session, request.model, limit),
            inbox: VecDeque::new(),
            of_a_hop,
            sent: Committer::new(request.session),
            received: vec![Committer::new(request.session)],
            layers: request.span.end(),
            gone: Vec::new(),
        }
    }

    /// A step goes to the first hop.
    pub(super) fn sent(&mut self, step: &Step) {
        // Steps follow each other: there is no hole.
        let _ = self.sent.input(step.position, &step.input);
    }

    /// The result of a step of `tokens` positions came.
    pub(super) fn received(&mut self, position: u32, tokens: usize, output: Option<&Activation>) {
        if let Some(received) = self.received.last_mut() {
            let _ = received.output(position, tokens, output);
        }
    }

    /// Another node is the last of the route after `done` positions: it runs them again and gives none of their rows.
    pub(super) fn renew(&mut self, session: SessionId, done: u64) {
        let mut received = Committer::new(session);
        let _ = received.output(0, done as usize, None);
        self.received.push(received);
    }

    /// How many one hop may hand in.
    pub(super) fn of_a_hop(&self) -> usize {
        self.of_a_hop
    }

    /// Signs what the last hop says it gave, when that is what came.
    pub(super) fn witness(&mut self, node: NodeId, signed: Signed) {
        let Some(received) = self.received.last() else { return };
        match signed.witness(&node, received, &self.key) {
            Ok(receipt) => self.inbox.push_back(receipt),
            Err(error) => tracing::info!(%node, %error, "the last hop's work is not signed"),
        }
    }

    /// Takes in what a hop signed as the witness of the one before it; `known` says who ran layers of the session.
    pub(super) fn take(&mut self, from: NodeId, receipt: Receipt, known: impl Fn(NodeId, Span) -> bool) {
        let work = receipt.work();
        let gone = || self.gone.iter().any(|hop| (hop.node, hop.span) == (work.node, work.span));
        if work.witness == from && (known(work.node, work.span) || gone()) {
            self.inbox.push_back(receipt);
        } else {
            tracing::info!(node = %from, "a receipt of strangers is left out");
        }
    }

    /// Checks some of what came.
    pub(super) fn check(&mut self) {
        for receipt in self.inbox.drain(..CHECKED_A_STEP.min(self.inbox.len())) {
            enter(&mut self.tally, receipt);
        }
    }

    /// The position from which the work of a hop is paid that takes the place of another after `done` positions: the other
    /// has no receipt for the cell it left unfinished, and this one runs all of it again.
    pub(super) fn cut(done: u64) -> u32 {
        let done = u32::try_from(done).unwrap_or(u32::MAX);
        done - done % MAX_RECEIPT_TOKENS
    }

    /// A hop left the route.
    pub(super) fn left(&mut self, hop: &RemoteHop, positions: Range<u32>) {
        self.gone.push(counted(hop, positions));
    }

    /// Checks all that came.
    pub(super) async fn check_all(&mut self) {
        while !self.inbox.is_empty() {
            for receipt in self.inbox.drain(..CHECKED_IN_A_ROW.min(self.inbox.len())) {
                enter(&mut self.tally, receipt);
            }
            tokio::task::yield_now().await;
        }
    }

    /// What the checked receipts come to. `present` are the hops of the route and the positions they are counted for.
    pub(super) fn settle<'a>(self, present: impl Iterator<Item = (&'a RemoteHop, Range<u32>)>) -> Settlement {
        let mut hops = self.gone;
        hops.extend(present.map(|(hop, positions)| counted(hop, positions)));
        let (sent, received) = (&self.sent, &self.received);
        let coordinator = self.key.public().to_peer_id();
        let settlement = self.tally.settle(&Count { coordinator, layers: self.layers, hops: &hops, sent, received });
        for refused in &settlement.refused {
            let (node, reason) = (refused.work.node, &refused.reason);
            match reason {
                // A hop that took over tells of all it ran.
                Refusal::NotCounted { .. } => tracing::debug!(%node, %reason, "a receipt is not counted"),
                _ => tracing::warn!(%node, %reason, "a receipt is refused"),
            }
        }
        for Accepted { node, span, tokens, counted, .. } in
            settlement.accepted.iter().filter(|hop| hop.tokens < hop.counted)
        {
            tracing::info!(%node, %span, tokens, counted, "work without receipts is not paid");
        }
        settlement
    }
}

/// What of `settlement` is a hop's.
pub(super) fn accepted(settlement: &Settlement, node: NodeId, span: Span) -> (u64, u64) {
    let hop = settlement.accepted.iter().find(|hop| hop.node == node && hop.span == span);
    hop.map_or((0, 0), |hop| (hop.tokens, hop.counted))
}

fn counted(hop: &RemoteHop, positions: Range<u32>) -> Counted {
    Counted { node: hop.node, span: hop.span, kernel_class: hop.kernel_class.clone(), positions }
}

fn enter(tally: &mut Tally, receipt: Receipt) {
    let (node, position) = (receipt.work().node, receipt.work().position);
    match tally.take(receipt) {
        Ok(()) => {}
        // A neighbour that came later signs all works of the one before again.
        Err(reason @ Refusal::Replayed { .. }) => tracing::debug!(%node, position, %reason, "a receipt came twice"),
        Err(reason) => tracing::warn!(%node, position, %reason, "a receipt is refused"),
    }
}
