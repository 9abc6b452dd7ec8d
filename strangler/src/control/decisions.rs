//! The shadow of decisions, on the wire.

use time::OffsetDateTime;

use super::v1::{
    DecisionCount as WireCount, DecisionSample as WireSample, DecisionsReply, DecisionsRequest,
    MutantCount as WireMutant, ProviderAccess as WireAccess,
};
use crate::{
    BoxError, DecisionClass, DecisionCount, DecisionSample, Decisions, Error, MutantCount, ProviderAccess,
};

/// The most samples in an answer.
const SAMPLES_MAX: usize = 100;
/// The longest text of one, in bytes.
const TEXT_BYTES_MAX: usize = 400;

pub(super) fn request(since: OffsetDateTime) -> Result<DecisionsRequest, BoxError> {
    Ok(DecisionsRequest { since_ms: i64::try_from(since.unix_timestamp_nanos() / 1_000_000)? })
}

pub(super) fn since(request: DecisionsRequest) -> Result<OffsetDateTime, Error> {
    let ms = request.since_ms;
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    at.ok().filter(|_| ms >= 0).ok_or_else(|| Error::Invalid {
        field: "since_ms",
        reason: format!("must be milliseconds since 1970, not {ms}"),
    })
}

pub(super) fn reply(found: Decisions) -> DecisionsReply {
    let Decisions { version, counts, mutants, samples, provider } = found;
    let count = |DecisionCount { class, outcome, count }| WireCount {
        class: class.name().to_owned(),
        outcome,
        count,
    };
    let mutant =
        |MutantCount { name, caught, missed, outcomes }| WireMutant { name, caught, missed, outcomes };
    let sample = |DecisionSample { key, version, class, text }| WireSample {
        key,
        version,
        class: class.name().to_owned(),
        text: cut(text),
    };
    let provider = match provider {
        None => WireAccess::Unspecified,
        Some(ProviderAccess::Denied) => WireAccess::Denied,
        Some(ProviderAccess::Usable) => WireAccess::Usable,
    };
    DecisionsReply {
        version,
        counts: counts.into_iter().map(count).collect(),
        mutants: mutants.into_iter().map(mutant).collect(),
        samples: samples.into_iter().take(SAMPLES_MAX).map(sample).collect(),
        provider: provider.into(),
    }
}

pub(super) fn decisions(reply: DecisionsReply) -> Result<Decisions, BoxError> {
    let provider = match reply.provider() {
        WireAccess::Unspecified => None,
        WireAccess::Denied => Some(ProviderAccess::Denied),
        WireAccess::Usable => Some(ProviderAccess::Usable),
    };
    let count = |WireCount { class, outcome, count }| -> Result<DecisionCount, BoxError> {
        Ok(DecisionCount { class: read(&class)?, outcome, count })
    };
    let mutant =
        |WireMutant { name, caught, missed, outcomes }| MutantCount { name, caught, missed, outcomes };
    let sample = |WireSample { key, version, class, text }| -> Result<DecisionSample, BoxError> {
        Ok(DecisionSample { key, version, class: read(&class)?, text: cut(text) })
    };
    Ok(Decisions {
        version: reply.version,
        counts: reply.counts.into_iter().map(count).collect::<Result<_, _>>()?,
        mutants: reply.mutants.into_iter().map(mutant).collect(),
        samples: reply.samples.into_iter().take(SAMPLES_MAX).map(sample).collect::<Result<_, _>>()?,
        provider,
    })
}

/// A class that this version does not know may be one that must not pass.
fn read(class: &str) -> Result<DecisionClass, BoxError> {
    DecisionClass::named(class).ok_or_else(|| format!("{class:?} is no class of decisions").into())
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::{WireCount, decisions, reply};
    use crate::control::v1::DecisionsReply;
    use crate::{DecisionClass, DecisionCount, DecisionSample, Decisions, MutantCount, ProviderAccess};

    #[test]
    fn what_was_found_is_read_as_it_was_written_and_an_unknown_class_is_an_error() {
        let found = Decisions {
            version: "1.2.3".to_owned(),
            counts: vec![DecisionCount { class: DecisionClass::Money, outcome: "paid".to_owned(), count: 7 }],
            mutants: vec![MutantCount {
                name: "m".to_owned(),
                caught: 2,
                missed: 1,
                outcomes: vec!["paid".to_owned()],
            }],
            samples: vec![DecisionSample {
                key: "k".to_owned(),
                version: 3,
                class: DecisionClass::Money,
                text: "one cent".to_owned(),
            }],
            provider: Some(ProviderAccess::Denied),
        };
        assert_eq!(decisions(reply(found.clone())).unwrap(), found);
        let odd = WireCount { class: "odd".to_owned(), outcome: "paid".to_owned(), count: 1 };
        assert!(decisions(DecisionsReply { counts: vec![odd], ..DecisionsReply::default() }).is_err());
    }

    #[test]
    fn a_target_that_does_not_say_whether_it_reaches_its_provider_is_not_taken_to_be_denied() {
        assert_eq!(decisions(DecisionsReply::default()).unwrap().provider, None);
    }
}
