//! Records that the broker never takes.

use std::time::Duration;

use outbox::{BoxError, Error, Relay, RelayOptions, quarantine};

use crate::{
    fickle::{Fickle, Manners},
    relay::{Running, brisk},
    world::{Home, NOTES, noted, until},
};

/// What is in quarantine, as `key version`.
async fn quarantined(home: &Home) -> Result<Vec<String>, BoxError> {
    let list = quarantine::list(&home.admin, 0, 100).await?;
    let mut keys: Vec<String> = list
        .iter()
        .map(|q| format!("{} {}", q.key.clone().unwrap_or_default(), q.version.unwrap_or(0)))
        .collect();
    keys.sort();
    Ok(keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_never_taken_waits_for_an_operator() -> Result<(), BoxError> {
    let stack = stack::shared().await?;
    let home = Home::new(stack, "quarantine", "test.notes").await?;
    let never = [("a".to_owned(), 2), ("b".to_owned(), 1)].into();
    let fickle = Fickle::new(1, Manners { never, ..Manners::default() });
    for (key, text) in [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("c", 1)] {
        home.publish(&noted(key, text)).await?;
    }
    let options = RelayOptions { attempts_max: 3, ..brisk() };
    let relay = Running::start(Relay::new(home.relay.clone(), fickle.clone()).with(options));
    until(vec!["a 2".to_owned(), "b 1".into()], || quarantined(&home)).await?;
    // What comes behind waits; other keys go on.
    home.publish(&noted("a", 4)).await?;
    home.publish(&noted("c", 2)).await?;
    until(vec![1, 2], async || Ok(fickle.versions("c"))).await?;
    assert_eq!((fickle.versions("a"), fickle.versions("b")), (vec![1], vec![]));
    let first = quarantine::list(&home.admin, 0, 1).await?.remove(0);
    assert_eq!((first.attempts, first.error.as_deref()), (3, Some("it is bad")));

    // An opening can't be skipped; a kind that moves authority neither; nor what is not in quarantine.
    let refused = |event: (&'static str, i64)| {
        let admin = home.admin.clone();
        async move { quarantine::skip(&admin, (NOTES, event.0, event.1), "ann", "it is broken").await }
    };
    assert!(matches!(refused(("b", 1)).await, Err(Error::Unfit(why)) if why.contains("opens its stream")));
    assert!(matches!(refused(("a", 3)).await, Err(Error::Unfit(why)) if why.contains("not in quarantine")));
    sqlx::query("insert into outbox.never_skipped (kind) values ('test.noted.v1') on conflict do nothing")
        .execute(&home.admin)
        .await?;
    assert!(matches!(refused(("a", 2)).await, Err(Error::Unfit(why)) if why.contains("can't be skipped")));
    sqlx::query("delete from outbox.never_skipped where kind = 'test.noted.v1'").execute(&home.admin).await?;
    assert!(quarantine::skip(&home.admin, (NOTES, "a", 2), "ann", " ").await.is_err(), "a reason is needed");

    quarantine::skip(&home.admin, (NOTES, "a", 2), "ann", "it is broken").await?;
    until(vec![1, 2, 3, 4], async || Ok(fickle.versions("a"))).await?;
    let filler = fickle.kept().into_iter().find(|kept| kept.key == "a" && kept.version == 2).ok_or("gone")?;
    assert_eq!(
        (filler.kind.as_str(), Some(filler.id)),
        (quarantine::SKIPPED, first.id.map(|id| id.to_string()))
    );
    let kept: (String, Vec<u8>) =
        sqlx::query_as("select kind, payload from outbox.skipped").fetch_one(&home.admin).await?;
    assert_eq!(kept.0, "test.noted.v1");
    assert!(String::from_utf8(kept.1)?.contains('2'), "the event itself is kept");

    // Sent again, it has all its attempts again.
    quarantine::resend(&home.admin, (NOTES, "b", 1), "bob", "the limit was raised").await?;
    until(Vec::<String>::new(), || quarantined(&home)).await?;
    until(vec!["b 1".to_owned()], || quarantined(&home)).await?;
    fickle.change(|manners| manners.never.clear());
    quarantine::resend(&home.admin, (NOTES, "b", 1), "bob", "now it really was").await?;
    until(0, || home.pending()).await?;
    assert_eq!(fickle.versions("b"), [1, 2]);
    let audit: Vec<String> = sqlx::query_scalar(
        "select actor || ' ' || action || ' ' || (subject ->> 'key') from outbox.audit order by id",
    )
    .fetch_all(&home.admin)
    .await?;
    assert_eq!(audit, ["ann skip a", "bob resend b", "bob resend b"]);
    relay.stop().await?;
    home.drop_now().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_uses_up_no_attempt() -> Result<(), BoxError> {
    let stack = stack::shared().await?;
    let home = Home::new(stack, "outage", "test.notes").await?;
    let fickle = Fickle::new(2, Manners { outages: 1_000, ..Manners::default() });
    for n in 0..5 {
        home.publish(&noted(&format!("key-{n}"), 1)).await?;
    }
    let relay =
        Relay::new(home.relay.clone(), fickle.clone()).with(RelayOptions { attempts_max: 1, ..brisk() });
    let mut status = relay.status();
    let relay = Running::start(relay);
    status.wait_for(|status| status.buckets == 64).await?;
    // Longer than a lease: it was cut off, gave its buckets up, and took them again.
    let released = async || -> Result<bool, BoxError> {
        let free = "select count(*) = 64 from outbox.lease where relay is null";
        Ok(sqlx::query_scalar(free).fetch_one(&home.admin).await?)
    };
    until(true, released).await?;
    status.wait_for(|status| status.broker.is_some() && !status.is_ready()).await?;
    let untouched = "select count(*) from outbox.pending where attempts = 0 and retry_at is null";
    assert_eq!(sqlx::query_scalar::<_, i64>(untouched).fetch_one(&home.admin).await?, 5);
    fickle.change(|manners| manners.outages = 0);
    until(0, || home.pending()).await?;
    assert_eq!(fickle.kept().len(), 5);
    tokio::time::timeout(Duration::from_secs(20), relay.stop()).await??;
    home.drop_now().await
}
