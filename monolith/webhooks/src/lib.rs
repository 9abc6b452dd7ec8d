//! The provider's webhooks: checked, stored raw, and kept until the owner of the payment has taken them.
//!
//! Owns schema `webhooks`. [`Receiver`] takes them in behind [`router`], [`Dispatcher`] hands them on through [`Payments`], a
//! trait that the program supplies: this crate can't tell which home a payment has. `docs/webhooks.md` tells the whole way.

mod dispatch;
mod error;
mod event;
mod http;
mod metrics;
mod notice;
mod operator;
mod receive;
mod room;
mod schema;
mod settings;
mod signature;
mod state;
mod step;
mod store;

pub use dispatch::{Dispatcher, Options};
pub use error::{Error, Refusal};
pub use http::router;
pub use metrics::Metrics;
pub use notice::{Delivered, Notice, Payments};
pub use operator::{Kept, LIST_MAX, dismiss, list, retry};
pub use receive::{BODY_MAX, Receipt, Receiver};
pub use schema::{grant, migrations};
pub use settings::Settings;
pub use signature::{HEADER, Keys, sign};
pub use state::State;
pub use step::{Step, Watch};
