//! The parts of the binary `far-mesh`.
