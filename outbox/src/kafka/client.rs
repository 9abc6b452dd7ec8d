//! What all clients share.

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::Error;

/// Every request to a broker is answered or given up within this time.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach a Kafka cluster.
#[derive(Debug, Clone)]
pub struct Config {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    /// Put in front of each topic and group name; may be empty.
    pub topic_prefix: String,
    /// A name that is unique per process and survives its restart (`group.instance.id`): a restarted process takes its
    /// partitions back at once, instead of after the session's timeout.
    pub instance_id: Option<String>,
    /// Names this client in the broker's logs.
    pub client_id: String,
}

impl Config {
    /// Reads `KAFKA_BOOTSTRAP_SERVERS` (required), `KAFKA_TOPIC_PREFIX` and `KAFKA_INSTANCE_ID`. `ask` gets each name, what
    /// happens without it (`None`: it is required) and what is allowed, and answers with the value. `None` without servers.
    pub fn read(
        client_id: &str,
        mut ask: impl FnMut(&'static str, Option<&'static str>, &'static str) -> Option<String>,
    ) -> Option<Self> {
        let servers = ask("KAFKA_BOOTSTRAP_SERVERS", None, "host:port, several separated by commas");
        let prefix = ask("KAFKA_TOPIC_PREFIX", Some("none"), "text before each topic and group name");
        let instance_id = ask(
            "KAFKA_INSTANCE_ID",
            Some("a new member at each start"),
            "a name that is unique per process and survives its restart",
        );
        Some(Self {
            bootstrap_servers: servers?,
            topic_prefix: prefix.unwrap_or_default(),
            instance_id,
            client_id: client_id.to_owned(),
        })
    }

    pub(super) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("client.id", &self.client_id)
            .set("socket.timeout.ms", REQUEST_TIMEOUT.as_millis().to_string())
            .set("reconnect.backoff.max.ms", "1000")
            .set("allow.auto.create.topics", "false");
        client
    }

    /// A logical name as the cluster knows it.
    pub fn physical(&self, name: &str) -> String {
        format!("{}{name}", self.topic_prefix)
    }
}

pub(super) fn broker(error: impl std::fmt::Display) -> Error {
    Error::Broker(error.to_string())
}
