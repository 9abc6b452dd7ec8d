//! Custody: from the row to the owner of the payment, or to a person.

use std::time::Duration;

use webhooks::{Delivered, Error, Options, State};

use crate::fixture::{Script, World, event};

fn hasty() -> Options {
    Options { poll: Duration::from_millis(5), unplaced_after: Duration::ZERO, ..Options::default() }
}

#[tokio::test]
async fn custody_lasts_until_the_owner_has_taken_it() -> anyhow::Result<()> {
    let world = World::open().await?;
    let event = event("evt_1", "refund.created");
    world.tell(&event).await?;
    let script = Script::new([Ok(Delivered::Early), Err("the service is away"), Ok(Delivered::Applied)]);
    world.until(&script, Options::default(), "evt_1", "applied").await?;
    let asked = script.asked();
    assert_eq!(asked.len(), 3);
    let of = &event["data"]["object"];
    assert_eq!(of["metadata"]["payment_id"].as_str(), Some(asked[2].payment.to_string().as_str()));
    assert_eq!((asked[2].kind.as_str(), asked[2].object.as_str()), ("refund.created", "pi_1"));
    let numbers = world.numbers().await?;
    for verdict in ["early", "later", "applied"] {
        let line = format!("webhooks_told_total{{verdict=\"{verdict}\"}} 1");
        assert!(numbers.contains(&line), "{line}\n{numbers}");
    }
    world.close().await
}

#[tokio::test]
async fn what_stays_early_is_unplaced_and_a_person_decides() -> anyhow::Result<()> {
    let world = World::open().await?;
    for id in ["evt_1", "evt_2"] {
        world.tell(&event(id, "payment_intent.succeeded")).await?;
    }
    let early = Script::new([Ok(Delivered::Early)]);
    for id in ["evt_1", "evt_2"] {
        world.until(&early, hasty(), id, "unplaced").await?;
    }
    let unplaced = webhooks::list(&world.pool, Some(State::Unplaced), 50).await?;
    assert_eq!(unplaced.len(), 2);
    assert_eq!(unplaced[0].why.as_deref(), Some("its payment is not known, or not yet"));
    let asked = early.asked().len();
    world.tell(&event("evt_3", "payment_intent.succeeded")).await?;
    world.until(&early, hasty(), "evt_3", "unplaced").await?;
    assert_eq!(early.asked().len(), asked + 1, "what is unplaced is not asked again at once");

    webhooks::retry(&world.pool, "evt_1").await?;
    world.until(&Script::new([Ok(Delivered::Applied)]), Options::default(), "evt_1", "applied").await?;
    for (by, why) in [
        ("", "a test"),
        ("ann", " "),
        ("ann", "they wrote:\n4111111111111111"),
        ("4111111111111111", "a test"),
    ] {
        let unfit = webhooks::dismiss(&world.pool, "evt_2", by, why).await;
        assert!(matches!(unfit, Err(Error::Invalid(_))), "{unfit:?}");
    }
    for id in ["evt_2", "evt_3"] {
        webhooks::dismiss(&world.pool, id, "ann", "made by hand while testing").await?;
    }
    let kept = webhooks::list(&world.pool, Some(State::Dismissed), 50).await?;
    assert_eq!(kept[0].decision, Some(("ann".to_owned(), "made by hand while testing".to_owned())));
    assert!(matches!(webhooks::dismiss(&world.pool, "evt_2", "ann", "again").await, Err(Error::NotOpen)));
    assert!(matches!(webhooks::retry(&world.pool, "evt_2").await, Err(Error::NotOpen)));
    assert!(webhooks::list(&world.pool, None, 50).await?.is_empty(), "nothing is open");
    world.close().await
}

#[tokio::test]
async fn what_is_unplaced_ends_by_itself_when_its_payment_comes() -> anyhow::Result<()> {
    let world = World::open().await?;
    world.tell(&event("evt_1", "payment_intent.succeeded")).await?;
    // As after an outage: at the first answer of its owner its time is over.
    let script = Script::new([Ok(Delivered::Early), Ok(Delivered::Applied)]);
    world.until(&script, hasty(), "evt_1", "unplaced").await?;
    let hour = "update webhooks.notice set next_at = next_at - interval '80 minutes' where id = 'evt_1'";
    sqlx::query(hour).execute(&world.admin).await?;
    world.until(&script, hasty(), "evt_1", "applied").await?;
    assert_eq!(script.asked().len(), 2);
    world.close().await
}

#[tokio::test]
async fn a_surprise_stays_visible() -> anyhow::Result<()> {
    let world = World::open().await?;
    world.tell(&event("evt_1", "payment_intent.succeeded")).await?;
    let what = "nobody asked for pi_1";
    let script = Script::new([Ok(Delivered::Surprise(what.to_owned())), Ok(Delivered::Applied)]);
    world.until(&script, hasty(), "evt_1", "surprise").await?;
    let open = webhooks::list(&world.pool, None, 50).await?;
    assert_eq!((open[0].state, open[0].why.as_deref()), (State::Surprise, Some(what)));
    assert_eq!(script.asked().len(), 1, "it is not asked again at once");
    // Once the books have it, whoever asks again hears so.
    webhooks::retry(&world.pool, "evt_1").await?;
    world.until(&script, hasty(), "evt_1", "applied").await?;
    world.close().await
}

#[tokio::test]
async fn a_surprise_stays_one_while_its_owner_is_away() -> anyhow::Result<()> {
    let world = World::open().await?;
    world.tell(&event("evt_1", "payment_intent.succeeded")).await?;
    let what = "nobody asked for pi_1";
    let away = "the service is away";
    let script = Script::new([Ok(Delivered::Surprise(what.to_owned())), Err(away), Err(away)]);
    world.until(&script, hasty(), "evt_1", "surprise").await?;
    for asked in 2..=3 {
        let hour = "update webhooks.notice set next_at = next_at - interval '80 minutes' where id = 'evt_1'";
        sqlx::query(hour).execute(&world.admin).await?;
        world.until_asked(&script, hasty(), asked).await?;
        let open = webhooks::list(&world.pool, None, 50).await?;
        assert_eq!(
            (open[0].state, open[0].why.as_deref()),
            (State::Surprise, Some(what)),
            "asked {asked} times"
        );
    }
    world.close().await
}

#[tokio::test]
async fn what_ended_is_forgotten_after_a_month_and_what_is_open_never() -> anyhow::Result<()> {
    let world = World::open().await?;
    for id in ["evt_old", "evt_young", "evt_open"] {
        world.tell(&event(id, "payment_intent.succeeded")).await?;
    }
    let end = "update webhooks.notice set state = 'applied', ended_at = now() - $2 * interval '1 day' where id = $1";
    for (id, days) in [("evt_old", 31), ("evt_young", 29)] {
        sqlx::query(end).bind(id).bind(days).execute(&world.admin).await?;
    }
    let age = "update webhooks.notice set received_at = now() - interval '1 year' where id = 'evt_open'";
    sqlx::query(age).execute(&world.admin).await?;
    world.until(&Script::new([Ok(Delivered::Early)]), hasty(), "evt_open", "unplaced").await?;
    let left: Vec<String> =
        sqlx::query_scalar("select id from webhooks.notice order by id").fetch_all(&world.admin).await?;
    assert_eq!(left, ["evt_open", "evt_young"]);
    let numbers = world.numbers().await?;
    assert!(numbers.contains("webhooks_kept{state=\"unplaced\"}"), "{numbers}");
    world.close().await
}
