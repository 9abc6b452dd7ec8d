//! Why a key is where it is.

use std::collections::BTreeSet;
use std::slice;

use tokio::time::timeout;

use super::{Controller, Inner};
use crate::gate::{Direction, millis};
use crate::store::keys as store;
use crate::{Epoch, Error, Heard, Home, Phase, Stage, Why, share};

impl Controller {
    /// Explains the owner of a key: which policy decided, by which rule, how far both homes are and when they last heard of
    /// each other.
    ///
    /// # Errors
    /// [`Error::UnknownKey`] for a key that was never born; in `local` each key is the source's.
    pub async fn why(&self, key: &str) -> Result<Why, Error> {
        let (pool, migration) = (&self.0.pool, &self.0.migration);
        let policy = self.policy().await?;
        let share = share(&policy.salt, key);
        let mut why = match store::find(pool, migration, key).await? {
            Some(born) => {
                let birthplace = store::birthplace(pool, migration, &born.tenant, key).await?;
                explain(self.blank(key, share), &born, birthplace.parse()?)?
            }
            None if policy.stage == Stage::Local => self.blank(key, share),
            None => return Err(Error::UnknownKey { migration: migration.clone(), key: key.to_owned() }),
        };
        let (applied, ages) = tokio::join!(self.applied(key), self.heartbeat_ages(policy.stage));
        (why.applied_at_target, why.applied_at_source) = applied;
        (why.heartbeat_age_ms_at_target, why.heartbeat_age_ms_at_source) = ages;
        why.lag = self.lag(key, why.owner, policy.stage).await;
        Ok(why)
    }

    /// What is behind, when the other home lacks what the owner wrote last of a key. Asked as a status asks; of a key that is not among
    /// those written last, nothing is known.
    async fn lag(&self, key: &str, owner: Home, stage: Stage) -> Option<String> {
        if !stage.beats(owner) {
            return None;
        }
        let direction = match owner {
            Home::Source => Direction::Forward,
            Home::Target => Direction::Reverse,
        };
        let probe = self.probe();
        let sample =
            probe.sample(direction).await.ok().filter(|sample| sample.iter().any(|(it, _)| it == key))?;
        let found = probe.look(direction, &sample).await.ok()?;
        lag(key, &sample, &found.distance.behind)
    }

    async fn applied(&self, key: &str) -> (Option<i64>, Option<i64>) {
        let owned = key.to_owned();
        let keys = slice::from_ref(&owned);
        let bound = self.0.settings.ask_timeout;
        let (there, here) = tokio::join!(
            timeout(bound, self.0.peer.applied(keys)),
            timeout(bound, self.0.domain.reverse_feed(keys))
        );
        let version = |answer: Result<Result<crate::Applied, _>, _>| match answer {
            Ok(Ok(applied)) => applied.versions.get(key).copied(),
            _ => None::<i64>,
        };
        (version(there), version(here))
    }

    /// Milliseconds since the last heartbeat came to the target, and to the source. Only where the stage has them: an earlier stage's
    /// last one would only alarm, and to ask a sealed source would be a touch.
    async fn heartbeat_ages(&self, stage: Stage) -> (Option<u64>, Option<u64>) {
        let Inner { domain, peer, settings, .. } = &*self.0;
        let there = async {
            if !stage.beats(Home::Source) {
                return None;
            }
            timeout(settings.ask_timeout, peer.heard()).await.ok()?.ok()
        };
        let here = async {
            if !stage.beats(Home::Target) {
                return None;
            }
            timeout(settings.ask_timeout, domain.heard()).await.ok()?.ok()
        };
        let (there, here) = tokio::join!(there, here);
        let age = |heard: Option<Heard>| heard.as_ref().and_then(Heard::last).map(|last| millis(last.age));
        (age(there), age(here))
    }

    /// The answer for a key without an owner row, in `local`.
    fn blank(&self, key: &str, share: u8) -> Why {
        Why {
            migration: self.0.migration.clone(),
            key: key.to_owned(),
            tenant: None,
            owner: Home::Source,
            phase: Phase::Settled,
            epoch: Epoch::BIRTH,
            granted_epoch: 0,
            born_at: None,
            share,
            because: "in stage local a key without an owner row is the source's".to_owned(),
            would_be_born: Home::Source,
            applied_at_target: None,
            applied_at_source: None,
            heartbeat_age_ms_at_target: None,
            heartbeat_age_ms_at_source: None,
            lag: None,
        }
    }
}

fn explain(blank: Why, born: &store::Born, would_be_born: Home) -> Result<Why, Error> {
    Ok(Why {
        tenant: Some(born.tenant.clone()),
        owner: born.owner.parse()?,
        phase: born.phase.parse()?,
        epoch: Epoch(born.epoch),
        granted_epoch: born.granted_epoch,
        born_at: Some(born.born_at),
        because: because(born, blank.share)?,
        would_be_born,
        ..blank
    })
}

fn because(born: &store::Born, share: u8) -> Result<String, Error> {
    if born.epoch > Epoch::BIRTH.get() {
        return Ok(format!("it was handed over since its birth: epoch {}", born.epoch));
    }
    let revision = born.born_revision;
    let Some(stage) = &born.stage else {
        return Ok("it is older than the migration and was seeded as the source's".to_owned());
    };
    let stage: Stage = stage.parse().map_err(|_| Error::stored("stage", stage))?;
    if born.draining == Some(true) {
        let while_back = "while it was rolled back: all births were the source's";
        return Ok(format!("born at revision {revision}, in stage {stage} {while_back}"));
    }
    if stage > Stage::Ramping {
        return Ok(format!("born at revision {revision}, in stage {stage}: all births are the target's"));
    }
    if stage < Stage::Ramping {
        return Ok(format!("born at revision {revision}, in stage {stage}: all births were the source's"));
    }
    if born.by_tenant == Some(true) {
        return Ok(format!("born at revision {revision}: its tenant is named by the ramp"));
    }
    let percent = born.percent.unwrap_or(0);
    let sign = if i16::from(share) < percent { "below" } else { "not below" };
    Ok(format!("born at revision {revision}, {percent} %: its share {share} is {sign} {percent}"))
}

/// Tells a feed that is slow as a whole from one of which a part stands still, by the keys that were written after this one: the sample
/// begins with the last.
fn lag(key: &str, sample: &[(String, i64)], behind: &[String]) -> Option<String> {
    let behind: BTreeSet<&str> = behind.iter().map(String::as_str).collect();
    if !behind.contains(key) {
        return None;
    }
    let later = sample.iter().map(|(it, _)| it.as_str()).take_while(|it| *it != key);
    let (later, arrived) = later
        .fold((0_u32, 0_u32), |(later, arrived), it| (later + 1, arrived + u32::from(!behind.contains(it))));
    Some(match (later, arrived) {
        (0, _) => {
            "it is on its way, and was written last of all: no other key tells how the feed is".to_owned()
        }
        (_, 0) => format!(
            "none of the {later} keys written after it has arrived: the whole feed is slow or stands still"
        ),
        _ => format!(
            "{arrived} of the {later} keys written after it have arrived: its own part of the feed is behind, such as its \
             partition, or a record of it that waits"
        ),
    })
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::{because, lag};
    use crate::store::keys::Born;

    fn born(stage: &str, percent: i16, draining: bool) -> Born {
        Born {
            tenant: "a".to_owned(),
            owner: "target".to_owned(),
            phase: "settled".to_owned(),
            epoch: 1,
            granted_epoch: 0,
            born_at: OffsetDateTime::UNIX_EPOCH,
            born_revision: 7,
            stage: Some(stage.to_owned()),
            percent: Some(percent),
            by_tenant: Some(false),
            draining: Some(draining),
        }
    }

    #[test]
    fn a_part_of_a_feed_is_told_from_a_slow_one_by_what_was_written_later() {
        let sample = ["d", "c", "b", "a"].map(|key| (key.to_owned(), 1)).to_vec();
        let says = |key: &str, behind: &[&str]| {
            let behind: Vec<String> = behind.iter().map(|key| (*key).to_owned()).collect();
            lag(key, &sample, &behind)
        };
        assert_eq!(says("b", &[]), None);
        assert_eq!(says("b", &["c", "d"]), None, "others are");
        for (key, behind, begins) in [
            ("d", &["d"][..], "it is on its way"),
            ("b", &["b", "c", "d"], "none of the 2 keys written after it has arrived: the whole feed"),
            ("b", &["b", "d"], "1 of the 2 keys written after it have arrived: its own part"),
        ] {
            let said = says(key, behind).unwrap_or_default();
            assert!(said.starts_with(begins), "{said}");
        }
    }

    #[test]
    fn a_birth_is_explained_by_the_rule_of_its_stage() {
        for (born, because_of) in [
            (born("following", 0, false), "in stage following: all births were the source's"),
            (born("ramping", 60, false), "60 %: its share 57 is below 60"),
            (
                born("ramping", 0, true),
                "in stage ramping while it was rolled back: all births were the source's",
            ),
            // From a ramp by tenants, so the percent says nothing.
            (born("primary", 0, false), "in stage primary: all births are the target's"),
            (
                born("primary", 0, true),
                "in stage primary while it was rolled back: all births were the source's",
            ),
        ] {
            let said = because(&born, 57).unwrap_or_default();
            assert!(said.ends_with(because_of), "{said}");
        }
    }
}
