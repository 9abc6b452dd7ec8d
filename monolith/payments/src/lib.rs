//! The payments domain: one library, two homes. `docs/payments.md` tells how a charge survives a crash.
//!
//! A [`Home`] is what differs: its database, who may write a payment ([`Authority`]), its provider. [`Local`] answers callers,
//! [`Engine`] does what is open, [`Replicate`] follows the other home; [`decide`] has the rules and is pure.

mod adjust;
mod audit;
mod authority;
mod copies;
mod crash;
mod decide;
mod desk;
mod effect;
mod engine;
mod error;
mod events;
mod forget;
mod heartbeat;
mod home;
mod ledger;
mod local;
mod metrics;
pub mod movable;
mod notice;
mod payment;
pub mod provider;
mod reconcile;
mod replicate;
mod schema;
pub mod shadow;
mod store;
#[cfg(test)]
mod tests;
mod transitions;
mod turns;
mod unbalanced;
mod whole;

pub use adjust::{AdjustedEvent, Adjustment, adjust};
pub use audit::{Actor, Audit};
pub use authority::{Authority, Births};
pub use copies::{PaymentCopy, copies};
pub use crash::{Crash, NoSuchPoint, Point};
pub use decide::{
    Answer, Change, Command, Idempotency, Operation, Outcome, PaymentEvent, Refusal, apply, check, decide,
};
pub use desk::{Capture, Desk, Page, Refund, Void};
pub use effect::PROVIDER_TIMEOUTS;
pub use engine::{Engine, Limits};
pub use error::{Error, Violation};
pub use heartbeat::{Heartbeat, beat, heard};
pub use home::{Home, Work};
pub use ledger::{Account, Balance, FEE_BASIS_POINTS, Posting, Transaction, balances, fee};
pub use local::Local;
pub use metrics::{Metrics, observe};
pub use notice::{Delivered, Notice};
pub use payment::{CaptureMethod, Epoch, IdempotencyKey, Payment, Status, Tenant};
pub use provider::{Provider, Stripe, StripeConfig};
pub use reconcile::{
    Difference, DifferenceKind, Order, ReconcileConfig, ReconcileMetrics, Reconciled, Reconciler, Told,
    accept, differences, open_differences, operate, table,
};
pub use replicate::Replicate;
pub use schema::{MIGRATOR, grant};
pub use transitions::{Share, TRANSITIONS, Transition};
pub use unbalanced::unbalanced;
