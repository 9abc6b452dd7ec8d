//! The topics at the broker.

use super::{Bounds, Finding, Severity};
use crate::{
    Error, Topic,
    kafka::{self, TopicState},
};

/// The largest record that `outbox.publish` lets pass: payload, headers, key and their framing.
const RECORD_BYTES_MAX: u64 = 1_000_000;

const CHECK: &str = "topics";

/// Whether the topics exist, have leaders, and keep what consumers need.
///
/// # Errors
/// [`Error::Broker`] when the cluster can't be reached.
pub async fn topics(
    config: &kafka::Config,
    topics: &[Topic],
    bounds: &Bounds,
) -> Result<Vec<Finding>, Error> {
    let states = kafka::topic_states(config, topics).await?;
    Ok(states.iter().flat_map(|state| judge(state, bounds)).collect())
}

fn judge(state: &TopicState, bounds: &Bounds) -> Vec<Finding> {
    let TopicState { name, .. } = state;
    let mut found = Vec::new();
    let mut say = |severity, what: String, remedy| found.push(Finding::new(CHECK, severity, what, remedy));
    if state.partitions == 0 {
        say(Severity::Critical, format!("{name} does not exist"), "outbox::kafka::create_topics");
        return found;
    }
    if !state.leaderless.is_empty() {
        let what = format!("{name} has no leader for partitions {:?}", state.leaderless);
        say(Severity::Critical, what, "see which brokers are down; keys of other partitions go on");
    }
    if state.setting("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        let what = format!("{name} is compacted: it forgets versions that a consumer may still need");
        say(Severity::Critical, what, "set cleanup.policy=delete");
    }
    let keep_ms = i64::from(bounds.topic_days) * 86_400_000;
    if let Some(kept) = state.number("retention.ms").filter(|kept| (0..keep_ms).contains(kept)) {
        let what = format!(
            "{name} keeps records for {} h, the log for {} days",
            kept / 3_600_000,
            bounds.topic_days
        );
        say(
            Severity::Warning,
            what,
            "a consumer that is away for longer loses its place: set retention.ms higher",
        );
    }
    if let Some(bytes) = state.number("max.message.bytes").and_then(|bytes| u64::try_from(bytes).ok())
        && bytes < RECORD_BYTES_MAX
    {
        let what = format!("{name} takes records of {bytes} bytes, less than what may be published");
        say(Severity::Warning, what, "set max.message.bytes=1048588 or more");
    }
    if state.setting("unclean.leader.election.enable") == Some("true") {
        let what = format!("{name} lets a replica lead that lacks records which were called delivered");
        say(Severity::Warning, what, "set unclean.leader.election.enable=false");
    }
    if state.replicas == 1 {
        let what = format!("{name} has one replica");
        say(Severity::Warning, what, "give it three, or a broker that dies takes records with it");
    }
    if state.replicas > 1 && state.number("min.insync.replicas") == Some(1) {
        let what = format!("{name} calls a record delivered when one of {} replicas has it", state.replicas);
        say(
            Severity::Warning,
            what,
            "set min.insync.replicas=2, or a broker that dies takes records with it",
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(partitions: usize, settings: &[(&str, &str)]) -> TopicState {
        TopicState {
            name: "notes.v1".into(),
            partitions,
            leaderless: Vec::new(),
            replicas: 3,
            settings: settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        }
    }

    fn found(state: &TopicState) -> Vec<String> {
        judge(state, &Bounds::default()).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_topic_is_judged_by_its_settings() {
        let good = [
            ("cleanup.policy", "delete"),
            ("retention.ms", "604800000"),
            ("max.message.bytes", "1048588"),
            ("min.insync.replicas", "2"),
        ];
        assert_eq!(found(&state(3, &good)), [""; 0]);
        assert_eq!(found(&state(3, &[("retention.ms", "-1")])), [""; 0], "for ever is long enough");
        assert_eq!(found(&state(0, &[])), ["notes.v1 does not exist"]);
        let leaderless = TopicState { leaderless: vec![2], ..state(3, &good) };
        assert_eq!(found(&leaderless), ["notes.v1 has no leader for partitions [2]"]);
        for (name, value) in [
            ("cleanup.policy", "compact,delete"),
            ("retention.ms", "3600000"),
            ("max.message.bytes", "10000"),
            ("min.insync.replicas", "1"),
            ("unclean.leader.election.enable", "true"),
        ] {
            let mut bad = state(3, &good);
            bad.settings.insert(name.into(), value.into());
            assert_eq!(found(&bad).len(), 1, "{name}={value}: {:?}", found(&bad));
        }
        let alone = TopicState { replicas: 1, ..state(3, &good) };
        assert_eq!(found(&alone), ["notes.v1 has one replica"]);
    }
}
