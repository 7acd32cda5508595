//! Commitments to the rows that cross a link, made while they cross.
//!
//! Within a cell the rows are chained: `c(-1) = H(domain, session, cell)`, `c(n) = H(c(n-1), row n)`, where a row is hashed
//! with its position, element type and width. The commitment to the first `n + 1` positions of the cell is `c(n)`, so both
//! sides can also close a cell that the session left unfinished. Cells do not depend on each other: what differs in one
//! leaves the next as it is.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    activation::{Activation, Dtype},
    hop::Input,
    id::SessionId,
    limits::MAX_RECEIPT_TOKENS,
};

/// Separates these hashes from all others.
const DOMAIN: &[u8] = b"far-mesh rows 1\0";

/// Element types of rows, as they are hashed.
const TOKEN_ID: u8 = 0x80;
/// A row that nobody asked for: an inner chunk of a prompt at the end of a route.
const ABSENT: u8 = 0x81;

/// SHA-256 that stands for the rows of consecutive positions on one link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Commitment(pub [u8; 32]);

/// A run of [`MAX_RECEIPT_TOKENS`] positions of a session, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell(pub u32);

/// Rows came with a hole before them: a caller's mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("rows from position {got} cannot be committed to, {due} is due")]
pub struct GapError {
    /// Position of the first row.
    pub got: u32,
    /// Position that was due at the latest.
    pub due: u32,
}

/// Commits to the rows of one direction of one link, in the order of their positions.
///
/// Rows that were committed to before are passed over, so a replay changes nothing. Holds 32 bytes a cell, which is one
/// byte a position, and 2 KiB.
#[derive(Clone, Debug)]
pub struct Committer {
    session: SessionId,
    /// Last commitment of every full cell.
    full: Vec<Commitment>,
    /// Commitments of the cell that is being filled, one a row.
    open: Vec<Commitment>,
    /// Those of the cell before: a neighbour may end in the middle of it while later steps are on their way.
    last: Vec<Commitment>,
}

impl Cell {
    /// The cell that holds a position.
    pub fn of(position: u32) -> Self {
        Self(position / MAX_RECEIPT_TOKENS)
    }

    /// Its first position; `None` when no position of a session can be there.
    pub fn start(self) -> Option<u32> {
        self.0.checked_mul(MAX_RECEIPT_TOKENS)
    }
}

impl Committer {
    /// A link of `session` over which nothing came yet.
    pub fn new(session: SessionId) -> Self {
        Self { session, full: Vec::new(), open: Vec::new(), last: Vec::new() }
    }

    /// The session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The position after the last that was committed to.
    pub fn next(&self) -> u32 {
        self.full.len() as u32 * MAX_RECEIPT_TOKENS + self.open.len() as u32
    }

    /// The commitment to the first `tokens` positions of a cell, where they came and it is still known: of the last two
    /// cells any number of them, of those before only the whole.
    pub fn at(&self, cell: Cell, tokens: u32) -> Option<Commitment> {
        let (index, row) = (cell.0 as usize, tokens.checked_sub(1)? as usize);
        if tokens == MAX_RECEIPT_TOKENS {
            return self.full.get(index).copied();
        }
        match self.full.len().checked_sub(index)? {
            0 => self.open.get(row).copied(),
            1 => self.last.get(row).copied(),
            _ => None,
        }
    }

    /// Commits to the input of a step.
    ///
    /// # Errors
    /// [`GapError`] when positions before it are missing; nothing is committed to then.
    pub fn input(&mut self, position: u32, input: &Input) -> Result<(), GapError> {
        match input {
            Input::Tokens(ids) => self.rows(position, ids.len(), |at| Row {
                kind: TOKEN_ID,
                width: 1,
                bytes: RowBytes::Token(ids[at].to_le_bytes()),
            }),
            Input::Activation(activation) => self.output(position, activation.tokens(), Some(activation)),
        }
    }

    /// Commits to what a step of `tokens` positions gave: the rows of the last of them; those before were not asked for.
    ///
    /// # Errors
    /// As [`Committer::input`].
    pub fn output(&mut self, position: u32, tokens: usize, output: Option<&Activation>) -> Result<(), GapError> {
        let absent = tokens - output.map_or(0, Activation::tokens).min(tokens);
        self.rows(position, tokens, |at| match output {
            Some(activation) if at >= absent => {
                let bytes = activation.hidden() * activation.dtype().bytes();
                let from = (at - absent) * bytes;
                Row {
                    kind: dtype_tag(activation.dtype()),
                    width: activation.hidden() as u32,
                    bytes: RowBytes::Values(&activation.bytes()[from..from + bytes]),
                }
            }
            _ => Row { kind: ABSENT, width: 0, bytes: RowBytes::Values(&[]) },
        })
    }

    fn rows<'a>(&mut self, position: u32, tokens: usize, row: impl Fn(usize) -> Row<'a>) -> Result<(), GapError> {
        let due = self.next();
        let known = due.checked_sub(position).ok_or(GapError { got: position, due })?;
        for at in (known as usize)..tokens {
            self.push(row(at));
        }
        Ok(())
    }

    fn push(&mut self, row: Row<'_>) {
        let position = self.next();
        let before = self.open.last().copied().unwrap_or_else(|| self.first(Cell::of(position)));
        let mut hash = Sha256::new();
        hash.update(before.0);
        hash.update(position.to_le_bytes());
        hash.update([row.kind]);
        hash.update(row.width.to_le_bytes());
        hash.update(match &row.bytes {
            RowBytes::Token(id) => id.as_slice(),
            RowBytes::Values(values) => values,
        });
        let now = Commitment(hash.finalize().into());
        self.open.push(now);
        if self.open.len() as u32 == MAX_RECEIPT_TOKENS {
            self.full.push(now);
            std::mem::swap(&mut self.open, &mut self.last);
            self.open.clear();
        }
    }

    /// What the first row of a cell is chained to.
    fn first(&self, cell: Cell) -> Commitment {
        let hash = Sha256::new().chain_update(DOMAIN).chain_update(self.session.0).chain_update(cell.0.to_le_bytes());
        Commitment(hash.finalize().into())
    }
}

/// One row as it is hashed.
struct Row<'a> {
    kind: u8,
    width: u32,
    bytes: RowBytes<'a>,
}

enum RowBytes<'a> {
    Token([u8; 4]),
    Values(&'a [u8]),
}

/// The type's number on the wire, which is below those of other rows.
fn dtype_tag(dtype: Dtype) -> u8 {
    dtype as u8
}

impl fmt::Display for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Commitment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Commitment({self})")
    }
}
