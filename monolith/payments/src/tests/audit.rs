//! Who did what, when, why, through which home.

use sqlx::Row as _;

use super::*;
use crate::{Audit, Desk as _};

/// Actor, action and reason of a payment's lines, in order.
async fn lines(world: &World, id: PaymentId) -> Vec<(String, String, Option<String>)> {
    let sql = "select actor, action, reason from payments.audit where payment_id = $1 and tenant = 'acme' and home = 'source'
               order by id";
    sqlx::query_as(sql).bind(id.uuid()).fetch_all(&world.admin).await.unwrap()
}

fn line(actor: &str, action: &str, reason: Option<&str>) -> (String, String, Option<String>) {
    (actor.into(), action.into(), reason.map(Into::into))
}

#[tokio::test]
async fn each_command_and_its_end_are_told_once_with_who_and_why() {
    let world = World::new("told").await;
    let (desk, id) = (world.desk(), world.captured().await);
    let why = Some("two of three came".to_owned());
    let first = Refund { reason: why, ..refund(id, Some(100), "r1") };
    desk.refund(&first, Epoch(0)).await.unwrap();
    // Said again for another reason, by someone else: the same command, so the same answer and no line.
    let again = Refund { by: "bob".parse().unwrap(), reason: Some("again".into()), ..first };
    assert_eq!(desk.refund(&again, Epoch(0)).await.unwrap().refunded_minor, 100);
    // What the rules refuse is not accepted, and leaves nothing.
    desk.refund(&refund(id, Some(5_000), "r3"), Epoch(0)).await.unwrap_err();

    let because = Some("two of three came");
    let told = [
        line("engine", "charge requested", None),
        line("engine", "charge done", None),
        line("ada", "refund requested", because),
        line("ada", "refund done", because),
    ];
    assert_eq!(lines(&world, id).await, told);
    let sql = "select detail, at > now() - interval '1 minute' as recent, command_id is not null as named
               from payments.audit where payment_id = $1 and action = 'refund done'";
    let row = sqlx::query(sql).bind(id.uuid()).fetch_one(&world.admin).await.unwrap();
    let detail: serde_json::Value = row.get("detail");
    assert_eq!((&detail["amount_minor"], &detail["version"]), (&100.into(), &3.into()));
    assert!(detail["object"].as_str().unwrap().starts_with("re_"), "{detail}");
    assert_eq!((row.get("recent"), row.get("named")), (true, true));
    world.end().await;
}

#[tokio::test]
async fn a_providers_refusal_is_told_too() {
    let world = World::new("refusal").await;
    let id = world.refused_capture("c1").await;
    let told = lines(&world, id).await;
    assert_eq!(told[2..], [line("ada", "capture requested", None), line("ada", "capture refused", None)]);
    let sql =
        "select detail ->> 'result' from payments.audit where payment_id = $1 and action = 'capture refused'";
    let code: String = sqlx::query_scalar(sql).bind(id.uuid()).fetch_one(&world.admin).await.unwrap();
    assert_eq!(code, "refused:already_canceled");
    world.end().await;
}

#[tokio::test]
async fn the_audit_can_only_grow_whoever_tries() {
    let world = World::new("grows").await;
    let id = world.captured().await;
    let before = lines(&world, id).await;
    for sql in [
        "update payments.audit set actor = 'nobody'",
        "delete from payments.audit",
        "truncate payments.audit",
    ] {
        let refused = async |pool: &PgPool| {
            let error = sqlx::query(sql).execute(pool).await.unwrap_err();
            error.as_database_error().unwrap().code().unwrap().into_owned()
        };
        assert_eq!(refused(&world.home.pool).await, "42501", "{sql}: the home has no right");
        assert_eq!(refused(&world.admin).await, "23001", "{sql}: the owner meets the trigger");
        let mut replica = world.admin.begin().await.unwrap();
        sqlx::query("set local session_replication_role = replica").execute(&mut *replica).await.unwrap();
        let error = sqlx::query(sql).execute(&mut *replica).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("23001"), "{sql}");
        replica.rollback().await.unwrap();
    }
    // Nor can a home choose when it was.
    let sql =
        "insert into payments.audit (actor, action, home, at) values ('ada', 'x', 'source', '2020-01-01')";
    let error = sqlx::query(sql).execute(&world.home.pool).await.unwrap_err();
    assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("42501"));
    assert_eq!(lines(&world, id).await, before);
    world.end().await;
}

#[tokio::test]
async fn a_line_commits_with_what_it_tells_or_not_at_all() {
    let world = World::new("together").await;
    let id = world.captured().await;
    let (tenant, by) = (tenant(), ada());
    let told = |action, reason| Audit {
        payment: Some((&tenant, id)),
        command: None,
        actor: &by,
        action,
        reason,
        detail: serde_json::json!({"delta_minor": -5}),
    };
    let mut tx = world.home.pool.begin().await.unwrap();
    told("adjusted", Some("settled short")).write(&mut tx, &world.home).await.unwrap();
    tx.rollback().await.unwrap();
    let mut tx = world.home.pool.begin().await.unwrap();
    told("accepted", Some("settled short")).write(&mut tx, &world.home).await.unwrap();
    let long = "x".repeat(256);
    for bad in ["", "two\nlines", &long, "asked for 4111 1111 1111 1111"] {
        let error = told("x", Some(bad)).write(&mut tx, &world.home).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(fields) if fields[0].field == "reason"), "{bad:?}");
    }
    tx.commit().await.unwrap();
    assert_eq!(lines(&world, id).await[2..], [line("ada", "accepted", Some("settled short"))]);
    world.end().await;
}

#[tokio::test]
async fn nobody_can_call_themselves_the_engine() {
    for name in ["engine", "", "two words", "zoë", "4111-1111-1111-1111", &"x".repeat(256)] {
        assert!(matches!(name.parse::<Actor>(), Err(Error::Invalid(_))), "{name:?}");
    }
    assert_eq!("ada@example.com".parse::<Actor>().unwrap().as_str(), "ada@example.com");
    assert_ne!(ada(), Actor::engine());
}
