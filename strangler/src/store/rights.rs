//! Definitions and rights, as the database's owner.

use sqlx::PgPool;

pub(crate) async fn define(admin: &PgPool, migration: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select strangler.define($1)").bind(migration).execute(admin).await.map(drop)
}

pub(crate) async fn grant_assigner(admin: &PgPool, role: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select strangler.grant_assigner($1::name)").bind(role).execute(admin).await.map(drop)
}

pub(crate) async fn grant_writer(admin: &PgPool, role: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select strangler.grant_writer($1::name), strangler.grant_seal($1::name)")
        .bind(role)
        .execute(admin)
        .await
        .map(drop)
}

pub(crate) async fn grant_controller(admin: &PgPool, role: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "select strangler.grant_controller($1::name), strangler.grant_stages($1::name),
                strangler.grant_reads_found($1::name), strangler.grant_sealer($1::name)",
    )
    .bind(role)
    .execute(admin)
    .await
    .map(drop)
}

pub(crate) async fn grant_mover(admin: &PgPool, role: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select strangler.grant_mover($1::name)").bind(role).execute(admin).await.map(drop)
}

pub(crate) async fn grant_observer(admin: &PgPool, role: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select strangler.grant_observer($1::name)").bind(role).execute(admin).await.map(drop)
}

pub(crate) async fn grant_home(admin: &PgPool, role: &str) -> Result<(), sqlx::Error> {
    let sql = "select strangler.grant_home($1::name), strangler.grant_publisher($1::name), strangler.grant_holdings($1::name)";
    sqlx::query(sql).bind(role).execute(admin).await.map(drop)
}

pub(crate) async fn register_sealable(
    admin: &PgPool,
    migration: &str,
    role: &str,
    schema: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("select strangler.register_sealable($1, $2::name, $3::name)")
        .bind(migration)
        .bind(role)
        .bind(schema)
        .execute(admin)
        .await
        .map(drop)
}
