//! Receipts to send, queued from payments' events.
//!
//! Owns schema `notifications`. It listens, and nobody calls it.

mod handlers;
mod receipt;
mod schema;
mod store;

pub use handlers::{Moved, QueueReceipts};
pub use schema::{grant, migrations};
