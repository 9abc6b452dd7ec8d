//! What every process needs and no process invents again: configuration, telemetry, shutdown, the
//! admin listener with health, the database pool and its migrations, the HTTP edge (problem details,
//! extractors, tokens) and the small tools around money transactions.
//!
//! The crate knows nothing of orders, payments or any other part of the house.
//!
//! A binary in order: [`config::load`] reads the settings or ends the process with exit code 2,
//! [`process::run`] starts the runtime and telemetry, [`shutdown::Shutdown::listen`] turns signals into a token,
//! [`database::pool`] opens the pool, [`admin::router`] serves health, and [`listening::Listening`]
//! prints where the process can be reached.

pub mod admin;
pub mod card;
pub mod config;
pub mod database;
pub mod deadline;
pub mod extract;
pub mod fault;
pub mod fingerprint;
pub mod health;
pub mod listening;
pub mod migrations;
pub mod page;
pub mod problem;
pub mod process;
pub mod role;
pub mod server;
pub mod service_token;
pub mod setting;
pub mod shield;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
pub mod token;
pub mod version;

pub use config::Reader;
pub use extract::{Idempotent, Json, Path};
pub use page::Page;
pub use problem::Problem;
pub use setting::{Secret, Url};
pub use shield::shield;
pub use shutdown::Shutdown;
pub use tasks::{Tasks, never_fails};
pub use telemetry::Telemetry;
pub use token::{Caller, Role};
pub use version::VERSION;
