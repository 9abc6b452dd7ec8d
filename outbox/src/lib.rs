#![doc = include_str!("../README.md")]

pub mod archive;
pub mod audit;
mod codec;
pub mod conflict;
mod database;
pub mod dead_letter;
pub mod doctor;
mod envelope;
mod error;
mod event;
mod handler;
mod headers;
mod held;
mod history;
mod inbox;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod memory;
pub mod metrics;
mod progress;
mod publish;
pub mod quarantine;
mod refill;
mod relay;
pub mod replay;
mod replica;
pub mod retention;
pub mod retirement;
mod schema;
mod sink;
mod source;
mod store;
pub mod testing;
mod topic;
mod trace;
mod wake;

pub use codec::{Codec, Json, Protobuf};
pub use error::{BoxError, Error};
pub use event::{Event, Incoming, Meta, Received};
pub use handler::Handler;
pub use headers::Headers;
pub use held::{Held, HeldBy, held};
pub use history::{Applied, HISTORY_MAX, History, Reached, Sent, Step, Waiting, history};
pub use inbox::{Baseline, Behind, Inbox, InboxOptions, RefillOptions, Tally, compare};
pub use metrics::Metrics;
pub use progress::{Progress, progress, recent_heads};
pub use publish::{
    BATCH_BYTES_MAX, BATCH_MAX, Encoded, Outgoing, follow, head_version, lock, publish, publish_all,
};
pub use refill::{DatabaseRefill, MemoryRefill, Refill};
pub use relay::{Relay, RelayOptions, RelayStatus};
pub use replica::{Replica, StateTransfer};
pub use schema::{
    MIGRATOR, grant_housekeeper, grant_module, grant_operator, grant_refill, grant_relay, grant_replica,
    migrate, never_skip,
};
pub use sink::{Record, Refusal, Sink};
pub use source::{Message, Place, Source};
pub use topic::Topic;
pub use trace::Tracer;
pub use wake::Wake;
