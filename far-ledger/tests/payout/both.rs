//! Tests of payouts, each on both databases.

use std::path::PathBuf;

use crate::bed::Bed;

/// The folder of `FarToken.json` and `FarPayout.json`.
const ARTIFACTS: &str = "FAR_MESH_TEST_PAYOUT_ARTIFACTS";

/// A database to run on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    pub(crate) async fn bed(self) -> Bed {
        match self {
            Self::Sqlite => Bed::sqlite().await,
            Self::Postgres => Bed::postgres().await,
        }
    }
}

pub(crate) fn artifacts() -> PathBuf {
    let folder = std::env::var(ARTIFACTS).unwrap_or_else(|_| {
        panic!("{ARTIFACTS} names no contracts to test with: use tests/run ledger, which builds them")
    });
    folder.into()
}

/// Each test of a list on both databases.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                Box::pin(super::$name($crate::both::Kind::Sqlite)).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                Box::pin(super::$name($crate::both::Kind::Postgres)).await;
            })*
        }
    };
}
pub(crate) use on_both;
