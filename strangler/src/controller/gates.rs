//! Which gates a stage has, in order.

use serde_json::json;
use time::OffsetDateTime;
use tokio::time::timeout;

use super::Controller;
use crate::gate::Direction;
use crate::policy::Policy;
use crate::store::{keys, moves, policy as store};
use crate::{Error, Gate, PlanView, Stage, Verdict};

impl Controller {
    /// The gates of a step, asked anew. One that lets fewer keys be read or live at the target has none.
    pub(super) async fn gates(&self, from: &Policy, next: &Policy) -> Vec<Gate> {
        if !from.widens(next) {
            return Vec::new();
        }
        let probe = self.probe();
        let live = match next.stage {
            Stage::Local | Stage::Sealed | Stage::Removed => Vec::new(),
            Stage::Following => vec![probe.target_healthy().await],
            Stage::Shadowing | Stage::Reading => {
                vec![probe.target_healthy().await, probe.caught_up(Direction::Forward).await]
            }
            Stage::Ramping | Stage::Primary => {
                let healthy = probe.target_healthy().await;
                let (forward, reverse) =
                    tokio::join!(probe.caught_up(Direction::Forward), probe.caught_up(Direction::Reverse));
                vec![healthy, forward, reverse]
            }
        };
        Box::pin(self.gates_of(from, next, live)).await
    }

    /// The gates of a step, with what was found of target and feeds; of that, what the stage does not need is left out.
    pub(super) async fn gates_of(&self, from: &Policy, next: &Policy, live: Vec<Gate>) -> Vec<Gate> {
        let mut gates: Vec<Gate> = self.planned().into_iter().collect();
        let live = live.into_iter().filter(|gate| needs(next.stage).contains(&gate.name.as_str()));
        match next.stage {
            Stage::Local => {}
            Stage::Following => {
                gates.push(Gate::metric(next.metric.as_deref()));
                gates.extend(live);
            }
            Stage::Shadowing | Stage::Reading | Stage::Ramping | Stage::Primary => {
                gates.extend([self.backfilled().await, self.compared().await]);
                // Before the first birth at the target there is nothing to come back; before all keys go, something must have.
                gates.extend(live.map(|gate| match next.stage {
                    Stage::Primary if gate.name == Direction::Reverse.gate() => gate.shown_by_some(),
                    _ => gate,
                }));
            }
            Stage::Sealed => {
                gates.extend([self.none_pinned().await, self.none_at_source().await, self.cycle(from).await]);
                gates.push(self.none_left_open().await);
                gates.extend([self.whole().await, self.approved(next.stage).await]);
            }
            Stage::Removed => gates.extend([self.verified().await, self.approved(next.stage).await]),
        }
        match next.stage {
            Stage::Reading => {
                gates.extend(self.reads_shown(from).await);
                gates.extend(self.decisions_shown(from).await);
            }
            Stage::Ramping | Stage::Primary => {
                gates.push(self.whole().await);
                gates.extend(self.reads_shown(from).await);
                gates.push(self.drilled(from, next).await);
            }
            Stage::Shadowing => gates.extend(self.decisions_shown(from).await),
            Stage::Local | Stage::Following | Stage::Sealed | Stage::Removed => {}
        }
        gates
    }

    /// Whether there still is a reason, and time: no gate for a program without a plan.
    fn planned(&self) -> Option<Gate> {
        let plan = self.0.settings.plan.as_ref()?;
        let gate = |verdict, found| Gate::new("plan", verdict, found).with(json!(plan.business));
        Some(if plan.migration.name != self.0.migration {
            gate(Verdict::Fail, format!("it is the plan of migration {}", plan.migration.name))
        } else if plan.is_overdue(OffsetDateTime::now_utc()) {
            gate(Verdict::Fail, format!("the last day for a step forward is over: {}", plan.says()))
        } else {
            gate(Verdict::Pass, plan.says())
        })
    }

    /// The plan, as a status shows it.
    pub(super) fn plan_view(&self) -> Option<PlanView> {
        let plan = self.0.settings.plan.as_ref()?;
        let overdue = plan.is_overdue(OffsetDateTime::now_utc());
        Some(PlanView { business: plan.business.clone(), overdue })
    }

    async fn none_pinned(&self) -> Gate {
        let pinned = moves::count_pinned(&self.0.pool, &self.0.migration).await;
        counted("pinned", pinned.map_err(Error::from), |pinned| match pinned {
            0 => (Verdict::Pass, "no key is pinned".to_owned()),
            pinned => (Verdict::Fail, format!("{pinned} keys can't move (`banyan pinned` says why)")),
        })
    }

    async fn none_at_source(&self) -> Gate {
        let count = keys::count(&self.0.pool, &self.0.migration).await;
        counted("at_source", count.map_err(Error::from), |keys| {
            let away = keys.source + keys.moving + keys.recalling;
            match (away, keys.granting, keys.target) {
                (0, _, 0) => (Verdict::Inconclusive, "there is no key at all".to_owned()),
                (0, 0, target) => (Verdict::Pass, format!("all of {target} keys are the target's")),
                (0, granting, _) => {
                    (Verdict::Inconclusive, format!("{granting} keys are not confirmed by the target yet"))
                }
                (away, ..) => (Verdict::Fail, format!("{away} keys are not the target's yet")),
            }
        })
    }

    /// Whether nothing waits at the source for a person, who could not end it there any more.
    async fn none_left_open(&self) -> Gate {
        let bound = self.0.settings.ask_timeout;
        let open = match timeout(bound, self.0.domain.left_open()).await {
            Ok(open) => open.map_err(|error| Error::Domain(error.to_string())),
            Err(_) => {
                Err(Error::Domain(format!("what is open was not told within {} ms", bound.as_millis())))
            }
        };
        counted("left_open", open, |open| match open {
            None => (Verdict::Pass, "nothing at the source waits for a person".to_owned()),
            Some(open) => (Verdict::Fail, open),
        })
    }

    /// Whether the stage has lasted for a business cycle, with neither a rollback nor a hold; one that is not over yet breaks it, too.
    async fn cycle(&self, from: &Policy) -> Gate {
        let broken = match (&from.held, from.draining) {
            (Some(_), _) => Some("the migration is held: a cycle begins when that is over"),
            (None, true) => Some("the stage is being rolled back: a cycle begins when that is over"),
            (None, false) => None,
        };
        if let Some(found) = broken {
            return Gate::new("cycle", Verdict::Inconclusive, found);
        }
        let wanted = self.thresholds().cycle_seconds;
        let lasted = store::unbroken_seconds(&self.0.pool, &self.0.migration).await;
        counted("cycle", lasted.map_err(Error::from), |lasted| {
            let verdict = if lasted >= f64::from(wanted) { Verdict::Pass } else { Verdict::Inconclusive };
            (verdict, format!("{lasted:.0} s without a rollback or a hold, of {wanted} s"))
        })
    }
}

/// The live gates of a stage.
fn needs(stage: Stage) -> &'static [&'static str] {
    match stage {
        Stage::Local | Stage::Sealed | Stage::Removed => &[],
        Stage::Following => &["target_healthy"],
        Stage::Shadowing | Stage::Reading => &["target_healthy", "feed"],
        Stage::Ramping | Stage::Primary => &["target_healthy", "feed", "reverse_feed"],
    }
}

/// A gate by something that was asked for: of the database, or of the domain.
fn counted<T>(name: &str, answer: Result<T, Error>, weigh: impl FnOnce(T) -> (Verdict, String)) -> Gate {
    match answer {
        Ok(number) => {
            let (verdict, found) = weigh(number);
            Gate::new(name, verdict, found)
        }
        Err(error) => {
            tracing::warn!(%error, gate = name, "a gate could not be asked");
            Gate::new(name, Verdict::Inconclusive, "it could not be asked; see the controller's log")
        }
    }
}
