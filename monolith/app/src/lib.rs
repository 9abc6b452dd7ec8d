//! The monolith: the only place where the modules meet.
//!
//! `app.rs` puts the parts of each role together, `payments.rs` is the only file that knows both homes of payments, and
//! `migrate.rs` makes the schemas, the login roles and their rights.

mod app;
mod books;
mod cli;
mod comparing;
mod config;
mod controller;
mod http;
mod migrate;
mod notices;
mod operate;
mod operator;
mod payments;
mod plan;
mod pools;
mod readiness;
mod remote;
mod token;

pub use app::run;
pub use cli::{Cli, Command, MigrateArgs, Role, Roles, WebhooksCommand};
pub use config::{Config, Databases, MigrateConfig, Service, WebhooksConfig};
pub use http::{Shop, openapi, router};
pub use migrate::migrate;
pub use notices::DeliverNotices;
pub use operate::operate_webhooks;
pub use operator::operate;
pub use payments::{AtSource, MIGRATION, MovingPayments, PaymentsDomain, RequestPayments};
pub use pools::Pools;
pub use remote::Remote;
pub use token::{AUDIENCE, ISSUER, SERVICE_AUDIENCE};
