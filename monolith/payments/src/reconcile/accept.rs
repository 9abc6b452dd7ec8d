//! What a person decides about a difference.

use serde_json::json;

use super::Difference;
use crate::{Actor, Audit, Error, Home, store};

/// Closes an open difference by a person's word: nothing is booked, and while it is found as it is now it stays closed. Told in
/// the audit.
///
/// # Errors
/// [`Error::NotFound`] when no difference of this number is open; [`Error::Invalid`] for a reason that is none.
pub async fn accept(home: &Home, id: i64, by: &Actor, reason: &str) -> Result<Difference, Error> {
    let mut tx = home.pool.begin().await?;
    let accepted = store::accept(&mut tx, id, by.as_str(), reason).await?.ok_or(Error::NotFound)?;
    let audit = Audit {
        payment: accepted.payment.as_ref().map(|(payment, tenant)| (tenant, *payment)),
        command: None,
        actor: by,
        action: "difference accepted",
        reason: Some(reason),
        detail: json!({ "difference": id, "kind": accepted.kind.word(), "object": accepted.object }),
    };
    audit.write(&mut tx, home).await?;
    tx.commit().await?;
    Ok(accepted)
}
