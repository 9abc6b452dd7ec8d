//! Both homes hold the same payments and the same ledgers, at rest.

use std::collections::{BTreeMap, BTreeSet};

use super::{Evidence, Findings, Home, Posting};

pub(super) fn check(evidence: &Evidence, findings: &mut Findings) {
    let ledgers = (ledger(&evidence.source), ledger(&evidence.target));
    let keys: BTreeSet<&String> =
        evidence.source.payments.keys().chain(evidence.target.payments.keys()).collect();
    for key in keys {
        match (evidence.source.payments.get(key), evidence.target.payments.get(key)) {
            (Some(source), Some(target)) if source.version != target.version => {
                let why =
                    format!("version {} at the source, {} at the target", source.version, target.version);
                findings.parity.add(key, why);
            }
            (Some(source), Some(target)) if source != target => {
                findings.parity.add(key, format!("{source:?} at the source, {target:?} at the target"));
            }
            (Some(_), None) => findings.parity.add(key, "not at the target"),
            (None, Some(_)) => findings.parity.add(key, "not at the source"),
            _ if ledgers.0.get(key.as_str()) != ledgers.1.get(key.as_str()) => {
                findings.parity.add(key, "the two ledgers differ");
            }
            _ => {}
        }
    }
}

fn ledger(home: &Home) -> BTreeMap<&str, BTreeSet<&Posting>> {
    let mut ledger: BTreeMap<&str, BTreeSet<&Posting>> = BTreeMap::new();
    for posting in &home.postings {
        ledger.entry(&posting.payment_id).or_default().insert(posting);
    }
    ledger
}
