//! `far-mesh demo`: a whole mesh on this machine, from nothing to a paid answer.

mod answer;
mod report;
mod run;

pub use run::run;
