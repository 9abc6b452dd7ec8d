//! Table `payments.intent`.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message as _;
use proto::PaymentId;
use sqlx::postgres::PgTransaction;
use sqlx::{FromRow, PgConnection, PgPool};
use uuid::Uuid;

use crate::effect::{Attempt, CLAIM, Intent, Open, Waits};
use crate::provider::REPEAT_WITHIN;
use crate::{Actor, Command, Error, Idempotency, Operation, Outcome, Payment, events, store};

#[derive(FromRow)]
pub(super) struct Row {
    command_id: Uuid,
    payment_id: Uuid,
    operation: String,
    amount_minor: i64,
    idempotency_key: Option<String>,
    fingerprint: Option<String>,
    attempt: i32,
    provider_object: Option<String>,
    tries: i32,
    repeatable: bool,
    kept_for_s: Option<f64>,
    actor: String,
    reason: Option<String>,
}

impl Row {
    fn command(&self) -> Result<Command, Error> {
        let operation = Operation::from_word(&self.operation);
        let idempotency = match (&self.idempotency_key, &self.fingerprint) {
            (Some(key), Some(fingerprint)) => {
                Some(Idempotency { key: key.parse()?, fingerprint: fingerprint.clone() })
            }
            _ => None,
        };
        Ok(Command {
            id: self.command_id,
            operation: operation.map_err(|error| Error::corrupt("an intent's row", error))?,
            amount_minor: self.amount_minor,
            idempotency,
            attempt: self.attempt,
            actor: Actor::stored(self.actor.clone()),
            reason: self.reason.clone(),
        })
    }

    fn intent(self, payment: Payment) -> Result<Intent, Error> {
        let command = self.command()?;
        let Row { provider_object: object, tries, repeatable, kept_for_s, .. } = self;
        let kept_for = kept_for_s.map(|seconds| Duration::from_secs_f64(seconds.max(0.0)));
        Ok(Intent { command, payment, object, tries, repeatable, kept_for })
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ended<'a> {
    /// By an outcome that made the payment this.
    Outcome(&'a Outcome, &'a Payment),
    /// By the provider's refusal, with its code. The payment stays as it was.
    Refused(&'a str),
}

impl<'a> Ended<'a> {
    fn result(self) -> String {
        match self {
            Ended::Outcome(outcome, _) => outcome.word().to_owned(),
            Ended::Refused(code) => format!("refused:{code}"),
        }
    }

    /// For the audit.
    fn word(self) -> &'static str {
        match self {
            Ended::Outcome(Outcome::Declined { .. }, _) => "declined",
            Ended::Outcome(
                Outcome::Succeeded { .. }
                | Outcome::RequiresCapture { .. }
                | Outcome::Canceled { .. }
                | Outcome::Refunded { .. },
                _,
            ) => "done",
            Ended::Refused(_) => "refused",
        }
    }

    fn answer(self) -> Option<&'a Payment> {
        match self {
            Ended::Outcome(_, payment) => Some(payment),
            Ended::Refused(_) => None,
        }
    }

    fn refusal(self) -> Option<&'a str> {
        match self {
            Ended::Outcome(_, _) => None,
            Ended::Refused(code) => Some(code),
        }
    }

    fn object(self) -> Option<&'a str> {
        match self {
            Ended::Outcome(outcome, _) => Some(outcome.object()).filter(|object| !object.is_empty()),
            Ended::Refused(_) => None,
        }
    }
}

/// Commits to a command, and tells who asked for it. The caller works on it for [`CLAIM`]. False when the payment has an open one
/// already.
pub(crate) async fn insert_intent(
    tx: &mut PgTransaction<'_>,
    home: &str,
    intent: &Intent,
) -> Result<bool, Error> {
    let sql = "
        with intent as (
            insert into payments.intent (command_id, payment_id, tenant, operation, amount_minor, idempotency_key, fingerprint,
                                         attempt, provider_object, claimed_until, actor, reason)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, clock_timestamp() + $10::double precision * interval '1 second', $11, $12)
            on conflict (payment_id) where state <> 'done' do nothing
            returning *
        )
        insert into payments.audit (tenant, payment_id, command_id, actor, action, reason, home, detail)
        select tenant, payment_id, command_id, actor, operation || ' requested', reason, $13,
            jsonb_build_object('amount_minor', amount_minor)
        from intent";
    let command = &intent.command;
    let done = sqlx::query(sql)
        .bind(command.id)
        .bind(intent.payment.id.uuid())
        .bind(intent.payment.tenant.as_str())
        .bind(command.operation.word())
        .bind(command.amount_minor)
        .bind(command.idempotency.as_ref().map(|it| it.key.as_str()))
        .bind(command.idempotency.as_ref().map(|it| it.fingerprint.as_str()))
        .bind(command.attempt)
        .bind(&intent.object)
        .bind(CLAIM.as_secs_f64())
        .bind(command.actor.as_str())
        .bind(&command.reason)
        .bind(home)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Intents as claimed, each with its payment.
pub(super) async fn read_all(connection: &mut PgConnection, rows: Vec<Row>) -> Result<Vec<Intent>, Error> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.payment_id).collect();
    let mut payments: HashMap<Uuid, Payment> = store::load_all(connection, &ids)
        .await?
        .into_iter()
        .map(|payment| (payment.id.uuid(), payment))
        .collect();
    let mut intents = Vec::with_capacity(rows.len());
    for row in rows {
        // The row refers to its payment, and payments are never deleted.
        let payment = payments.remove(&row.payment_id).ok_or(Error::NotFound);
        // They are claimed: one that can't be read must not take the others with it.
        match payment.and_then(|payment| row.intent(payment)) {
            Ok(intent) => intents.push(intent),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "an intent can't be read; it waits"
                );
            }
        }
    }
    Ok(intents)
}

/// A command without a definite answer, whoever works on it; for a person's decision. `repeatable` for [`CLAIM`] longer than for
/// the resolver, of which a try may be under way.
pub(crate) async fn find_open(pool: &PgPool, command: Uuid) -> Result<Option<Intent>, Error> {
    let sql = "
        select i.*, i.created_at > now() - $2::double precision * interval '1 second' as repeatable,
            extract(epoch from now() - i.kept_at)::double precision as kept_for_s
        from payments.intent i where i.command_id = $1 and i.state <> 'done'";
    let mut connection = pool.acquire().await?;
    let row: Option<Row> = sqlx::query_as(sql)
        .bind(command)
        .bind((REPEAT_WITHIN + CLAIM).as_secs_f64())
        .fetch_optional(&mut *connection)
        .await?;
    Ok(read_all(&mut connection, row.into_iter().collect()).await?.pop())
}

/// Keeps the provider's object before anything moves through it. False when another one is kept, or the attempt is over: then
/// nothing may move through this one.
pub(crate) async fn set_object(
    pool: &PgPool,
    command: Uuid,
    attempt: i32,
    object: &str,
) -> Result<bool, Error> {
    let sql = "
        update payments.intent set provider_object = $3
        where command_id = $1 and attempt = $2 and state <> 'done' and coalesce(provider_object, $3) = $3";
    let done = sqlx::query(sql).bind(command).bind(attempt).bind(object).execute(pool).await?;
    Ok(done.rows_affected() == 1)
}

/// No definite answer to the command's attempt: gives the intent back, to be asked again after `delay`, a quarter more or less,
/// under a new key when the attempt is over. Someone who has gone on with a later attempt is left alone.
pub(crate) async fn defer(
    pool: &PgPool,
    command: &Command,
    open: &Open,
    delay: Duration,
) -> Result<(), Error> {
    let sql = "
        update payments.intent
        set state = 'unknown', result = $3, for_person = coalesce($7, for_person), claimed_until = now(), attempt = attempt + $5::integer,
            kept_at = case when $5 = 1 then null when $6 then coalesce(kept_at, now()) else kept_at end,
            next_at = now() + $4::double precision * (0.75 + random() * 0.5) * interval '1 second'
        where command_id = $1 and attempt = $2 and state <> 'done'";
    sqlx::query(sql)
        .bind(command.id)
        .bind(command.attempt)
        .bind(&open.why)
        .bind(delay.as_secs_f64())
        .bind(i32::from(open.attempt == Attempt::Over))
        .bind(open.attempt == Attempt::KeepsFault)
        .bind((open.waits != Waits::Answer).then_some(open.waits == Waits::Person))
        .execute(pool)
        .await?;
    Ok(())
}

/// Gives back an intent whose answer could not be committed; its state stays.
pub(crate) async fn release(pool: &PgPool, command: Uuid, delay: Duration) -> Result<(), Error> {
    let sql = "
        update payments.intent
        set claimed_until = now(),
            next_at = now() + $2::double precision * (0.75 + random() * 0.5) * interval '1 second'
        where command_id = $1 and state <> 'done'";
    sqlx::query(sql).bind(command).bind(delay.as_secs_f64()).execute(pool).await?;
    Ok(())
}

/// Locks an intent until `tx` ends. False when it is done: someone else got the answer. The payment is locked before.
pub(crate) async fn lock_open(tx: &mut PgTransaction<'_>, command: Uuid) -> Result<bool, Error> {
    let sql = "select state <> 'done' from payments.intent where command_id = $1 for update";
    Ok(sqlx::query_scalar(sql).bind(command).fetch_one(&mut **tx).await?)
}

/// Locks an intent until `tx` ends. True when it is open, and another payment intent is kept for it than when it was read.
pub(crate) async fn lock_gone_on(tx: &mut PgTransaction<'_>, intent: &Intent) -> Result<bool, Error> {
    let sql = "
        select state <> 'done' and provider_object is distinct from $2 from payments.intent
        where command_id = $1 for update";
    let gone_on = sqlx::query_scalar(sql).bind(intent.command.id).bind(&intent.object).fetch_one(&mut **tx);
    Ok(gone_on.await?)
}

/// Whether a payment has a command without a definite answer. Its row is locked, so that none is added meanwhile.
pub(crate) async fn has_open(tx: &mut PgTransaction<'_>, payment: PaymentId) -> Result<bool, Error> {
    let sql = "select exists (select from payments.intent where payment_id = $1 and state <> 'done')";
    Ok(sqlx::query_scalar(sql).bind(payment.uuid()).fetch_one(&mut **tx).await?)
}

/// Ends an intent with the provider's definite answer, keeps it under the command's key if it has one, and tells of it. False
/// when it is done already: someone else got the answer. The payment is locked before.
pub(crate) async fn finish(
    tx: &mut PgTransaction<'_>,
    home: &str,
    command: Uuid,
    ended: Ended<'_>,
) -> Result<bool, Error> {
    let sql = "
        with intent as (
            update payments.intent set state = 'done', result = $2, claimed_until = now()
            where command_id = $1 and state <> 'done' returning *
        ), answered as (
            update payments.idempotency i set answer = $3, answer_version = $4, refusal = $5,
                -- Kept from the answer on. Within the hour the claim will do: the time is indexed.
                created_at = case when i.created_at < now() - interval '1 hour' then now() else i.created_at end
            from intent
            where i.tenant = intent.tenant and i.payment_id = intent.payment_id and i.operation = intent.operation
              and i.key = intent.idempotency_key and i.command_id = intent.command_id
        )
        insert into payments.audit (tenant, payment_id, command_id, actor, action, reason, home, detail)
        select tenant, payment_id, command_id, actor, operation || ' ' || $6::text, reason, $7,
            jsonb_strip_nulls(jsonb_build_object('amount_minor', amount_minor, 'result', $2::text, 'object', $8::text,
                                                 'version', $4::bigint))
        from intent";
    let answer = ended.answer();
    let done = sqlx::query(sql)
        .bind(command)
        .bind(ended.result())
        .bind(answer.map(|payment| events::state(payment).encode_to_vec()))
        .bind(answer.map(|payment| payment.version))
        .bind(ended.refusal())
        .bind(ended.word())
        .bind(home)
        .bind(ended.object())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether an intent has its answer.
pub(crate) async fn is_done(pool: &PgPool, command: Uuid) -> Result<bool, Error> {
    let sql = "select state = 'done' from payments.intent where command_id = $1";
    Ok(sqlx::query_scalar(sql).bind(command).fetch_one(pool).await?)
}
