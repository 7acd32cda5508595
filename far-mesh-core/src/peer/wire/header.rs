//! The fixed header of a frame, checked by hand.
//!
//! ```text
//! 0       4  length of all that follows, u32
//! 4       1  version            5  1  kind        6  1  rows      7  1  dtype
//! 8       8  first 8 bytes of the session
//! 16      8  seq (steps, outputs; the first that is lacked) or number (probes), u64
//! 24      4  position, u32     28  4  tokens, u32               32  4  hidden, u32
//! 36         payload: token ids (u32), an activation, or a control body (postcard)
//! ```
//!
//! All integers are little-endian; a field that a kind does not use is zero. [`Header::parse`] checks every field before
//! a byte of payload is read or room for it is made.

use bytes::Bytes;

use super::PROTOCOL_VERSION;
use crate::{
    activation::{Activation, ActivationError, Dtype},
    hop::Rows,
    id::SessionId,
    limits::{MAX_CHUNK_TOKENS, MAX_CONTROL_BYTES, MAX_FRAME_BYTES, MAX_HIDDEN},
    receipt::{MAX_RECEIPT_BYTES, MAX_SIGNED_BYTES},
};

/// Bytes before the payload, the length included.
pub const HEADER_BYTES: usize = 36;

/// Bytes of the length, which does not count itself.
pub(super) const LENGTH_BYTES: usize = 4;
/// Bytes of a token id.
pub(super) const TOKEN_BYTES: usize = size_of::<u32>();

const _: () = assert!(MAX_CHUNK_TOKENS * MAX_HIDDEN * 4 + HEADER_BYTES <= MAX_FRAME_BYTES);
const _: () = assert!(MAX_CONTROL_BYTES + HEADER_BYTES <= MAX_FRAME_BYTES);

/// Kind of a frame on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is the frame of that name; a step's kind says what its input is")]
pub enum Kind {
    Tokens = 1,
    Activation = 2,
    Output = 3,
    Probe = 4,
    State = 5,
    Open = 6,
    Opened = 7,
    Attach = 8,
    Attached = 9,
    Close = 10,
    Tally = 11,
    Fault = 12,
    Reroute = 13,
    Rerouted = 14,
    Lost = 15,
    Work = 16,
    Receipt = 17,
    Resume = 18,
    Switch = 19,
}

/// A header that was checked: the payload it announces is allowed and of the right length for its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What follows.
    pub kind: Kind,
    /// First bytes of the session.
    pub session: u64,
    /// Bytes of payload.
    pub payload_bytes: usize,
    pub(super) rows: Rows,
    pub(super) dtype: Dtype,
    pub(super) seq: u64,
    pub(super) position: u32,
    pub(super) tokens: usize,
    pub(super) hidden: usize,
}

/// Why bytes are not a frame. The stream is of no more use: where the next frame starts is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length cannot be that of a frame.
    #[error("frame of {got} bytes, must be {min} to {max}")]
    Length {
        /// Bytes announced.
        got: usize,
        /// Least.
        min: usize,
        /// Most that this kind may have here.
        max: usize,
    },
    /// Another version of the protocol.
    #[error("frame of protocol version {got}, this node speaks {PROTOCOL_VERSION}: update the older node")]
    Version {
        /// Version announced.
        got: u8,
    },
    /// A field has a value that means nothing.
    #[error("{field} of a frame is {got}, which means nothing there")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        got: u64,
    },
    /// The frame belongs to another session than the stream.
    #[error("frame of session {got:016x} on a stream of session {want:016x}")]
    Session {
        /// Announced.
        got: u64,
        /// Of the stream.
        want: u64,
    },
    /// Number of positions out of bounds.
    #[error("step of {got} tokens, must be 1 to {MAX_CHUNK_TOKENS}")]
    Tokens {
        /// Announced.
        got: usize,
    },
    /// Payload does not fit the shape.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// A control body cannot be read.
    #[error("body of a {kind:?} frame cannot be read: {reason}")]
    Body {
        /// Kind of the frame.
        kind: Kind,
        /// What the decoder said.
        reason: String,
    },
    /// The frame is whole but has no place here.
    #[error("{got:?} frame where {want} was due")]
    Unexpected {
        /// What came.
        got: Kind,
        /// What was due.
        want: &'static str,
    },
}

/// The part of a session's identifier that every frame repeats, so that mixed-up streams never mix sessions.
pub(crate) fn session_tag(session: SessionId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = session.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

impl Kind {
    pub(super) const ALL: [Self; 19] = [
        Self::Tokens,
        Self::Activation,
        Self::Output,
        Self::Probe,
        Self::State,
        Self::Open,
        Self::Opened,
        Self::Attach,
        Self::Attached,
        Self::Close,
        Self::Tally,
        Self::Fault,
        Self::Reroute,
        Self::Rerouted,
        Self::Lost,
        Self::Work,
        Self::Receipt,
        Self::Resume,
        Self::Switch,
    ];

    fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

impl Header {
    /// Checks a header: version, kind, and that the length is exactly what the shape needs.
    ///
    /// # Errors
    /// [`FrameError`] naming the first field that is wrong.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let length = u32_at(0) as usize;
        if bytes[4] != PROTOCOL_VERSION {
            return Err(FrameError::Version { got: bytes[4] });
        }
        let field = |field, got: u8| FrameError::Field { field, got: u64::from(got) };
        let header = Self {
            kind: Kind::from_wire(bytes[5]).ok_or(field("kind", bytes[5]))?,
            rows: Rows::from_wire(bytes[6]).ok_or(field("rows", bytes[6]))?,
            dtype: Dtype::from_wire(bytes[7]).ok_or(field("dtype", bytes[7]))?,
            session: u64_at(8),
            seq: u64_at(16),
            position: u32_at(24),
            tokens: u32_at(28) as usize,
            hidden: u32_at(32) as usize,
            payload_bytes: 0,
        };
        let (least, most) = header.payload_bounds()?;
        let (min, max) = (least + HEADER_BYTES - LENGTH_BYTES, most + HEADER_BYTES - LENGTH_BYTES);
        if !(min..=max).contains(&length) {
            return Err(FrameError::Length { got: length, min, max });
        }
        header.check_unused()?;
        Ok(Self { payload_bytes: length + LENGTH_BYTES - HEADER_BYTES, ..header })
    }

    /// Whether the kind may open a stream, that is before anybody checked who sends it.
    pub(crate) fn is_greeting(&self) -> bool {
        matches!(self.kind, Kind::Open | Kind::Attach | Kind::Resume)
    }

    /// Least and most bytes of payload.
    fn payload_bounds(&self) -> Result<(usize, usize), FrameError> {
        let exactly = |bytes| Ok((bytes, bytes));
        match self.kind {
            Kind::Tokens if (1..=MAX_CHUNK_TOKENS).contains(&self.tokens) => exactly(self.tokens * TOKEN_BYTES),
            Kind::Tokens => Err(FrameError::Tokens { got: self.tokens }),
            Kind::Output if self.tokens == 0 => exactly(0),
            Kind::Activation | Kind::Output => {
                let (tokens, hidden) = (self.tokens, self.hidden);
                if !(1..=MAX_CHUNK_TOKENS).contains(&tokens) || !(1..=MAX_HIDDEN).contains(&hidden) {
                    return Err(ActivationError::Shape { tokens, hidden }.into());
                }
                exactly(tokens * hidden * self.dtype.bytes())
            }
            Kind::Probe | Kind::Opened | Kind::Attached | Kind::Close | Kind::Switch => exactly(0),
            Kind::State
            | Kind::Open
            | Kind::Attach
            | Kind::Resume
            | Kind::Tally
            | Kind::Fault
            | Kind::Reroute
            | Kind::Rerouted
            | Kind::Lost => Ok((1, MAX_CONTROL_BYTES)),
            Kind::Work => Ok((1, MAX_SIGNED_BYTES)),
            Kind::Receipt => Ok((1, MAX_RECEIPT_BYTES)),
        }
    }

    /// A field that the kind does not use is zero.
    fn check_unused(&self) -> Result<(), FrameError> {
        let Self { kind, seq, tokens, hidden, position, .. } = *self;
        let step = matches!(kind, Kind::Tokens | Kind::Activation);
        let shaped = kind == Kind::Activation || (kind == Kind::Output && tokens > 0);
        let unused = [
            ("rows", !step, self.rows as u64),
            ("position", !step, position.into()),
            ("seq", !step && !matches!(kind, Kind::Output | Kind::Probe | Kind::Attached), seq),
            ("tokens", !step && !shaped, tokens as u64),
            ("hidden", !shaped, hidden as u64),
            ("dtype", !shaped, self.dtype as u64),
        ];
        match unused.into_iter().find(|(_, unused, value)| *unused && *value != 0) {
            Some((field, _, got)) => Err(FrameError::Field { field, got }),
            None => Ok(()),
        }
    }

    /// Describes an activation; its bytes are the payload.
    pub(super) fn activation(&mut self, activation: &Activation) -> Bytes {
        (self.tokens, self.hidden, self.dtype) = (activation.tokens(), activation.hidden(), activation.dtype());
        activation.bytes().clone()
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        // A value that does not fit its field becomes one that `parse` refuses.
        let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&narrow(self.payload_bytes + HEADER_BYTES - LENGTH_BYTES));
        bytes[4..8].copy_from_slice(&[PROTOCOL_VERSION, self.kind as u8, self.rows as u8, self.dtype as u8]);
        bytes[8..16].copy_from_slice(&self.session.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.seq.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.position.to_le_bytes());
        bytes[28..32].copy_from_slice(&narrow(self.tokens));
        bytes[32..36].copy_from_slice(&narrow(self.hidden));
        bytes
    }
}
