//! Webhooks against PostgreSQL, under the module's own role.

mod delivering;
mod fixture;
mod receiving;
