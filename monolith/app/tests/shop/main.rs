//! The API in this process, against PostgreSQL with every module under its own role.

#[cfg(feature = "local-payments")]
mod feeding;
mod fixture;
mod half;
mod input;
#[cfg(feature = "local-payments")]
mod ledger;
#[cfg(feature = "local-payments")]
mod money;
mod moving;
#[cfg(feature = "local-payments")]
mod reading;
#[cfg(not(feature = "local-payments"))]
mod removed;
#[cfg(feature = "local-payments")]
mod statements;
