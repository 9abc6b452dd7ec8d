//! All SQL of the stack.

use sqlx::{AssertSqlSafe, PgConnection};

/// What a server says of itself and of us.
pub(crate) struct Server {
    /// As `170006` for 17.6.
    pub(crate) version: i32,
    /// Whether our user is a superuser.
    pub(crate) superuser: bool,
}

/// Version and rights, in one round trip.
pub(crate) async fn server(connection: &mut PgConnection) -> Result<Server, sqlx::Error> {
    let (version, superuser) = sqlx::query_as(
        "select current_setting('server_version_num')::int, rolsuper from pg_roles where rolname = current_user",
    )
    .fetch_one(connection)
    .await?;
    Ok(Server { version, superuser })
}

/// `name` is one that we made ourselves: lower case letters, digits and underscores.
pub(crate) async fn create_database(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(format!("create database \"{name}\""))).execute(connection).await?;
    Ok(())
}

/// Ends its sessions too.
pub(crate) async fn drop_database(connection: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(format!("drop database if exists \"{name}\" with (force)")))
        .execute(connection)
        .await?;
    Ok(())
}

/// The roles that were made for a database: those whose names start with its name and an underscore.
pub(crate) async fn roles_of(
    connection: &mut PgConnection,
    database: &str,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select rolname::text from pg_roles where starts_with(rolname::text, $1 || '_') order by 1",
    )
    .bind(database)
    .fetch_all(connection)
    .await
}

/// The server quotes the name itself.
pub(crate) async fn drop_role(connection: &mut PgConnection, role: &str) -> Result<(), sqlx::Error> {
    let statement: String = sqlx::query_scalar("select format('drop role if exists %I', $1)")
        .bind(role)
        .fetch_one(&mut *connection)
        .await?;
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}
