//! Frames: what nodes of a session say to each other, to bytes and back.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Attach, FrameError, HEADER_BYTES, Header, Kind, Lost, Next, Open, Reroute, Rerouted, State, Tally,
    control::{Fault, MAX_ADDRS},
    header::TOKEN_BYTES,
};
use crate::{
    activation::{Activation, Dtype},
    hop::{Done, Input, Rows, Step},
    receipt::{Receipt, Refusal, Signed},
};

/// One message of the shard protocol.
#[derive(Clone, Debug)]
pub enum Frame {
    /// Coordinator to first hop, or hop to next hop: a step to run. `output` is what the last hop gives back.
    Step(Step),
    /// Last hop to coordinator: a finished step.
    Output(Done),
    /// Coordinator to hop: say how far you are.
    Probe {
        /// Repeated in the answer.
        number: u64,
    },
    /// Hop to coordinator: answer to a probe.
    State(State),
    /// Coordinator to hop: begin a session.
    Open(Box<Open>),
    /// Hop to coordinator: there is room, and the data stream to the next hop is attached.
    Opened,
    /// Hop to next hop: this stream carries the steps of a session.
    Attach(Attach),
    /// Next hop to hop: send the results from this step on.
    Attached {
        /// The first step it lacks.
        next_seq: u64,
    },
    /// Coordinator to hop: this stream takes the place of the session's control stream.
    Resume(Attach),
    /// Either side: nothing more comes over this stream, the rest over the one that takes its place.
    Switch,
    /// Coordinator to hop: another neighbour.
    Reroute(Box<Reroute>),
    /// Hop to coordinator: answer to that.
    Rerouted(Rerouted),
    /// Hop to coordinator: a neighbour is lost; this session waits for another.
    Lost(Lost),
    /// Hop to the one behind it, or last hop to coordinator: what it did, to be signed by who got its results.
    Work(Box<Signed>),
    /// Hop to coordinator: what the hop before it did, signed by both.
    Receipt(Box<Receipt>),
    /// Coordinator to hop: end the session, say what you did. Hop to the one behind it: nothing more comes.
    Close,
    /// Hop to coordinator: what it did.
    Tally(Tally),
    /// Hop to coordinator or to the hop before it: the session is over or never began.
    Fault(Fault),
}

impl Frame {
    /// The frame's kind on the wire.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Step(Step { input: Input::Tokens(_), .. }) => Kind::Tokens,
            Self::Step(Step { input: Input::Activation(_), .. }) => Kind::Activation,
            Self::Output(_) => Kind::Output,
            Self::Probe { .. } => Kind::Probe,
            Self::State(_) => Kind::State,
            Self::Open(_) => Kind::Open,
            Self::Opened => Kind::Opened,
            Self::Attach(_) => Kind::Attach,
            Self::Attached { .. } => Kind::Attached,
            Self::Resume(_) => Kind::Resume,
            Self::Switch => Kind::Switch,
            Self::Reroute(_) => Kind::Reroute,
            Self::Rerouted(_) => Kind::Rerouted,
            Self::Lost(_) => Kind::Lost,
            Self::Work(_) => Kind::Work,
            Self::Receipt(_) => Kind::Receipt,
            Self::Close => Kind::Close,
            Self::Tally(_) => Kind::Tally,
            Self::Fault(_) => Kind::Fault,
        }
    }

    /// Header and payload of the frame on a stream of the session with this tag. An activation's bytes are shared.
    ///
    /// # Errors
    /// [`FrameError`] when the frame is beyond a limit: what [`Header::parse`] would refuse is never sent.
    pub(crate) fn encode(self, session: u64) -> Result<([u8; HEADER_BYTES], Bytes), FrameError> {
        let mut header = Header {
            kind: self.kind(),
            session,
            payload_bytes: 0,
            rows: Rows::None,
            dtype: Dtype::F32,
            seq: 0,
            position: 0,
            tokens: 0,
            hidden: 0,
        };
        let payload = match self {
            Self::Step(Step { seq, position, input, output }) => {
                (header.seq, header.position, header.rows) = (seq, position, output);
                match input {
                    Input::Tokens(ids) => {
                        header.tokens = ids.len();
                        let mut bytes = BytesMut::with_capacity(ids.len() * TOKEN_BYTES);
                        ids.iter().for_each(|id| bytes.put_u32_le(*id));
                        bytes.freeze()
                    }
                    Input::Activation(activation) => header.activation(&activation),
                }
            }
            Self::Output(Done { seq, output }) => {
                header.seq = seq;
                output.map(|activation| header.activation(&activation)).unwrap_or_default()
            }
            Self::Probe { number } => {
                header.seq = number;
                Bytes::new()
            }
            Self::Attached { next_seq } => {
                header.seq = next_seq;
                Bytes::new()
            }
            Self::State(body) => to_body(header.kind, &body)?,
            Self::Reroute(body) => to_body(header.kind, &body)?,
            Self::Rerouted(body) => to_body(header.kind, &body)?,
            Self::Lost(body) => to_body(header.kind, &body.bounded())?,
            Self::Open(body) => to_body(header.kind, &body)?,
            Self::Attach(body) | Self::Resume(body) => to_body(header.kind, &body)?,
            Self::Tally(body) => to_body(header.kind, &body)?,
            Self::Fault(body) => to_body(header.kind, &body.bounded())?,
            Self::Work(work) => signed_body(header.kind, work.to_bytes())?,
            Self::Receipt(receipt) => signed_body(header.kind, receipt.to_bytes())?,
            Self::Opened | Self::Close | Self::Switch => Bytes::new(),
        };
        header.payload_bytes = payload.len();
        let bytes = header.to_bytes();
        Header::parse(&bytes)?;
        Ok((bytes, payload))
    }

    /// Reads the payload that `header` announced.
    ///
    /// # Errors
    /// [`FrameError`] when the payload is not of that kind and length.
    pub fn decode(header: &Header, payload: Bytes) -> Result<Self, FrameError> {
        let Header { kind, seq, position, tokens, hidden, dtype, rows, payload_bytes, .. } = *header;
        if payload.len() != payload_bytes {
            return Err(FrameError::Length { got: payload.len(), min: payload_bytes, max: payload_bytes });
        }
        Ok(match kind {
            Kind::Tokens => {
                let ids = payload
                    .chunks_exact(TOKEN_BYTES)
                    .map(|id| u32::from_le_bytes([id[0], id[1], id[2], id[3]]))
                    .collect();
                Self::Step(Step { seq, position, input: Input::Tokens(ids), output: rows })
            }
            Kind::Activation => {
                let activation = Activation::new(tokens, hidden, dtype, payload)?;
                Self::Step(Step { seq, position, input: Input::Activation(activation), output: rows })
            }
            Kind::Output if tokens == 0 => Self::Output(Done { seq, output: None }),
            Kind::Output => Self::Output(Done { seq, output: Some(Activation::new(tokens, hidden, dtype, payload)?) }),
            Kind::Probe => Self::Probe { number: seq },
            Kind::State => Self::State(from_body(kind, &payload)?),
            Kind::Open => {
                let open: Box<Open> = from_body(kind, &payload)?;
                check_addrs(open.next.as_ref())?;
                Self::Open(open)
            }
            Kind::Opened => Self::Opened,
            Kind::Attach => Self::Attach(from_body(kind, &payload)?),
            Kind::Attached => Self::Attached { next_seq: seq },
            Kind::Resume => Self::Resume(from_body(kind, &payload)?),
            Kind::Switch => Self::Switch,
            Kind::Reroute => {
                let reroute: Box<Reroute> = from_body(kind, &payload)?;
                check_addrs(reroute.next.as_ref())?;
                Self::Reroute(reroute)
            }
            Kind::Rerouted => Self::Rerouted(from_body(kind, &payload)?),
            Kind::Lost => Self::Lost(from_body::<Lost>(kind, &payload)?.bounded()),
            Kind::Work => Self::Work(Box::new(readable(kind, Signed::from_bytes(&payload))?)),
            Kind::Receipt => Self::Receipt(Box::new(readable(kind, Receipt::from_bytes(&payload))?)),
            Kind::Close => Self::Close,
            Kind::Tally => Self::Tally(from_body(kind, &payload)?),
            Kind::Fault => Self::Fault(from_body::<Fault>(kind, &payload)?.bounded()),
        })
    }
}

fn check_addrs(next: Option<&Next>) -> Result<(), FrameError> {
    match next.map_or(0, |next| next.addrs.len()) {
        many if many > MAX_ADDRS => Err(FrameError::Field { field: "number of addresses", got: many as u64 }),
        _ => Ok(()),
    }
}

/// What is signed has a form of its own.
fn signed_body(kind: Kind, bytes: Result<Vec<u8>, Refusal>) -> Result<Bytes, FrameError> {
    readable(kind, bytes).map(Bytes::from)
}

fn readable<T>(kind: Kind, read: Result<T, Refusal>) -> Result<T, FrameError> {
    read.map_err(|refusal| FrameError::Body { kind, reason: refusal.to_string() })
}

fn to_body<T: Serialize>(kind: Kind, body: &T) -> Result<Bytes, FrameError> {
    postcard::to_stdvec(body).map(Bytes::from).map_err(|error| FrameError::Body { kind, reason: error.to_string() })
}

fn from_body<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<T, FrameError> {
    let unreadable = |reason: String| FrameError::Body { kind, reason };
    match postcard::take_from_bytes(bytes) {
        Ok((body, [])) => Ok(body),
        Ok((_, rest)) => Err(unreadable(format!("{} bytes too many", rest.len()))),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
