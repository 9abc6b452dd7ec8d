//! The monolith: the only place where the modules meet.
//!
//! `app.rs` puts the parts of each role together, `payments.rs` is the only place that knows both homes of payments, `half.rs` runs the
//! half of this one, and `migrate.rs` makes the schemas, the login roles and their rights.

mod app;
mod cli;
mod config;
mod controller;
mod half;
mod http;
mod migrate;
mod notices;
mod operate;
mod payments;
mod plan;
mod pools;
mod readiness;
mod refill;
mod remote;

pub use app::run;
pub use cli::{Cli, Command, MigrateArgs, Role, Roles, WebhooksCommand};
pub use config::{Config, Databases, MigrateConfig, Service, WebhooksConfig};
pub use half::HalfConfig;
#[cfg(feature = "local-payments")]
pub use half::operate;
pub use http::{Shop, openapi, router};
pub use migrate::migrate;
pub use notices::DeliverNotices;
pub use operate::operate_webhooks;
pub use payments::RequestPayments;
#[cfg(feature = "local-payments")]
pub use payments::{AtSource, MovingPayments, PaymentsDomain};
#[cfg(not(feature = "local-payments"))]
pub use payments::{RetiredDomain, ServicePayments};
pub use pools::Pools;
pub use proto::homes::{ISSUER, MIGRATION, MONOLITH as AUDIENCE, PAYMENTS_SERVICE as SERVICE_AUDIENCE};
pub use remote::Remote;
