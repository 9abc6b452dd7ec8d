//! Says whether anything was lost, doubled or disordered.
//!
//! [`gather`] reads both databases, both topics from the beginning, and the provider's journal; [`check`] compares them
//! with each other and with what the clients saw acknowledged. It asks no process of ours: each of them could be wrong.
//! Every count comes with the keys behind it, and no data is never a pass.

mod evidence;
mod journal;
mod money;
mod orders;
mod parity;
mod report;
mod store;
mod stream;

pub use evidence::{
    Accepted, Done, Ended, Event, Evidence, Home, Kept, Order, Payment, Places, Posting, gather,
};
pub use journal::Movement;
pub use report::{Broken, Findings};
pub use store::{Unsettled, unsettled};

/// Compares everything with everything.
pub fn check(evidence: &Evidence) -> Findings {
    let mut findings = Findings::default();
    orders::check(evidence, &mut findings);
    money::check(evidence, &mut findings);
    stream::check(evidence, &mut findings);
    parity::check(evidence, &mut findings);
    findings.waiting = evidence.homes().flat_map(|(_, home)| home.waiting.iter().cloned()).collect();
    findings
}

#[cfg(test)]
mod tests;
