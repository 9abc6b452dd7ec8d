//! What a relay says of itself.

use std::collections::BTreeMap;

/// How a relay is doing, as [`super::Relay::status`] tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayStatus {
    /// Why the database can't be used; `None` when it was the last time. Also that the leases have ended without an answer.
    pub database: Option<String>,
    /// Why the broker can't be reached, when nothing was delivered for as long as a lease holds.
    pub broker: Option<String>,
    /// Topics that can't be written to, each with the reason: the cluster says so, or said so of the last record; or a partition
    /// took none for as long as a lease holds, whatever the cluster says. Every topic that a module of this database was granted
    /// is looked after.
    pub missing: BTreeMap<String, String>,
    /// Buckets held, of 64 that all relays share. None is no fault: another relay may hold them.
    pub buckets: usize,
    /// Another relay has this one's name; this one waits until that is gone.
    pub name_is_taken: bool,
    /// Whether leases and topics were looked after at least once.
    pub started: bool,
}

impl RelayStatus {
    /// Whether everything that was granted can be sent. Another relay of the same name is no hindrance: that one sends.
    pub fn is_ready(&self) -> bool {
        self.check().is_ok()
    }

    /// The same for a readiness probe.
    ///
    /// # Errors
    /// All [`RelayStatus::faults`] in one sentence; or that it has not looked after leases and topics yet.
    pub fn check(&self) -> Result<(), String> {
        match self.faults() {
            faults if !faults.is_empty() => Err(faults.join("; ")),
            _ if !self.started => Err("the relay has not looked after its topics yet".to_owned()),
            _ => Ok(()),
        }
    }

    /// What is missing, one sentence each.
    pub fn faults(&self) -> Vec<String> {
        let database = self.database.iter().map(|why| format!("the relay can't use its database: {why}"));
        let broker = self.broker.iter().map(|why| format!("the relay is cut off from the broker: {why}"));
        let topics =
            self.missing.iter().map(|(topic, why)| format!("topic {topic} can't be written to: {why}"));
        database.chain(broker).chain(topics).collect()
    }
}
