//! Whether two decisions are the same. Pure.

use proto::events as wire;
use uuid::Uuid;

use super::Class;
use super::mutant::{MUTANTS, Mutant};
use crate::{Account, Change, Command, Outcome, Payment, Refusal, Status, Transaction, decide, events};

/// The longest text of a difference, in bytes.
const TEXT_BYTES_MAX: usize = 400;

/// What an event says came of a command.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    pub(crate) change: Change,
    /// The state after it. Its version is not compared.
    pub(crate) payment: Payment,
    pub(crate) ledger: Vec<Transaction>,
}

/// What a comparison found.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) class: Class,
    /// What the decision came to.
    pub(crate) outcome: &'static str,
    /// What differs; `None` when nothing does.
    pub(crate) text: Option<String>,
    /// The mutants that ran, and whether each was caught.
    pub(crate) mutants: Vec<(&'static str, bool)>,
}

/// A posting: transaction, account, minor units and currency.
type Line = (Uuid, Account, i64, String);

/// Decides from the state before, and compares with what came.
pub(super) fn judge(before: &Payment, came: &Said, command: &Command, outcome: &Outcome) -> Judged {
    judge_with(&MUTANTS, before, came, decide(before, command, outcome).map(Said::from))
}

/// With other mutants. They run where the decision is the same: beside one that differs they would show nothing.
pub(crate) fn judge_with(
    mutants: &[Mutant],
    before: &Payment,
    came: &Said,
    decided: Result<Said, Refusal>,
) -> Judged {
    let outcome = came.outcome();
    let decided = match decided {
        Ok(decided) => decided,
        Err(refusal) => {
            let text = cut(&format!("it would have been refused: {refusal}"));
            return Judged { class: of_refusal(&refusal), outcome, text: Some(text), mutants: Vec::new() };
        }
    };
    let class = compare(&decided, came);
    if class != Class::Equal {
        let text = Some(differences(&decided, came));
        return Judged { class, outcome, text, mutants: Vec::new() };
    }
    let tried = |mutant: &Mutant| {
        let wrong = (mutant.change)(before, &decided)?;
        Some((mutant.name, compare(&wrong, came) != Class::Equal))
    };
    Judged { class, outcome, text: None, mutants: mutants.iter().filter_map(tried).collect() }
}

/// Amounts first, then everything else that an event carries.
pub(super) fn compare(decided: &Said, came: &Said) -> Class {
    if decided.amounts() != came.amounts() || decided.lines() != came.lines() {
        return Class::Money;
    }
    if decided.change != came.change || decided.state() != came.state() {
        return Class::Structure;
    }
    Class::Equal
}

impl Judged {
    pub(super) fn undecidable(came: &Said, why: &str) -> Self {
        let text = Some(cut(why));
        Self { class: Class::Undecidable, outcome: came.outcome(), text, mutants: Vec::new() }
    }
}

impl Said {
    /// What the decision came to: [`super::outcomes`] says the same of the tables.
    fn outcome(&self) -> &'static str {
        let Payment { authorized_minor, captured_minor, .. } = self.payment;
        match self.change {
            Change::Authorized => "authorized",
            Change::Captured if captured_minor < authorized_minor => "captured_part",
            Change::Captured => "captured",
            Change::Declined => "declined",
            Change::Voided => "voided",
            Change::Refunded if self.moved() < captured_minor => "refunded_part",
            Change::Refunded => "refunded",
        }
    }

    /// Minor units that the event moved to or from the provider.
    fn moved(&self) -> i64 {
        let lines = self.ledger.iter().flat_map(|transaction| &transaction.postings);
        let clearing = lines.filter(|posting| posting.account == Account::Clearing);
        clearing.fold(0_i64, |sum, posting| sum.saturating_add(posting.amount.minor)).saturating_abs()
    }

    fn amounts(&self) -> (i64, String, [i64; 3]) {
        let Payment { amount, authorized_minor, captured_minor, refunded_minor, .. } = &self.payment;
        let parts = [*authorized_minor, *captured_minor, *refunded_minor];
        (amount.minor, amount.currency.to_string(), parts)
    }

    fn lines(&self) -> Vec<Line> {
        let line = |transaction: &Transaction| {
            let id = transaction.id;
            let line = move |posting: &crate::Posting| {
                (id, posting.account, posting.amount.minor, posting.amount.currency.to_string())
            };
            transaction.postings.iter().map(line).collect::<Vec<_>>()
        };
        let mut lines: Vec<Line> = self.ledger.iter().flat_map(line).collect();
        lines.sort();
        lines
    }

    /// As a message: the version, and whether an outcome is pending, are no part of it.
    fn state(&self) -> wire::PaymentState {
        events::state(&self.payment)
    }

    /// For people, by name.
    fn facts(&self) -> [(&'static str, String); 7] {
        let Payment { status, authorized_minor, captured_minor, refunded_minor, .. } = &self.payment;
        let line = |(_, account, minor, currency): Line| format!("{} {minor} {currency}", account.word());
        let lines: Vec<String> = self.lines().into_iter().map(line).collect();
        [
            ("change", format!("{:?}", self.change).to_lowercase()),
            ("status", Status::word(*status).to_owned()),
            ("authorized_minor", authorized_minor.to_string()),
            ("captured_minor", captured_minor.to_string()),
            ("refunded_minor", refunded_minor.to_string()),
            ("provider_ref", self.payment.provider_ref.clone().unwrap_or_default()),
            ("ledger", format!("[{}]", lines.join(", "))),
        ]
    }
}

/// The other home did what is refused here: with an amount, or at all.
fn of_refusal(refusal: &Refusal) -> Class {
    match refusal {
        Refusal::AmountTooLarge { .. }
        | Refusal::AmountNotAllowed { .. }
        | Refusal::EmptyAdjustment
        | Refusal::Money(_) => Class::Money,
        Refusal::IllegalTransition { .. } | Refusal::Provider { .. } | Refusal::WrongOutcome { .. } => {
            Class::Structure
        }
    }
}

fn differences(decided: &Said, came: &Said) -> String {
    let facts = decided.facts().into_iter().zip(came.facts());
    let differs = facts.filter(|((_, here), (_, there))| here != there);
    let said = differs.map(|((name, here), (_, there))| format!("{name}: decided {here}, came {there}"));
    let said: Vec<String> = said.collect();
    if said.is_empty() { "a field that never changes differs".to_owned() } else { cut(&said.join("; ")) }
}

/// For a column of text, which takes no zero byte, and for a terminal.
fn cut(text: &str) -> String {
    let mut text = text.replace(char::is_control, "?");
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}
