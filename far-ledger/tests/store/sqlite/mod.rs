//! In a SQLite file.

mod files;
#[path = "../suite/mod.rs"]
mod suite;

use crate::bed::Bed;

async fn fresh() -> Bed {
    Bed::sqlite().await
}
