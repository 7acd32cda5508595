//! Brings a schema up to date: all missing changes in one transaction, under a lock.

use sqlx::migrate::{Migrate, MigrateError, Migrator};

use crate::store::{error::OpenError, location::Location};

/// Every change of the schema up to this version. The lock is the caller's: he holds it from his first look at the
/// database on, which the migrator's own would come too late for.
static MIGRATIONS: Migrator = Migrator { locking: false, ..sqlx::migrate!("./migrations") };

/// Runs what is missing. Nobody sees half a schema, and programs that start at once migrate one after the other.
pub(super) async fn migrate<C: Migrate>(
    connection: &mut C,
    location: &Location,
    explain: impl Fn(sqlx::Error) -> OpenError,
) -> Result<(), OpenError> {
    // `run_direct` is `run` without the trait `Acquire`, whose lifetimes would keep this future from being `Send`.
    MIGRATIONS.run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) => match known(location, found) {
            Err(newer) => newer,
            Ok(()) => OpenError::OtherSchema { ledger: location.clone(), version: found },
        },
        MigrateError::VersionMismatch(version) => OpenError::OtherSchema { ledger: location.clone(), version },
        MigrateError::Execute(source) => explain(source),
        error => OpenError::Migrate { ledger: location.clone(), source: Box::new(error) },
    })
}

/// Whose the tables are: ours, nobody's where there is none, or another program's.
///
/// # Errors
/// [`OpenError::Foreign`] when they are another program's. `Ok(true)` means ours.
pub(super) fn examine(location: &Location, tables: Vec<String>) -> Result<bool, OpenError> {
    let has = |name: &str| tables.iter().any(|table| table == name);
    if has("_sqlx_migrations") && has("far_mesh_sessions") {
        return Ok(true);
    }
    match tables.into_iter().next() {
        Some(table) => Err(OpenError::Foreign { ledger: location.clone(), table }),
        None => Ok(false),
    }
}

/// Refuses the schema of a newer version.
pub(super) fn known(location: &Location, found: i64) -> Result<(), OpenError> {
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
    if found > known {
        return Err(OpenError::NewerSchema { ledger: location.clone(), found, known });
    }
    Ok(())
}
