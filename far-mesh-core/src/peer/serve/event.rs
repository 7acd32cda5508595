//! What happens on a session's streams that its driver has to act on.

use super::intake::WrongResult;
use crate::{
    hop::Step,
    id::NodeId,
    peer::wire::{Fault, Reroute},
};

/// What the driver of the session has to act on.
#[derive(Debug)]
pub(super) enum Event {
    /// A step to run.
    Step(Step),
    /// Another neighbour.
    Reroute(Box<Reroute>),
    /// The node that steps come from goes on over another stream.
    Switch(NodeId),
    /// The session is over.
    End(End),
}

/// How a session ends.
#[derive(Debug)]
pub(super) enum End {
    /// The coordinator is gone: nobody is to be told.
    Gone(String),
    /// The coordinator asks for the account.
    Close,
    /// The coordinator must hear of this.
    Fault(Fault),
}

/// A step, or another frame of the coordinator, that breaks the protocol.
pub(super) fn bad_step(reason: String) -> End {
    End::Fault(Fault::BadStep(reason))
}

impl From<WrongResult> for End {
    fn from(WrongResult(reason): WrongResult) -> Self {
        Self::Fault(Fault::Device(reason))
    }
}
