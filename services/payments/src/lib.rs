//! The extracted payments service: the same payments library as in the monolith, with a database, an outbox and a gRPC
//! interface of its own.
//!
//! [`run`] composes a process; [`AtTarget`] says which payments this home may write; [`Server`] is `payments.v1` over any desk.

mod app;
mod authority;
mod cli;
mod config;
mod evidence;
mod granting;
mod grpc;
mod migrate;
mod movable;
mod operator;
mod provider;
mod readiness;
#[cfg(test)]
mod tests;

pub use app::run;
pub use authority::AtTarget;
pub use cli::{Cli, Command, Roles};
pub use config::{Config, Databases, MigrateConfig};
pub use grpc::Server;
pub use migrate::migrate;
pub use operator::operate;
pub use proto::homes::{ISSUER, MIGRATION, PAYMENTS_SERVICE as AUDIENCE};
