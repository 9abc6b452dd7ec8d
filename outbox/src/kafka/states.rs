//! What the cluster says about topics.

use std::collections::BTreeMap;

use rdkafka::{
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};

use super::{
    Config,
    client::{REQUEST_TIMEOUT, broker},
};
use crate::{Error, Topic};

/// A topic as the cluster describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicState {
    /// Its name in the cluster, with the prefix.
    pub name: String,
    /// 0: it does not exist.
    pub partitions: usize,
    /// Partitions that nobody can write to now.
    pub leaderless: Vec<i32>,
    /// Copies of each partition; the least, where they differ.
    pub replicas: usize,
    /// Its settings as they are in force; empty when the client may not read them.
    pub settings: BTreeMap<String, String>,
}

impl TopicState {
    /// A setting's value.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// A setting that is a number.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.setting(name)?.parse().ok()
    }
}

/// Asks the cluster about topics; one that does not exist is an answer.
///
/// # Errors
/// [`Error::Broker`] when the cluster can't be reached.
pub async fn topic_states(config: &Config, topics: &[Topic]) -> Result<Vec<TopicState>, Error> {
    let names: Vec<String> = topics.iter().map(|topic| config.physical(topic.name())).collect();
    let client: BaseConsumer = config.client().create().map_err(broker)?;
    let asked = names.clone();
    let mut states =
        tokio::task::spawn_blocking(move || layouts(&client, &asked)).await.map_err(broker)??;
    let admin: AdminClient<DefaultClientContext> = config.client().create().map_err(broker)?;
    let existing = states.iter().filter(|state| state.partitions > 0);
    let resources: Vec<_> = existing.map(|state| ResourceSpecifier::Topic(&state.name)).collect();
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    if resources.is_empty() {
        return Ok(states);
    }
    let answers = admin.describe_configs(&resources, &options).await.map_err(broker)?;
    let existing = states.iter_mut().filter(|state| state.partitions > 0);
    for (state, answer) in existing.zip(answers) {
        let Ok(resource) = answer else { continue };
        let entries = resource.entries.into_iter();
        state.settings = entries.filter_map(|entry| Some((entry.name, entry.value?))).collect();
    }
    Ok(states)
}

/// Partitions and leaders. Asking for one topic does not make it.
fn layouts(client: &BaseConsumer, names: &[String]) -> Result<Vec<TopicState>, Error> {
    let mut states = Vec::new();
    for name in names {
        let metadata = client.fetch_metadata(Some(name), REQUEST_TIMEOUT).map_err(broker)?;
        let found = metadata.topics().iter().find(|topic| topic.name() == name);
        let partitions = found.map(|topic| topic.partitions()).unwrap_or_default();
        states.push(TopicState {
            name: name.clone(),
            partitions: partitions.len(),
            leaderless: partitions.iter().filter(|p| p.leader() < 0).map(|p| p.id()).collect(),
            replicas: partitions.iter().map(|p| p.replicas().len()).min().unwrap_or(0),
            settings: BTreeMap::new(),
        });
    }
    Ok(states)
}
