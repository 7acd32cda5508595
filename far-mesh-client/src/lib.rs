//! Client of a coordinator over HTTP.
