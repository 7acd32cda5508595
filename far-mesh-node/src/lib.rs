//! The parts of the binary `far-mesh`.

pub mod http;
pub mod metering;
