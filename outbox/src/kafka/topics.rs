//! Topics are created explicitly: one made on first use has the broker's default partitions, and loses its first records.

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    types::RDKafkaErrorCode,
};

use super::{
    Config,
    client::{REQUEST_TIMEOUT, broker},
};
use crate::{Error, Topic};

/// Creates the topics that don't exist, with `partitions` each and the cluster's default replication. Existing ones stay
/// as they are.
///
/// # Errors
/// [`Error::Broker`] when the cluster can't be reached or refuses; it names the topic.
pub async fn create_topics(config: &Config, topics: &[Topic], partitions: i32) -> Result<(), Error> {
    let admin: AdminClient<DefaultClientContext> = config.client().create().map_err(broker)?;
    let names: Vec<String> = topics.iter().map(|topic| config.physical(topic.name())).collect();
    let wanted: Vec<NewTopic<'_>> =
        names.iter().map(|name| NewTopic::new(name, partitions, TopicReplication::Fixed(-1))).collect();
    let options =
        AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT));
    for result in admin.create_topics(&wanted, &options).await.map_err(broker)? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                return Err(Error::Broker(format!("topic {topic} can't be created: {code}")));
            }
        }
    }
    Ok(())
}
