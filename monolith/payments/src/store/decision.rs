//! Tables `payments.decision`, `decision_mutant` and `decision_sample`.

use proto::PaymentId;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::{Builder, Uuid};

use crate::Error;
use crate::shadow::{Class, Counts, Differing};

/// How far back commands are looked at for what they came to.
const OUTCOMES_WITHIN: time::Duration = time::Duration::days(7);
/// The most of them.
const OUTCOMES_MAX: i64 = 100_000;
/// How long counts are kept.
const KEEP_DAYS: i32 = 7;

/// Adds to the counts of these ten seconds, in one statement, in the order of their keys: two processes don't wait for each other in a
/// circle.
pub(crate) async fn keep_decisions(pool: &PgPool, version: &str, counts: &Counts) -> Result<(), Error> {
    let sql = "
        with ten as (select date_bin('10 seconds', statement_timestamp(), timestamptz 'epoch') as at),
        counted as (
            insert into payments.decision as d (at, version, class, outcome, count)
            select ten.at, $1::text, c.class, c.outcome, c.count
            from ten, unnest($2::text[], $3::text[], $4::bigint[]) as c (class, outcome, count)
            order by c.class, c.outcome
            on conflict (at, version, class, outcome) do update set count = d.count + excluded.count
        ), tried as (
            insert into payments.decision_mutant as m (at, version, mutant, caught, missed)
            select ten.at, $1::text, t.mutant, t.caught, t.missed
            from ten, unnest($5::text[], $6::bigint[], $7::bigint[]) as t (mutant, caught, missed)
            order by t.mutant
            on conflict (at, version, mutant) do update
            set caught = m.caught + excluded.caught, missed = m.missed + excluded.missed
        ), gone as (
            delete from payments.decision_sample
            where cardinality($8::text[]) > 0
              and id <= (select s.id from payments.decision_sample s order by s.id desc
                         offset greatest(0, 100 - cardinality($8::text[])) limit 1)
        )
        insert into payments.decision_sample (at, version, class, payment_id, payment_version, text)
        select statement_timestamp(), $1::text, s.class, s.payment, s.payment_version, s.text
        from unnest($8::text[], $9::uuid[], $10::bigint[], $11::text[]) as s (class, payment, payment_version, text)";
    let (decisions, mutants, samples) = (&counts.decisions, &counts.mutants, &counts.samples);
    sqlx::query(sql)
        .bind(version)
        .bind(decisions.keys().map(|(class, _)| class.word()).collect::<Vec<_>>())
        .bind(decisions.keys().map(|(_, outcome)| *outcome).collect::<Vec<_>>())
        .bind(decisions.values().copied().collect::<Vec<_>>())
        .bind(mutants.keys().copied().collect::<Vec<_>>())
        .bind(mutants.values().map(|(caught, _)| *caught).collect::<Vec<_>>())
        .bind(mutants.values().map(|(_, missed)| *missed).collect::<Vec<_>>())
        .bind(samples.iter().map(|sample| sample.class.word()).collect::<Vec<_>>())
        .bind(samples.iter().map(|sample| sample.payment.uuid()).collect::<Vec<_>>())
        .bind(samples.iter().map(|sample| sample.version).collect::<Vec<_>>())
        .bind(samples.iter().map(|sample| sample.text.as_str()).collect::<Vec<_>>())
        .execute(pool)
        .await?;
    Ok(())
}

/// How many, by class and outcome, of a version, from the ten seconds of a time on.
pub(crate) async fn decisions(
    pool: &PgPool,
    version: &str,
    since: OffsetDateTime,
) -> Result<Vec<(Class, String, i64)>, Error> {
    let sql = "
        select class, outcome, sum(count)::bigint from payments.decision
        where version = $1 and at >= date_bin('10 seconds', $2::timestamptz, timestamptz 'epoch')
        group by class, outcome order by class, outcome";
    let rows: Vec<(String, String, i64)> =
        sqlx::query_as(sql).bind(version).bind(since).fetch_all(pool).await?;
    rows.into_iter().map(|(class, outcome, count)| Ok((read(&class)?, outcome, count))).collect()
}

/// Name, caught and missed.
pub(crate) async fn decision_mutants(
    pool: &PgPool,
    version: &str,
    since: OffsetDateTime,
) -> Result<Vec<(String, i64, i64)>, Error> {
    let sql = "
        select mutant, sum(caught)::bigint, sum(missed)::bigint from payments.decision_mutant
        where version = $1 and at >= date_bin('10 seconds', $2::timestamptz, timestamptz 'epoch')
        group by mutant order by mutant";
    Ok(sqlx::query_as(sql).bind(version).bind(since).fetch_all(pool).await?)
}

/// The latest first.
pub(crate) async fn decision_samples(
    pool: &PgPool,
    version: &str,
    since: OffsetDateTime,
) -> Result<Vec<Differing>, Error> {
    let sql = "
        select payment_id, payment_version, class, text from payments.decision_sample
        where version = $1 and at >= date_bin('10 seconds', $2::timestamptz, timestamptz 'epoch')
        order by id desc limit 100";
    let rows: Vec<(Uuid, i64, String, String)> =
        sqlx::query_as(sql).bind(version).bind(since).fetch_all(pool).await?;
    let sample = |(payment, version, class, text): (Uuid, i64, String, String)| {
        let (payment, class) = (PaymentId::from_uuid(payment), read(&class)?);
        Ok(Differing { payment, version, class, text })
    };
    rows.into_iter().map(sample).collect()
}

/// Deletes what is too old to be asked for.
pub(crate) async fn forget_decisions(pool: &PgPool) -> Result<(), Error> {
    let sql = "
        with old as (select statement_timestamp() - make_interval(days => $1) as at),
        counts as (delete from payments.decision d using old where d.at < old.at),
        mutants as (delete from payments.decision_mutant m using old where m.at < old.at)
        delete from payments.decision_sample s using old where s.at < old.at";
    sqlx::query(sql).bind(KEEP_DAYS).execute(pool).await?;
    Ok(())
}

/// What this home's commands came to. Their ids tell when they were made, so that the table's key finds the latest.
pub(crate) async fn outcomes(pool: &PgPool) -> Result<Vec<String>, Error> {
    let sql = "
        select distinct case
            when i.result = 'requires_capture' then 'authorized'
            when i.result = 'declined' then 'declined'
            when i.result = 'canceled' then 'voided'
            when i.result = 'refunded' and i.amount_minor < p.captured_minor then 'refunded_part'
            when i.result = 'refunded' then 'refunded'
            when p.captured_minor < p.authorized_minor then 'captured_part'
            else 'captured'
        end as outcome
        from (
            select payment_id, amount_minor, result, state from payments.intent
            where command_id >= $1 order by command_id desc limit $2
        ) i
        join payments.payment p on p.id = i.payment_id
        where i.state = 'done' and i.result in ('succeeded', 'requires_capture', 'declined', 'canceled', 'refunded')
        order by 1";
    let since = (OffsetDateTime::now_utc() - OUTCOMES_WITHIN).unix_timestamp_nanos() / 1_000_000;
    let millis = u64::try_from(since).unwrap_or_default();
    let first = Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid();
    Ok(sqlx::query_scalar(sql).bind(first).bind(OUTCOMES_MAX).fetch_all(pool).await?)
}

fn read(class: &str) -> Result<Class, Error> {
    Class::from_word(class).map_err(|error| Error::corrupt("a count of decisions", error))
}
