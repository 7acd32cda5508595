//! In a PostgreSQL database.

mod server;
#[path = "../suite/mod.rs"]
mod suite;

use crate::bed::Bed;

async fn fresh() -> Bed {
    Bed::postgres().await
}
