//! All SQL of the module, by table.

mod adjustment;
mod audit;
mod claim;
mod decision;
mod differences;
mod floors;
mod heartbeat;
mod idempotency;
mod intent;
mod ledger;
mod look;
mod movable;
mod notice;
mod open;
mod payment;
mod settled;

use sqlx::PgPool;

pub(crate) use adjustment::{adjusted, insert_adjustments, load_adjustments};
pub(crate) use audit::insert_audit;
pub(crate) use claim::{Requested, claim_due, claim_requested};
pub(crate) use decision::{
    decision_mutants, decision_samples, decisions, forget_decisions, keep_decisions, outcomes,
};
pub(crate) use differences::{
    Turn, accept, close, close_foreign, close_states, count_open, differences, is_open, keep_accepted,
    keep_run, last_run, load_accepted, open, open_before,
};
pub(crate) use floors::Floors;
#[cfg(test)]
pub(crate) use floors::Start;
pub(crate) use heartbeat::{heartbeat, note_heartbeat};
#[cfg(test)]
pub(crate) use idempotency::KEYS_MAX;
pub(crate) use idempotency::{Kept, Record, claim_key, find_key, forget_answers, keep_answers, load_answers};
pub(crate) use intent::{
    Ended, defer, find_open, finish, has_open, insert_intent, is_done, lock_gone_on, lock_open, release,
    set_object,
};
pub(crate) use ledger::{booked, insert_transactions, load_transactions, trial_balance, unbalanced};
#[cfg(test)]
pub(crate) use look::{BY_INDEX, SEE_DUE, SEE_REQUESTED};
pub(crate) use movable::{Standing, advance, due_now, lock_free, lock_heads, look_now, present, standings};
pub(crate) use notice::hasten;
pub(crate) use open::{OpenWork, open_work};
pub(crate) use payment::{
    between, find, insert_requested, leave, list, load, load_all, lock, lock_all, lock_now, replace, update,
};
pub(crate) use settled::{authorized, books, forget_settled, is_authorized, settle_entries, unseen};

use crate::Error;

pub(crate) async fn grant_home(admin: &PgPool, role: &str) -> Result<(), Error> {
    let sql = "select payments.grant_home($1::text::name), payments.grant_audit($1::text::name),
                   payments.grant_reconciliation($1::text::name), payments.grant_adjustments($1::text::name),
                   payments.grant_decisions($1::text::name), payments.grant_heartbeats($1::text::name)";
    sqlx::query(sql).bind(role).execute(admin).await?;
    Ok(())
}
