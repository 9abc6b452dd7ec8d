//! Both homes hold the same payments, the same ledgers and the same answers, at rest.

use std::collections::{BTreeMap, BTreeSet};

use super::{Evidence, Findings, Home, Kept, Posting};

/// A caller's key: payment, operation, key.
type Slot<'a> = (&'a str, &'a str, &'a str);

pub(super) fn check(evidence: &Evidence, findings: &mut Findings) {
    payments(evidence, findings);
    answers(evidence, findings);
}

fn payments(evidence: &Evidence, findings: &mut Findings) {
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

/// Whatever the owner answers with, the other home has too, and the same: it may be the next owner. But a refusal has no event and
/// comes with the next snapshot; and what the owner has forgotten already is no difference.
fn answers(evidence: &Evidence, findings: &mut Findings) {
    let (source, target) = (kept(&evidence.source), kept(&evidence.target));
    let slots: BTreeSet<&Slot<'_>> = source.keys().chain(target.keys()).collect();
    for slot in slots {
        let (payment, operation, key) = *slot;
        let (own, other) = match evidence.owners.get(payment).map(String::as_str) {
            Some("target") => (target.get(slot), source.get(slot)),
            _ => (source.get(slot), target.get(slot)),
        };
        match (own, other) {
            (Some(own), Some(other)) if said(own) != said(other) => {
                let (own, other) = (said(own), said(other));
                let why = format!("{operation} {key} is {own:?} at its owner, {other:?} at the other home");
                findings.parity.add(payment, why);
            }
            (Some(own), None) if own.is_shared => {
                findings.parity.add(payment, format!("only its owner has the answer to {operation} {key}"));
            }
            _ => {}
        }
    }
}

fn kept(home: &Home) -> BTreeMap<Slot<'_>, &Kept> {
    let answers = home.answers.iter();
    answers.map(|it| ((it.payment_id.as_str(), it.operation.as_str(), it.key.as_str()), it)).collect()
}

fn said(kept: &Kept) -> (&str, &str, &str) {
    (kept.fingerprint.as_str(), kept.command_id.as_str(), kept.answer.as_str())
}
