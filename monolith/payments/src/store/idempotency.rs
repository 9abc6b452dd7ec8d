//! Table `payments.idempotency`.

use std::collections::HashMap;
use std::time::Duration;

use outbox::BoxError;
use prost::Message as _;
use proto::PaymentId;
use sqlx::postgres::PgTransaction;
use sqlx::{FromRow, PgExecutor, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Command, Error, Idempotency, Operation, Payment, Tenant, events};

/// How long an answer is kept, from then on (within an hour).
pub(crate) const KEEP: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Keys of one payment that may be in use within [`KEEP`]. They travel with the payment: this many of the longest, and
/// [`ENTRIES_MAX`] lines, fit into one event.
pub(crate) const KEYS_MAX: i64 = 400;
/// Lines in the ledger from which on a payment takes no more commands: those of a thousand refunds.
const ENTRIES_MAX: i64 = 2_000;

/// What is kept of a key.
pub(crate) struct Record {
    /// Of the request that first used it.
    pub(crate) fingerprint: String,
    /// `None` while that is in flight. `Err`: the provider's code when it said no.
    pub(crate) answer: Option<Result<Payment, String>>,
}

/// A finished command with its answer, as it travels between homes.
pub(crate) struct Kept {
    pub(crate) operation: Operation,
    pub(crate) idempotency: Idempotency,
    pub(crate) command: Uuid,
    /// `Err`: the provider's code when it said no.
    pub(crate) answer: Result<Payment, String>,
    /// When it was given, or its key claimed within the hour before; it is kept from then on.
    pub(crate) at: OffsetDateTime,
}

#[derive(FromRow)]
struct Row {
    fingerprint: String,
    answer: Option<Vec<u8>>,
    answer_version: Option<i64>,
    refusal: Option<String>,
}

#[derive(FromRow)]
struct KeptRow {
    payment_id: Uuid,
    operation: String,
    key: String,
    command_id: Uuid,
    created_at: OffsetDateTime,
    #[sqlx(flatten)]
    record: Row,
}

impl TryFrom<Row> for Record {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let answer = match (row.answer, row.answer_version, row.refusal) {
            (Some(bytes), Some(version), _) => Some(Ok(read_stored(&bytes, version)?)),
            (_, _, Some(code)) => Some(Err(code)),
            (_, _, None) => None,
        };
        Ok(Record { fingerprint: row.fingerprint, answer })
    }
}

impl TryFrom<KeptRow> for Kept {
    type Error = Error;

    fn try_from(row: KeptRow) -> Result<Self, Error> {
        let corrupt = |error: BoxError| Error::corrupt("a stored answer", error);
        let operation = Operation::from_word(&row.operation).map_err(|error| corrupt(error.into()))?;
        let Record { fingerprint, answer } = row.record.try_into()?;
        let answer = answer.ok_or_else(|| corrupt("its command is in flight".into()))?;
        let idempotency = Idempotency { key: row.key.parse()?, fingerprint };
        Ok(Kept { operation, idempotency, command: row.command_id, answer, at: row.created_at })
    }
}

/// The state that was answered, at the version it had then.
fn read_stored(bytes: &[u8], version: i64) -> Result<Payment, Error> {
    let corrupt = |error: BoxError| Error::corrupt("a stored answer", error);
    let state = proto::events::PaymentState::decode(bytes).map_err(|error| corrupt(error.into()))?;
    events::read_state(state, version).map_err(corrupt)
}

/// Claims a key for a command. False when it is taken, or, when nothing is kept of it, when the payment has too many of them or of
/// lines; a finished record that is too old to be kept is no obstacle. Whoever writes a key has locked its payment's row, so that this
/// waits for nobody.
pub(crate) async fn claim_key(
    tx: &mut PgTransaction<'_>,
    payment: &Payment,
    command: &Command,
    idempotency: &Idempotency,
) -> Result<bool, Error> {
    let sql = "
        insert into payments.idempotency as i (tenant, payment_id, operation, key, fingerprint, command_id)
        select $1, $2, $3, $4, $5, $6
        where (select count(*) from (
                   select from payments.idempotency k
                   where k.tenant = $1 and k.payment_id = $2
                     and (k.created_at > now() - $7::double precision * interval '1 second'
                          or (k.answer is null and k.refusal is null))
                   limit $8) kept) < $8
          and (select count(*) from (
                   select from payments.ledger_entry e where e.payment_id = $2 limit $9) booked) < $9
        on conflict (tenant, payment_id, operation, key) do update
        set fingerprint = excluded.fingerprint, command_id = excluded.command_id, answer = null, answer_version = null,
            refusal = null, created_at = excluded.created_at
        where (i.answer is not null or i.refusal is not null)
          and i.created_at <= now() - $7::double precision * interval '1 second'";
    let done = sqlx::query(sql)
        .bind(payment.tenant.as_str())
        .bind(payment.id.uuid())
        .bind(command.operation.word())
        .bind(idempotency.key.as_str())
        .bind(&idempotency.fingerprint)
        .bind(command.id)
        .bind(KEEP.as_secs_f64())
        .bind(KEYS_MAX)
        .bind(ENTRIES_MAX)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// What is kept of a key; nothing of one whose record is too old.
pub(crate) async fn find_key(
    executor: impl PgExecutor<'_>,
    tenant: &Tenant,
    payment: PaymentId,
    operation: Operation,
    idempotency: &Idempotency,
) -> Result<Option<Record>, Error> {
    let sql = "
        select fingerprint, answer, answer_version, refusal from payments.idempotency
        where tenant = $1 and payment_id = $2 and operation = $3 and key = $4
          and (created_at > now() - $5::double precision * interval '1 second' or (answer is null and refusal is null))";
    let row: Option<Row> = sqlx::query_as(sql)
        .bind(tenant.as_str())
        .bind(payment.uuid())
        .bind(operation.word())
        .bind(idempotency.key.as_str())
        .bind(KEEP.as_secs_f64())
        .fetch_optional(executor)
        .await?;
    row.map(Record::try_from).transpose()
}

/// Keeps answers that another home gave, each of its payment. One to the same command stays; one to an earlier command, whose time
/// was over there, gives way.
pub(crate) async fn keep_answers(
    tx: &mut PgTransaction<'_>,
    answers: &[(&Payment, &Kept)],
) -> Result<(), Error> {
    if answers.is_empty() {
        return Ok(());
    }
    let sql = "
        insert into payments.idempotency as i (tenant, payment_id, operation, key, fingerprint, command_id, answer,
                                               answer_version, refusal, created_at)
        select * from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::bytea[],
                             $8::bigint[], $9::text[], $10::timestamptz[])
        on conflict (tenant, payment_id, operation, key) do update
        set fingerprint = excluded.fingerprint, command_id = excluded.command_id, answer = excluded.answer,
            answer_version = excluded.answer_version, refusal = excluded.refusal, created_at = excluded.created_at
        where (i.answer is null and i.refusal is null)
           or (i.command_id <> excluded.command_id and i.created_at < excluded.created_at)";
    let all = answers.iter();
    let states = all.clone().map(|(_, kept)| kept.answer.as_ref().ok());
    let refusals = all.clone().map(|(_, kept)| kept.answer.as_ref().err().map(String::as_str));
    sqlx::query(sql)
        .bind(all.clone().map(|(payment, _)| payment.tenant.as_str()).collect::<Vec<_>>())
        .bind(all.clone().map(|(payment, _)| payment.id.uuid()).collect::<Vec<_>>())
        .bind(all.clone().map(|(_, kept)| kept.operation.word()).collect::<Vec<_>>())
        .bind(all.clone().map(|(_, kept)| kept.idempotency.key.as_str()).collect::<Vec<_>>())
        .bind(all.clone().map(|(_, kept)| kept.idempotency.fingerprint.as_str()).collect::<Vec<_>>())
        .bind(all.clone().map(|(_, kept)| kept.command).collect::<Vec<_>>())
        .bind(
            states
                .clone()
                .map(|state| state.map(|state| events::state(state).encode_to_vec()))
                .collect::<Vec<_>>(),
        )
        .bind(states.map(|state| state.map(|state| state.version)).collect::<Vec<_>>())
        .bind(refusals.collect::<Vec<_>>())
        .bind(all.map(|(_, kept)| kept.at).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The finished commands of these payments whose answers are still kept, by payment and time; one without any is missing.
pub(crate) async fn load_answers(
    tx: &mut PgTransaction<'_>,
    payments: &[Payment],
) -> Result<HashMap<Uuid, Vec<Kept>>, Error> {
    let sql = "
        select i.payment_id, i.operation, i.key, i.fingerprint, i.command_id, i.answer, i.answer_version, i.refusal,
            i.created_at
        from unnest($1::text[], $2::uuid[]) as p (tenant, id)
        join payments.idempotency i on i.tenant = p.tenant and i.payment_id = p.id
        where (i.answer is not null or i.refusal is not null)
          and i.created_at > now() - $3::double precision * interval '1 second'
        order by i.created_at, i.command_id";
    let rows: Vec<KeptRow> = sqlx::query_as(sql)
        .bind(payments.iter().map(|payment| payment.tenant.as_str()).collect::<Vec<_>>())
        .bind(payments.iter().map(|payment| payment.id.uuid()).collect::<Vec<_>>())
        .bind(KEEP.as_secs_f64())
        .fetch_all(&mut **tx)
        .await?;
    let mut answers: HashMap<Uuid, Vec<Kept>> = HashMap::new();
    for row in rows {
        answers.entry(row.payment_id).or_default().push(row.try_into()?);
    }
    Ok(answers)
}

/// Deletes finished records that are too old, oldest first, at most `batch_max`, and returns how many. One that a transaction is
/// about to use again is left alone; nobody waits for this.
pub(crate) async fn forget_answers(pool: &PgPool, batch_max: i64) -> Result<u64, Error> {
    let sql = "
        delete from payments.idempotency where ctid = any (array(
            select i.ctid from payments.idempotency i
            where i.created_at <= now() - $2::double precision * interval '1 second'
              and (i.answer is not null or i.refusal is not null)
            order by i.created_at limit $1 for update skip locked
        ))";
    let done = sqlx::query(sql).bind(batch_max).bind(KEEP.as_secs_f64()).execute(pool).await?;
    Ok(done.rows_affected())
}
