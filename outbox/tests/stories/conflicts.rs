//! Two events with one version: told until an operator has looked into it.

use outbox::{
    BoxError, Error, RefillOptions, audit, conflict,
    doctor::{self, Bounds, Severity},
};
use uuid::Uuid;

use crate::{
    line::{Scene, record},
    shelf::{ME, WHY, role, user},
    world::{noted, until},
};

async fn told(scene: &Scene) -> Result<Vec<(Severity, String)>, BoxError> {
    let found = doctor::held_back(&scene.home.admin, &Bounds::default()).await?;
    Ok(found.into_iter().map(|finding| (finding.severity, finding.what)).collect())
}

fn one() -> Vec<(Severity, String)> {
    vec![(Severity::Critical, "1 conflicts: two events with one version, so two owners wrote".to_owned())]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_told_until_it_is_settled_and_does_not_come_back() -> Result<(), BoxError> {
    let mut scene = Scene::new("settled").await?;
    let operator = role(&scene.home, "operator").await?;
    outbox::grant_operator(&scene.home.admin, &user(&operator)).await?;
    scene.start(None, RefillOptions::default());
    scene.send("a", 1, "1");
    scene.effects(&["a:1:1"]).await?;
    let forgery = || (Uuid::now_v7(), noted("a", "of another owner"));
    let (other, text) = forgery();
    scene.line.put(&record(&text, 1, other));
    until(one(), || told(&scene)).await?;
    let found = conflict::list(&operator, Some("test.judge"), 10).await?;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].key.as_str(), found[0].version, found[0].other_id), ("a", 1, other));
    assert_eq!(conflict::list(&operator, Some("test.other"), 10).await?, []);
    let nobody = conflict::settle(&operator, &found[0], "", WHY).await;
    assert!(matches!(nobody, Err(Error::Unexplained { what: "actor", .. })), "{nobody:?}");
    let denied = conflict::settle(&scene.home.module, &found[0], ME, WHY).await;
    assert!(matches!(denied, Err(Error::Denied(_))), "{denied:?}");
    assert!(conflict::settle(&operator, &found[0], ME, WHY).await?);
    assert!(!conflict::settle(&operator, &found[0], "bob", WHY).await?);
    assert_eq!(told(&scene).await?, []);
    let noted = audit::list(&operator, &audit::Filter::default(), None, 10).await?;
    assert_eq!(noted.len(), 1);
    assert_eq!((noted[0].actor.as_str(), noted[0].action.as_str()), (ME, "settle_conflict"));
    assert_eq!(noted[0].subject["applied_id"], found[0].applied_id.to_string());
    // The same record again is the same conflict; a third event with that version is another.
    scene.line.put(&record(&text, 1, other));
    scene.send("b", 1, "marker");
    scene.effects(&["a:1:1", "b:1:marker"]).await?;
    until(2, async || Ok(scene.tally.of("test.judge", "conflict"))).await?;
    assert_eq!(told(&scene).await?, []);
    let (third, text) = forgery();
    scene.line.put(&record(&text, 1, third));
    until(one(), || told(&scene)).await?;
    operator.close().await;
    scene.end().await
}
