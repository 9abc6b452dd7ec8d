//! The API in this process, against PostgreSQL with every module under its own role.

mod fixture;
mod input;
mod ledger;
mod moving;
mod statements;
