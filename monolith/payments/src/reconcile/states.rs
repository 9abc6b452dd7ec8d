//! Authorized payments: money that is reserved has no line, so the provider's objects are read.

use proto::PaymentId;
use uuid::Uuid;

use super::state::{state_differs, still_authorized};
use super::{BY, FOREIGN, Run, found};
use crate::{Error, Tenant, store};

/// Payments at once.
const BATCH_MAX: i64 = 100;
/// Objects that can't be read until a run ends: one is the object's fault, many are the provider's.
const UNREAD_MAX: usize = 10;
/// Payments that one run reads; the next one goes on behind them.
const STATES_MAX: usize = 1_000;

impl Run<'_> {
    /// Compares this home's authorized payments with the provider's objects, from where the last run ended. Returns where this one
    /// did; `None` at the end of them.
    pub(super) async fn states(&self) -> Result<Option<Uuid>, Error> {
        store::close_states(&self.home.pool, BY).await?;
        let mut after =
            store::last_run(&self.home.pool).await?.and_then(|last| last.states_after).unwrap_or_default();
        let (mut looked, mut unread) = (0, 0);
        while looked < STATES_MAX {
            let batch = store::authorized(&self.home.pool, after, BATCH_MAX).await?;
            let mut foreign = Vec::new();
            for (id, tenant, object) in &batch {
                self.going()?;
                match self.owns(PaymentId::from_uuid(*id)).await? {
                    Some(true) if self.state(*id, tenant.parse()?, object).await? => {}
                    Some(true) => unread += 1,
                    Some(false) => foreign.push((found::state_subject(object), FOREIGN.to_owned())),
                    // Whoever owns it then looks at it.
                    None => {}
                }
                if unread > UNREAD_MAX {
                    let why = "the payment intents of authorized payments can't be read";
                    return Err(Error::Unavailable(why.to_owned()));
                }
                after = *id;
            }
            self.close(&foreign).await?;
            looked += batch.len();
            if batch.len() < usize::try_from(BATCH_MAX).unwrap_or(usize::MAX) {
                return Ok(None);
            }
        }
        Ok(Some(after))
    }

    /// False when the object can't be read.
    async fn state(&self, id: Uuid, tenant: Tenant, object: &str) -> Result<bool, Error> {
        let status = match self.home.provider.retrieve(object).await {
            Ok(found) => found.status,
            Err(failure) => {
                tracing::warn!(object, %failure, "an authorized payment's object can't be read; its turn comes again in the next round");
                return Ok(false);
            }
        };
        match still_authorized(status) {
            None => {}
            Some(true) => {
                self.close(&[(found::state_subject(object), "the states agree again".to_owned())]).await?;
            }
            // What was read is older than a command that came meanwhile.
            Some(false) if !store::is_authorized(&self.home.pool, id).await? => {}
            Some(false) => {
                let payment = (PaymentId::from_uuid(id), tenant);
                self.open(&state_differs(payment, object, status, self.now)).await?;
            }
        }
        Ok(true)
    }
}
