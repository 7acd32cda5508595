//! `far-mesh bench`: the same measurements in one process and over local providers.

mod measure;
mod report;
mod run;

pub use run::run;
