//! The coordinator's side: receipts are collected as they come and settled against its own count.
//!
//! Invariant: what is settled does not depend on the order in which receipts came, and no position is accepted twice for
//! the same node and layers.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    ops::Range,
};

use super::{Cell, Committer, Receipt, Refusal, Work};
use crate::{
    id::{ModelHash, NodeId, SessionId, Span},
    limits::MAX_RECEIPT_TOKENS,
};

/// The receipts of one session, each once, with good signatures.
#[derive(Debug)]
pub struct Tally {
    session: SessionId,
    model: ModelHash,
    limit: usize,
    receipts: BTreeMap<Key, Receipt>,
}

/// In the order in which receipts are settled: those of upstream hops first.
type Key = (Span, Vec<u8>, Cell);

/// What the coordinator knows of a session without being told.
#[derive(Clone, Copy, Debug)]
pub struct Count<'a> {
    /// Who it is itself.
    pub coordinator: NodeId,
    /// Decoder layers of the model.
    pub layers: u32,
    /// What it asked of whom, lost hops among them.
    pub hops: &'a [Counted],
    /// Its commitment to the token ids that it sent.
    pub sent: &'a Committer,
    /// Its commitments to the rows that it received: one for each last hop that the route had.
    pub received: &'a [Committer],
}

/// A hop's place in a session, as the coordinator counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Who.
    pub node: NodeId,
    /// The layers it was asked to run.
    pub span: Span,
    /// The class it was planned with.
    pub kernel_class: String,
    /// The positions it is paid for. Where a hop took over from another, this says who is paid from where on: cut it at
    /// the start of a cell, since the one that left has no receipt for a cell it left unfinished, and the other ran all
    /// of it again.
    pub positions: Range<u32>,
}

/// What a session's receipts come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    /// By hop, in the order of their layers.
    pub accepted: Vec<Accepted>,
    /// Receipts that are not accepted, and why.
    pub refused: Vec<Refused>,
}

/// Work of one hop that is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Who.
    pub node: NodeId,
    /// The layers.
    pub span: Span,
    /// Positions with a good receipt.
    pub tokens: u64,
    /// Positions that were counted: more than `tokens` where receipts are missing or were refused.
    pub counted: u64,
    /// The good receipts, in the order of positions.
    pub receipts: Vec<Receipt>,
}

/// A receipt that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What it tells of.
    pub work: Work,
    /// Why not.
    pub reason: Refusal,
}

impl Tally {
    /// No receipts yet. `limit` is as many as the session can have: a bound on what is kept.
    pub fn new(session: SessionId, model: ModelHash, limit: usize) -> Self {
        Self { session, model, limit, receipts: BTreeMap::new() }
    }

    /// Takes in a receipt. Of two for the same node, layers and cell one is kept, whichever came first.
    ///
    /// # Errors
    /// [`Refusal`]: another session or model, a bad signature, a replay, or too many.
    pub fn take(&mut self, receipt: Receipt) -> Result<(), Refusal> {
        let work = receipt.work();
        if work.session != self.session {
            return Err(Refusal::Session { got: work.session, want: self.session });
        }
        if work.model != self.model {
            return Err(Refusal::Model { got: work.model, want: self.model });
        }
        let key = (work.span, work.node.to_bytes(), work.cell());
        let replayed = Refusal::Replayed { node: work.node, span: work.span, position: work.position };
        let known = self.receipts.get(&key);
        if known == Some(&receipt) {
            return Err(replayed);
        }
        if known.is_none() && self.receipts.len() >= self.limit {
            return Err(Refusal::TooMany { limit: self.limit });
        }
        receipt.verify()?;
        match self.receipts.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(receipt);
                Ok(())
            }
            // The node signed both. Which counts must not depend on which came first.
            Entry::Occupied(mut entry) => {
                if receipt.to_bytes()? < entry.get().to_bytes()? {
                    entry.insert(receipt);
                }
                Err(replayed)
            }
        }
    }

    /// Receipts kept.
    pub fn len(&self) -> usize {
        self.receipts.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.receipts.is_empty()
    }

    /// Compares the receipts with the coordinator's own count and with each other.
    pub fn settle(&self, count: &Count<'_>) -> Settlement {
        let mut settlement = Settlement::default();
        let mut good: HashMap<(NodeId, Span), (u64, Vec<Receipt>)> = HashMap::new();
        // What accepted work gave, by the layer behind it and its cell: the input of the next hop.
        let mut given: HashMap<(u32, Cell), Vec<&Work>> = HashMap::new();
        for receipt in self.receipts.values() {
            let work = receipt.work();
            let upstream = given.get(&(work.span.start(), work.cell())).map_or(&[][..], Vec::as_slice);
            match count.accepts(work, upstream) {
                Ok(accepted) => {
                    let (tokens, receipts) = good.entry((work.node, work.span)).or_default();
                    *tokens += accepted;
                    receipts.push(receipt.clone());
                    given.entry((work.span.end(), work.cell())).or_default().push(work);
                }
                Err(reason) => settlement.refused.push(Refused { work: work.clone(), reason }),
            }
        }
        let mut hops: Vec<(Span, NodeId)> = count.hops.iter().map(|hop| (hop.span, hop.node)).collect();
        hops.sort();
        hops.dedup();
        let accepted = |(span, node)| {
            let counted = count.positions(&node, span, 0..u32::MAX);
            let (tokens, receipts) = good.remove(&(node, span)).unwrap_or_default();
            Accepted { node, span, tokens, counted, receipts }
        };
        settlement.accepted = hops.into_iter().map(accepted).collect();
        settlement
    }
}

impl Count<'_> {
    /// How many positions of a work are accepted. `upstream` are accepted works on the same cell that end where it begins.
    fn accepts(&self, work: &Work, upstream: &[&Work]) -> Result<u64, Refusal> {
        let (node, span, positions) = (work.node, work.span, work.positions());
        let hop = self.hops.iter().find(|hop| hop.node == node && hop.span == span);
        let hop = hop.ok_or(Refusal::Stranger { node, span })?;
        if hop.kernel_class != work.kernel_class {
            let (got, want) = (work.kernel_class.clone(), hop.kernel_class.clone());
            return Err(Refusal::Class { got, want });
        }
        let cell = positions.start..positions.start.saturating_add(MAX_RECEIPT_TOKENS);
        let counted = self.positions(&node, span, positions.clone());
        if counted == 0 {
            return Err(Refusal::NotCounted { node, position: positions.start, end: positions.end });
        }
        // Else a hop could cut its cells otherwise than its neighbour does, and nothing could be compared.
        if self.positions(&node, span, cell.clone()) > counted {
            let ends = self.of(&node, span).map(|counted| counted.end.min(cell.end)).max();
            let (position, end) = (positions.start, positions.end);
            return Err(Refusal::Partial { node, position, end, counted: ends.unwrap_or(end) });
        }
        if !self.is_behind(work) {
            return Err(Refusal::Witness { span, witness: work.witness });
        }
        if !self.input_is_right(work, upstream) {
            return Err(Refusal::Input { node, got: work.input });
        }
        let last = span.end() == self.layers;
        let said = |received: &Committer| received.at(work.cell(), work.tokens) == Some(work.output);
        if last && !self.received.iter().any(said) {
            return Err(Refusal::Output { node, got: work.output });
        }
        Ok(counted)
    }

    /// Whether a work's witness is a node that results of its layers go to.
    fn is_behind(&self, work: &Work) -> bool {
        if work.span.end() == self.layers {
            return work.witness == self.coordinator;
        }
        work.witness != work.node
            && self.hops.iter().any(|hop| hop.node == work.witness && hop.span.start() == work.span.end())
    }

    /// Where the upstream neighbour has no accepted receipt there is nothing to compare with: withholding one must not
    /// cost its neighbour the pay.
    fn input_is_right(&self, work: &Work, upstream: &[&Work]) -> bool {
        if work.span.start() == 0 {
            return self.sent.at(work.cell(), work.tokens) == Some(work.input);
        }
        let mut alike = upstream.iter().filter(|before| before.tokens == work.tokens).peekable();
        alike.peek().is_none() || alike.any(|before| before.output == work.input)
    }

    fn of(&self, node: &NodeId, span: Span) -> impl Iterator<Item = Range<u32>> {
        let hops = self.hops.iter().filter(move |hop| hop.node == *node && hop.span == span);
        hops.map(|hop| hop.positions.clone())
    }

    /// How many of the positions `within` were counted for a node and span, each once.
    fn positions(&self, node: &NodeId, span: Span, within: Range<u32>) -> u64 {
        let mut ranges: Vec<_> = self.of(node, span).collect();
        ranges.sort_by_key(|range| range.start);
        let (mut next, mut sum) = (within.start, 0);
        for range in ranges {
            let (start, end) = (range.start.max(next), range.end.min(within.end));
            if start < end {
                sum += u64::from(end - start);
                next = end;
            }
        }
        sum
    }
}
