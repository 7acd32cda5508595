//! A span on a device: loader, KV pages, the worker that owns both, and the local hop.
