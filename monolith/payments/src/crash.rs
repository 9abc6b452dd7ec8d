//! Where a process can die, by name, so that tests can kill it exactly there.
//!
//! Every boundary between the steps of an effect, and of what else takes more than one, is a [`Point`]. What is one statement or
//! one transaction, and is repeated whole when it is not done, has none. A build with debug assertions can be told to abort at a
//! point; in a release build there is nothing to tell.

use std::{fmt, str::FromStr};

use chassis::Reader;

/// A durable boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// The engine has claimed requested payments; their commands are not committed.
    RequestedClaimed,
    /// The engine has claimed intents that nobody works on.
    DueClaimed,
    /// A caller's command is committed; the provider has not been asked.
    IntentCommitted,
    /// The provider made a payment intent; its id is not committed.
    ObjectMade,
    /// The payment intent's id is committed; nothing has moved.
    ObjectCommitted,
    /// The request that moves money is about to be sent.
    BeforeMove,
    /// The provider has answered it; nothing of that is committed.
    Answered,
    /// The outcome is written, but its transaction is open.
    OutcomeWritten,
    /// The outcome is committed; the caller has not been answered.
    OutcomeCommitted,
    /// The provider's refusal is committed.
    RefusalCommitted,
    /// It is committed that there is no definite answer yet.
    UnknownCommitted,
    /// A foreign event is applied, but its transaction is open.
    ReplicaApplied,
    /// A webhook is stored; nothing came of it yet.
    WebhookStored,
    /// A webhook was delivered to the payment's owner, and is not marked so.
    WebhookDelivered,
    /// A webhook is marked as delivered.
    WebhookMarked,
    /// An adjustment is written, but its transaction is open.
    AdjustmentWritten,
    /// An adjustment is committed.
    AdjustmentCommitted,
    /// A batch of old answers is forgotten.
    AnswersForgotten,
}

impl Point {
    /// All of them.
    pub const ALL: [Point; 18] = [
        Point::RequestedClaimed,
        Point::DueClaimed,
        Point::IntentCommitted,
        Point::ObjectMade,
        Point::ObjectCommitted,
        Point::BeforeMove,
        Point::Answered,
        Point::OutcomeWritten,
        Point::OutcomeCommitted,
        Point::RefusalCommitted,
        Point::UnknownCommitted,
        Point::ReplicaApplied,
        Point::WebhookStored,
        Point::WebhookDelivered,
        Point::WebhookMarked,
        Point::AdjustmentWritten,
        Point::AdjustmentCommitted,
        Point::AnswersForgotten,
    ];

    /// Its stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Point::RequestedClaimed => "engine.requested_claimed",
            Point::DueClaimed => "engine.due_claimed",
            Point::IntentCommitted => "effect.intent_committed",
            Point::ObjectMade => "effect.object_made",
            Point::ObjectCommitted => "effect.object_committed",
            Point::BeforeMove => "effect.before_move",
            Point::Answered => "effect.answered",
            Point::OutcomeWritten => "effect.outcome_written",
            Point::OutcomeCommitted => "effect.outcome_committed",
            Point::RefusalCommitted => "effect.refusal_committed",
            Point::UnknownCommitted => "effect.unknown_committed",
            Point::ReplicaApplied => "replica.applied",
            Point::WebhookStored => "webhook.stored",
            Point::WebhookDelivered => "webhook.delivered",
            Point::WebhookMarked => "webhook.marked",
            Point::AdjustmentWritten => "adjustment.written",
            Point::AdjustmentCommitted => "adjustment.committed",
            Point::AnswersForgotten => "engine.answers_forgotten",
        }
    }
}

/// Whether, and where, this process aborts. Without debug assertions it never does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Crash {
    #[cfg(debug_assertions)]
    at: Option<Point>,
}

/// The name of no point, or any name in a release build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a crash point of this build")]
pub struct NoSuchPoint;

impl Crash {
    /// Nowhere.
    pub fn none() -> Self {
        Self::default()
    }

    /// At the point of this name.
    ///
    /// # Errors
    /// [`NoSuchPoint`]; a release build has no points.
    #[cfg(debug_assertions)]
    pub fn at(name: &str) -> Result<Self, NoSuchPoint> {
        let point = Point::ALL.into_iter().find(|point| point.name() == name);
        Ok(Self { at: Some(point.ok_or(NoSuchPoint)?) })
    }

    /// At the point of this name.
    ///
    /// # Errors
    /// [`NoSuchPoint`]; a release build has no points.
    #[cfg(not(debug_assertions))]
    pub fn at(_name: &str) -> Result<Self, NoSuchPoint> {
        Err(NoSuchPoint)
    }

    /// Reads the setting `name`, such as `MONOLITH_CRASH_AT`. A release build refuses every value.
    pub fn read(reader: &mut Reader, name: &'static str) -> Self {
        let allowed = "in debug builds only: where the process aborts, such as effect.intent_committed";
        reader.maybe(name, "nowhere", allowed).unwrap_or_default()
    }

    /// Aborts the process (SIGABRT) if this is where it shall.
    pub fn point(self, point: Point) {
        #[cfg(debug_assertions)]
        if self.at == Some(point) {
            // Not through the log: an abort waits for no writer.
            eprintln!("crash point {point}");
            std::process::abort();
        }
        #[cfg(not(debug_assertions))]
        let _ = point;
    }
}

impl FromStr for Crash {
    type Err = NoSuchPoint;

    fn from_str(name: &str) -> Result<Self, NoSuchPoint> {
        Self::at(name)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_variant_is_among_all_points() {
        let (_, body) = include_str!("crash.rs").split_once("pub enum Point {").unwrap();
        let (body, _) = body.split_once('}').unwrap();
        let lines = body.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        let variants: Vec<&str> = lines.filter_map(|line| line.strip_suffix(',')).collect();
        assert_eq!(variants, Point::ALL.map(|point| format!("{point:?}")));
    }

    #[test]
    fn every_point_has_a_name_of_its_own_and_is_found_by_it() {
        let names: HashSet<_> = Point::ALL.map(Point::name).into();
        assert_eq!(names.len(), Point::ALL.len());
        for point in Point::ALL {
            assert_eq!(Crash::at(point.name()).is_ok(), cfg!(debug_assertions), "{point}");
        }
        assert_eq!(Crash::at("effect.elsewhere").unwrap_err(), NoSuchPoint);
        // Elsewhere, nothing happens.
        Crash::at("replica.applied").unwrap_or_default().point(Point::Answered);
        Crash::none().point(Point::ReplicaApplied);
    }
}
