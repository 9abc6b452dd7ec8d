//! Search for payment intents in the part of Stripe's query language that clients of ours use:
//! `metadata['name']:'value'` and `status:'value'`, joined by `AND`.

use uuid::Uuid;

use crate::book::Book;
use crate::failure::Failure;
use crate::intent::Intent;

/// The longest query, as Stripe has it.
const QUERY_MAX: usize = 5_000;

/// All of its clauses must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query(Vec<Clause>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Clause {
    Metadata { name: String, value: String },
    Status(String),
}

impl Query {
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let clauses = Some(text).filter(|text| text.len() <= QUERY_MAX).and_then(clauses);
        let message = "We were unable to parse your search query; understood are metadata['name']:'value' and \
                       status:'value', joined by AND";
        clauses.map(Self).ok_or_else(|| Failure::param("parameter_invalid", "query", message))
    }

    /// What is found, newest first: intents that were made before `before_ms` (milliseconds since 1970).
    pub(crate) fn run<'a>(&'a self, book: &'a Book, before_ms: i64) -> impl Iterator<Item = &'a Intent> {
        let tag = self.0.iter().find_map(|clause| match clause {
            Clause::Metadata { name, value } => Some(book.tagged(name, value)),
            Clause::Status(_) => None,
        });
        let intents = tag.unwrap_or_else(|| Box::new(book.intents()));
        intents.filter(move |intent| made_ms(intent) <= before_ms && self.holds(intent))
    }

    fn holds(&self, intent: &Intent) -> bool {
        self.0.iter().all(|clause| match clause {
            Clause::Metadata { name, value } => intent.metadata.get(name) == Some(value),
            Clause::Status(status) => intent.status.word() == *status,
        })
    }
}

/// When it was made: its id says so to the millisecond, `created` only to the second.
fn made_ms(intent: &Intent) -> i64 {
    let id = intent.id.strip_prefix("pi_").and_then(|id| Uuid::try_parse(id).ok());
    let timestamp = id.and_then(|id| id.get_timestamp()).map(|timestamp| timestamp.to_unix());
    let ms =
        |(seconds, nanos): (u64, u32)| i64::try_from(seconds * 1_000 + u64::from(nanos) / 1_000_000).ok();
    timestamp.and_then(ms).unwrap_or(intent.created * 1_000)
}

fn clauses(text: &str) -> Option<Vec<Clause>> {
    let mut clauses = Vec::new();
    let mut rest = text.trim();
    loop {
        let (clause, left) = clause(rest)?;
        clauses.push(clause);
        if left.is_empty() {
            return Some(clauses);
        }
        rest = left.strip_prefix(" AND ").or_else(|| left.strip_prefix(" and "))?.trim_start();
    }
}

fn clause(text: &str) -> Option<(Clause, &str)> {
    if let Some(text) = text.strip_prefix("metadata[") {
        let (name, text) = quoted(text)?;
        let (value, rest) = quoted(text.strip_prefix("]:")?)?;
        return Some((Clause::Metadata { name, value }, rest));
    }
    let (value, rest) = quoted(text.strip_prefix("status:")?)?;
    Some((Clause::Status(value), rest))
}

/// A text in single or double quotes; a backslash keeps the character after it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|first| ['\'', '"'].contains(first))?;
    let (mut value, mut escaped) = (String::new(), false);
    for (at, character) in text.char_indices().skip(1) {
        if !escaped && character == quote {
            return Some((value, &text[at + quote.len_utf8()..]));
        }
        escaped = !escaped && character == '\\';
        if !escaped {
            value.push(character);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(name: &str, value: &str) -> Clause {
        Clause::Metadata { name: name.into(), value: value.into() }
    }

    #[test]
    fn clauses_are_quoted_either_way_and_joined() {
        let query =
            r#"metadata['command_id']:'c 1' AND metadata["payment_id"]:"it\"s" AND status:'succeeded'"#;
        let expected = vec![
            metadata("command_id", "c 1"),
            metadata("payment_id", "it\"s"),
            Clause::Status("succeeded".into()),
        ];
        assert_eq!(Query::parse(query).unwrap(), Query(expected));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for wrong in [
            "",
            "metadata['a']",
            "metadata['a']:'b",
            "metadata[a]:'b'",
            "metadata['a']:'b' OR metadata['c']:'d'",
            "metadata['a']:'b' AND ",
            "amount>5",
        ] {
            assert!(Query::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
