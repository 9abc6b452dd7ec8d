//! Money moved once, and the books say the same as the provider.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Done, Evidence, Findings, Movement};

pub(super) fn check(evidence: &Evidence, findings: &mut Findings) {
    doubled(evidence, findings);
    repeated(evidence, findings);
    beyond(evidence, findings);
    transactions(evidence, findings);
    clearing(evidence, findings);
}

/// The same request may move money once, whatever the provider was told to forget.
fn doubled(evidence: &Evidence, findings: &mut Findings) {
    let mut seen: HashMap<(&str, &str, String), usize> = HashMap::new();
    for movement in evidence.movements.iter().filter(|movement| movement.taken() != 0) {
        let request = request(movement);
        // Without a command and a key it was no request of ours; the amounts judge it.
        if !request.is_empty() {
            *seen.entry((movement.tag("payment_id"), &movement.kind, request)).or_default() += 1;
        }
    }
    for ((payment, kind, request), times) in seen.into_iter().filter(|(_, times)| *times > 1) {
        findings
            .charged_twice
            .add(payment, format!("{times} movements `{kind}` for the one request {request}"));
    }
}

/// One key is one command, however often it came and whichever home was asked: answers travel with a payment.
fn repeated(evidence: &Evidence, findings: &mut Findings) {
    let mut seen: BTreeMap<&Done, usize> = BTreeMap::new();
    for done in evidence.homes().flat_map(|(_, home)| &home.done) {
        *seen.entry(done).or_default() += 1;
    }
    for (done, times) in seen.into_iter().filter(|(_, times)| *times > 1) {
        let why = format!("{times} commands `{}` were done for the one key {}", done.operation, done.key);
        findings.charged_twice.add(&done.payment_id, why);
    }
}

/// What makes two movements the same request: our command. A repeat after a definite answer has another attempt, and moves
/// money only if the first did not.
fn request(movement: &Movement) -> String {
    match (movement.kind.as_str(), movement.tag("command_id")) {
        // A captured authorization carries the metadata of the command that authorized it; its own is in the key.
        ("charge" | "refund", command) if !command.is_empty() => command.to_owned(),
        _ => movement.idempotency_key.clone().unwrap_or_default(),
    }
}

/// Never more than was asked for, nor more back than was taken, but for what an adjustment booked: that was found and explained.
fn beyond(evidence: &Evidence, findings: &mut Findings) {
    let mut sums: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for movement in &evidence.movements {
        let (taken, returned) = sums.entry(movement.tag("payment_id")).or_default();
        match movement.taken() {
            // A refund that came back was not returned, and nothing more was taken by it.
            minor if minor > 0 && movement.kind != "refund_failure" => *taken += minor,
            minor => *returned -= minor,
        }
    }
    let adjusted = adjusted(evidence);
    for (payment, (taken, returned)) in sums {
        let Some(row) = evidence.owner(payment).payments.get(payment) else {
            if taken != 0 {
                findings
                    .charged_twice
                    .add(payment, format!("{taken} was taken for a payment that its owner does not have"));
            }
            continue;
        };
        let (more, back) = adjusted.get(payment).copied().unwrap_or_default();
        if taken > row.amount_minor + more {
            let why = format!("{taken} was taken, {} was asked for and {more} adjusted", row.amount_minor);
            findings.charged_twice.add(payment, why);
        }
        if returned > row.refunded_minor + back {
            let why =
                format!("{returned} was returned, {} was asked for and {back} adjusted", row.refunded_minor);
            findings.charged_twice.add(payment, why);
        }
    }
}

/// Minor units that the owners' adjustments booked as taken, and as returned, by payment.
fn adjusted(evidence: &Evidence) -> HashMap<&str, (i64, i64)> {
    let mut sums: HashMap<&str, (i64, i64)> = HashMap::new();
    for (name, home) in evidence.homes() {
        let own = |id: &str| evidence.owners.get(id).map_or("source", String::as_str) == name;
        for line in &home.postings {
            if line.account != "receivable" || !own(&line.payment_id) {
                continue;
            }
            let (more, back) = sums.entry(&line.payment_id).or_default();
            match line.amount_minor {
                minor if minor < 0 => *more -= minor,
                minor => *back += minor,
            }
        }
    }
    sums
}

fn transactions(evidence: &Evidence, findings: &mut Findings) {
    for (name, home) in evidence.homes() {
        let mut sums: BTreeMap<(&str, &str, &str), i64> = BTreeMap::new();
        for posting in &home.postings {
            let key =
                (posting.payment_id.as_str(), posting.transaction_id.as_str(), posting.currency.as_str());
            *sums.entry(key).or_default() += posting.amount_minor;
        }
        for ((payment, transaction, currency), sum) in sums.into_iter().filter(|(_, sum)| *sum != 0) {
            findings
                .books
                .add(payment, format!("transaction {transaction} at the {name} sums to {sum} {currency}"));
        }
    }
}

/// The clearing account equals the journal: per payment in each home at rest, and in sum per currency.
fn clearing(evidence: &Evidence, findings: &mut Findings) {
    let journal =
        sums(evidence.movements.iter().map(|m| (m.tag("payment_id"), m.currency.to_uppercase(), m.taken())));
    for (name, home) in evidence.homes() {
        let postings = home.postings.iter().filter(|posting| posting.account == "clearing");
        let ledger = sums(postings.map(|p| (p.payment_id.as_str(), p.currency.clone(), p.amount_minor)));
        for key in journal.keys().chain(ledger.keys()).collect::<BTreeSet<_>>() {
            let of = |sums: &BTreeMap<(String, String), i64>| sums.get(key).copied().unwrap_or(0);
            let (journal, ledger) = (of(&journal), of(&ledger));
            if journal != ledger {
                let (payment, currency) = key;
                let why = format!("the journal has {journal} {currency}, clearing at the {name} {ledger}");
                findings.books.add(payment, why);
            }
        }
    }
}

/// Without zeros: a payment that moved no money is in neither sum.
fn sums<'a>(rows: impl Iterator<Item = (&'a str, String, i64)>) -> BTreeMap<(String, String), i64> {
    let mut sums = BTreeMap::new();
    for (payment, currency, minor) in rows.filter(|(_, _, minor)| *minor != 0) {
        *sums.entry((payment.to_owned(), currency)).or_insert(0) += minor;
    }
    sums
}
