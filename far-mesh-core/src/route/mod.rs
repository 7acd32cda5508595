//! Which hops a request takes: pure, no I/O, no clock of its own.
