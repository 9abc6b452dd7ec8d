//! The schema `payments` and its rights.

use std::borrow::Cow;

use outbox::Event as _;
use proto::events::{AuthorityOffered, AuthorityReleased};
use sqlx::{PgPool, migrate::Migrator};

use crate::{Error, store};

/// The migrations of schema `payments`, with their own bookkeeping table `payments._migrations`. The same in both homes.
pub static MIGRATOR: Migrator = Migrator {
    table_name: Cow::Borrowed("payments._migrations"),
    create_schemas: Cow::Borrowed(&[Cow::Borrowed("payments")]),
    ..sqlx::migrate!("./migrations")
};

/// Lets a login role be the payments module of a home, whose records of giving a payment up no operator may leave out: with one of
/// them a payment would lose who may write it. Run it as the database's owner, after the migrations of the outbox and of this schema.
///
/// # Errors
/// [`Error::Database`] for an unknown role; [`Error::Outbox`].
pub async fn grant(admin: &PgPool, role: &str) -> Result<(), Error> {
    outbox::never_skip(admin, &[AuthorityOffered::KIND, AuthorityReleased::KIND]).await?;
    store::grant_home(admin, role).await
}
