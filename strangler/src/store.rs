//! All SQL, by whose it is: one statement a function.

pub(crate) mod approvals;
pub(crate) mod authority;
pub(crate) mod backfill;
pub(crate) mod drill;
pub(crate) mod evidence;
pub(crate) mod keys;
pub(crate) mod moves;
pub(crate) mod owners;
pub(crate) mod policy;
pub(crate) mod reads;
pub(crate) mod rights;
pub(crate) mod sealed;

use crate::Epoch;

/// Keys and their epochs as two columns.
fn columns(keys: &[(String, Epoch)]) -> (Vec<&str>, Vec<i64>) {
    keys.iter().map(|(key, epoch)| (key.as_str(), epoch.get())).unzip()
}
