//! What crosses the wire on the Far routes, in JSON. The coordinator's HTTP layer uses these very types.
//!
//! Amounts of FAR are decimal strings: a JSON number would lose digits. Layers are `[first, last]`, both included.

mod error;
mod event;
mod mesh;
mod request;

pub use error::{ErrorBody, ErrorDetail};
pub use event::{Contribution, Done, Event, FinishReason, Generated, Payload, Token, Usage};
pub use mesh::{
    AccountInfo, Coverage, DayUsage, Health, MeshStatus, ModelInfo, ModelList, ModelStatus, NodeInfo, NodeList,
    NodePayments, PartHealth, Payment, SessionAccount, SessionState,
};
pub use request::{Content, GenerateRequest, Message, Part, Region, Stop};
