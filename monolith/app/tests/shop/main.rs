//! The API in this process, against PostgreSQL with every module under its own role.

mod fixture;
mod input;
mod ledger;
mod money;
mod moving;
mod reading;
mod statements;
