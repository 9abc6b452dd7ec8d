//! Table `payments.idempotency`.

use outbox::BoxError;
use prost::Message as _;
use proto::PaymentId;
use sqlx::postgres::PgTransaction;
use sqlx::{FromRow, PgExecutor};
use time::OffsetDateTime;

use crate::{Command, Error, Idempotency, Operation, Payment, Tenant, events};

/// What is kept of a key.
pub(crate) struct Record {
    /// Of the request that first used it.
    pub(crate) fingerprint: String,
    /// `None` while that is in flight. `Err`: the provider's code when it said no.
    pub(crate) answer: Option<Result<Payment, String>>,
}

#[derive(FromRow)]
struct Row {
    fingerprint: String,
    answer: Option<Vec<u8>>,
    answer_version: Option<i64>,
    refusal: Option<String>,
}

impl TryFrom<Row> for Record {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let answer = match (row.answer, row.answer_version, row.refusal) {
            (Some(bytes), Some(version), _) => {
                let corrupt = |error: BoxError| Error::corrupt("a stored answer", error);
                let state =
                    proto::events::PaymentState::decode(&*bytes).map_err(|error| corrupt(error.into()))?;
                Some(Ok(events::read_state(state, version).map_err(corrupt)?))
            }
            (_, _, Some(code)) => Some(Err(code)),
            (_, _, None) => None,
        };
        Ok(Record { fingerprint: row.fingerprint, answer })
    }
}

/// Claims a key for a command. False when it is taken.
pub(crate) async fn claim_key(
    tx: &mut PgTransaction<'_>,
    payment: &Payment,
    command: &Command,
    idempotency: &Idempotency,
) -> Result<bool, Error> {
    let sql = "
        insert into payments.idempotency (tenant, payment_id, operation, key, fingerprint, command_id)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (tenant, payment_id, operation, key) do nothing";
    let done = sqlx::query(sql)
        .bind(payment.tenant.as_str())
        .bind(payment.id.uuid())
        .bind(command.operation.word())
        .bind(idempotency.key.as_str())
        .bind(&idempotency.fingerprint)
        .bind(command.id)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// What is kept of a key.
pub(crate) async fn find_key(
    executor: impl PgExecutor<'_>,
    tenant: &Tenant,
    payment: PaymentId,
    operation: Operation,
    idempotency: &Idempotency,
) -> Result<Option<Record>, Error> {
    let sql = "
        select fingerprint, answer, answer_version, refusal from payments.idempotency
        where tenant = $1 and payment_id = $2 and operation = $3 and key = $4";
    let row: Option<Row> = sqlx::query_as(sql)
        .bind(tenant.as_str())
        .bind(payment.uuid())
        .bind(operation.word())
        .bind(idempotency.key.as_str())
        .fetch_optional(executor)
        .await?;
    row.map(Record::try_from).transpose()
}

/// Keeps an answer that another home gave. One that is here stays.
pub(crate) async fn keep_answer(
    tx: &mut PgTransaction<'_>,
    command: &Command,
    idempotency: &Idempotency,
    answer: &Payment,
    at: OffsetDateTime,
) -> Result<(), Error> {
    let sql = "
        insert into payments.idempotency (tenant, payment_id, operation, key, fingerprint, command_id, answer, answer_version,
                                          created_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        on conflict (tenant, payment_id, operation, key) do nothing";
    sqlx::query(sql)
        .bind(answer.tenant.as_str())
        .bind(answer.id.uuid())
        .bind(command.operation.word())
        .bind(idempotency.key.as_str())
        .bind(&idempotency.fingerprint)
        .bind(command.id)
        .bind(events::state(answer).encode_to_vec())
        .bind(answer.version)
        .bind(at)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
