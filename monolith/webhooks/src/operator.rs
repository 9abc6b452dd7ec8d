//! What a person may do: look at what is kept, have it tried again, decide that nothing is to be done.

use std::fmt;

use chassis::card;
use proto::PaymentId;
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::{Error, State, store};

/// The most notices of a list.
pub const LIST_MAX: i64 = 500;
/// The longest name of who decides, in bytes.
const BY_MAX: usize = 255;
/// The longest reason, in bytes.
const REASON_MAX: usize = 1000;

/// A notice as it is kept. Its body is not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The provider's id of the event.
    pub id: String,
    /// The provider's word for what happened.
    pub kind: String,
    /// The provider's object; `None` when it is not one of ours.
    pub object: Option<String>,
    /// The payment that it is for.
    pub payment: Option<PaymentId>,
    /// Whose payment it is.
    pub tenant: Option<String>,
    /// How far it is.
    pub state: State,
    /// How often its owner was asked since it came, or since a person had it tried again.
    pub tries: i32,
    /// When it came.
    pub received_at: OffsetDateTime,
    /// What the last try met.
    pub why: Option<String>,
    /// Who dismissed it, and why.
    pub decision: Option<(String, String)>,
}

/// The newest notices of a state, or every open one; at most `limit`, which is at most [`LIST_MAX`].
///
/// # Errors
/// [`Error::Database`], [`Error::Corrupt`].
pub async fn list(pool: &PgPool, state: Option<State>, limit: i64) -> Result<Vec<Kept>, Error> {
    store::list(pool, state, limit.clamp(1, LIST_MAX)).await
}

/// Has an open notice tried again at once, with all its time before it.
///
/// # Errors
/// [`Error::NotOpen`], [`Error::Database`].
pub async fn retry(pool: &PgPool, id: &str) -> Result<(), Error> {
    if !store::retry(pool, id).await? {
        return Err(Error::NotOpen);
    }
    tracing::info!(notice = id, "an operator has a notice tried again");
    Ok(())
}

/// Ends an open notice: nothing is to be done. Who said so and why stays in its row.
///
/// # Errors
/// [`Error::NotOpen`]; [`Error::Invalid`] for a text that is empty, too long or has a card number; [`Error::Database`].
pub async fn dismiss(pool: &PgPool, id: &str, by: &str, reason: &str) -> Result<(), Error> {
    if !(1..=BY_MAX).contains(&by.trim().len()) {
        return Err(Error::Invalid("say who dismisses it, in at most 255 bytes"));
    }
    if !(1..=REASON_MAX).contains(&reason.trim().len()) {
        return Err(Error::Invalid("say why it is dismissed, in at most 1000 bytes"));
    }
    if [by, reason].into_iter().any(|text| card::is_in(text.as_bytes())) {
        return Err(Error::Invalid("something in it looks like a card number, which is never kept"));
    }
    if !store::dismiss(pool, id, by.trim(), reason.trim()).await? {
        return Err(Error::NotOpen);
    }
    tracing::warn!(notice = id, by, reason, "an operator dismissed a notice");
    Ok(())
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payment = self.payment.map_or_else(|| "-".to_owned(), |payment| payment.to_string());
        let object = self.object.as_deref().unwrap_or("-");
        let Self { id, kind, state, tries, .. } = self;
        write!(f, "{state:<9} {id}  {kind}  {object}  payment {payment}  {tries} tries")?;
        match (&self.decision, &self.why) {
            (Some((by, why)), _) => write!(f, "  dismissed by {by}: {why}"),
            (None, Some(why)) => write!(f, "  {why}"),
            (None, None) => Ok(()),
        }
    }
}
