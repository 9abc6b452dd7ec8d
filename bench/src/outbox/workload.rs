//! The business: accounts with a version, and one event for each booking.

use anyhow::Result;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

use super::contender::Contender;
use crate::ground::Scene;

/// Rows of the business table; each transaction updates one of them, which is the event's key.
pub(crate) const ACCOUNTS: i64 = 10_000;

/// A row that no round draws, for a transaction that stays open.
pub(crate) const LATE_ACCOUNT: i64 = ACCOUNTS + 1;

/// Bytes of a payload.
pub(crate) const PAYLOAD: usize = 256;

const TABLES: &str = r#"
create schema bench;
create table bench.account (id bigint primary key, version bigint not null) with (fillfactor = 70);
create function bench.payload(key text, version bigint) returns bytea language sql immutable
return convert_to(rpad(format('{"key":"%s","version":%s,"pad":"', key, version), 254, 'x') || '"}', 'UTF8');
"#;

/// Makes the business table and `bench.fill(first, events, keys)`, which commits that many bookings one by one.
pub(crate) async fn prepare(pool: &PgPool, contender: Contender) -> Result<()> {
    sqlx::raw_sql(TABLES).execute(pool).await?;
    sqlx::query("insert into bench.account select n, 0 from generate_series(1, $1) n")
        .bind(LATE_ACCOUNT)
        .execute(pool)
        .await?;
    let insert = contender.insert().replace("$1", "key_").replace("$2", "payload_");
    let insert = match insert.strip_prefix("select ") {
        Some(call) => format!("perform {call}"),
        None => insert,
    };
    let fill = format!(
        "create procedure bench.fill(first bigint, events bigint, keys bigint) language plpgsql as $$
         declare
             key_ text;
             version_ bigint;
             payload_ bytea;
         begin
             for n in first .. first + events - 1 loop
                 update bench.account a set version = a.version + 1
                 where a.id = 1 + (hashint8extended(n, 0) & 9223372036854775807) % keys
                 returning a.id::text, a.version into key_, version_;
                 payload_ := bench.payload(key_, version_);
                 {insert};
                 commit;
             end loop;
         end $$"
    );
    sqlx::raw_sql(AssertSqlSafe(fill)).execute(pool).await?;
    Ok(())
}

/// Sessions that write a backlog side by side.
const FILLERS: u64 = 2;

/// Commits `events` bookings of uniformly drawn keys, one a transaction, and leaves the server at rest. Only the wait for the
/// disk is left out, which no relay can see.
pub(crate) async fn fill(scene: &Scene, first: u64, events: u64, keys: i64) -> Result<()> {
    let share = events.div_ceil(FILLERS);
    let parts = (first..first + events).step_by(usize::try_from(share)?.max(1));
    let fills = parts.map(|from| fill_part(scene, from, share.min(first + events - from), keys));
    futures::future::try_join_all(fills).await?;
    rest(&scene.pool).await
}

async fn fill_part(scene: &Scene, first: u64, events: u64, keys: i64) -> Result<()> {
    let mut connection = PgConnection::connect(scene.url()).await?;
    sqlx::query("set synchronous_commit = off").execute(&mut connection).await?;
    sqlx::query("call bench.fill($1, $2, $3)")
        .bind(i64::try_from(first)?)
        .bind(i64::try_from(events)?)
        .bind(keys)
        .execute(&mut connection)
        .await?;
    Ok(connection.close().await?)
}

/// Vacuum, analyze and a checkpoint, so that none of them falls into a measurement.
pub(crate) async fn rest(pool: &PgPool) -> Result<()> {
    sqlx::query("vacuum analyze").execute(pool).await?;
    sqlx::query("checkpoint").execute(pool).await?;
    Ok(())
}

/// One booking with its event, in a transaction; answers the version.
pub(crate) async fn book(pool: &PgPool, insert: &'static str, account: i64) -> Result<i64> {
    let mut tx = pool.begin().await?;
    let version = update(&mut tx, account).await?;
    let key = account.to_string();
    sqlx::query(insert).bind(&key).bind(payload(&key, version)).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(version)
}

/// The business update. Its row lock makes versions dense per account, in the order of the commits.
pub(crate) async fn update(connection: &mut PgConnection, account: i64) -> Result<i64> {
    Ok(sqlx::query_scalar("update bench.account set version = version + 1 where id = $1 returning version")
        .bind(account)
        .fetch_one(connection)
        .await?)
}

/// 256 bytes of JSON that begin with key and version.
pub(crate) fn payload(key: &str, version: i64) -> Vec<u8> {
    let mut text = format!("{{\"key\":\"{key}\",\"version\":{version},\"pad\":\"");
    while text.len() < PAYLOAD - 2 {
        text.push('x');
    }
    text.push_str("\"}");
    text.into_bytes()
}

/// Draws an account for the nth booking, uniformly (splitmix64).
pub(crate) fn account(n: u64, keys: i64) -> i64 {
    let mut x = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    let keys = u64::try_from(keys).unwrap_or(1).max(1);
    1 + i64::try_from(x % keys).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_its_size_and_says_what_it_is() {
        let bytes = payload("10000", 123_456);
        let booked: super::super::verify::Booked = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((bytes.len(), booked.key.as_str(), booked.version), (PAYLOAD, "10000", 123_456));
    }

    #[test]
    fn keys_are_drawn_evenly() {
        let mut drawn = [0; 8];
        (0..8_000).for_each(|n| drawn[usize::try_from(account(n, 8) - 1).unwrap()] += 1);
        assert!(drawn.iter().all(|n| (850..1_150).contains(n)), "{drawn:?}");
    }
}
