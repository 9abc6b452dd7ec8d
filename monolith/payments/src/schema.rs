//! The schema `payments` and its rights.

use std::borrow::Cow;

use sqlx::{PgPool, migrate::Migrator};

use crate::{Error, store};

/// The migrations of schema `payments`, with their own bookkeeping table `payments._migrations`. The same in both homes.
pub static MIGRATOR: Migrator = Migrator {
    table_name: Cow::Borrowed("payments._migrations"),
    create_schemas: Cow::Borrowed(&[Cow::Borrowed("payments")]),
    ..sqlx::migrate!("./migrations")
};

/// Lets a login role be the payments module of a home. Run it as the database's owner, after the migrations.
///
/// # Errors
/// [`Error::Database`] for an unknown role.
pub async fn grant(admin: &PgPool, role: &str) -> Result<(), Error> {
    store::grant_home(admin, role).await
}
