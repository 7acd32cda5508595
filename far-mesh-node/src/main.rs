//! The binary `far-mesh`.

fn main() {}
