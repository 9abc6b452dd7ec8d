//! What happened to a key, and when.

use outbox::{Applied, BoxError, Sent, archive};

use crate::{
    shelf::{ME, Shelf, WHY},
    world::{NOTES, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_history_tells_when_each_step_was_taken() -> Result<(), BoxError> {
    let mut shelf = Shelf::new("history").await?;
    let memory = shelf.memory.clone();
    memory.refuse(|record| record.headers.get("banyan-version") == Some("3"));
    shelf.inbox(&memory);
    shelf.publish("a", 4).await?;
    shelf.publish("b", 1).await?;
    shelf.relay();
    until(3, || async { Ok(shelf.home.effects().await?.len()) }).await?;
    until(2, || shelf.home.pending()).await?;
    let refused = || shelf.count("outbox.pending where attempts > 0");
    until(1, refused).await?;
    let history = outbox::history(&shelf.operator, NOTES, "a").await?;
    assert_eq!((history.version, history.archived, history.steps.len()), (4, false, 4));
    let [one, two, three, four] = history.steps.as_slice() else { return Err("four steps".into()) };
    let (Sent::Noted(first), Sent::Noted(second)) = (&one.sent, &two.sent) else {
        return Err(format!("{history:?}").into());
    };
    assert!(one.written_at <= *first && first <= second && one.written_at < two.written_at);
    assert!(
        matches!(&three.sent, Sent::Pending { attempts: 1.., error: Some(why) } if why.contains("story"))
    );
    assert_eq!(four.sent, Sent::Pending { attempts: 0, error: None });
    let [keep] = history.handlers.as_slice() else { return Err(format!("{history:?}").into()) };
    let Applied::At(at) = keep.applied(2) else { return Err(format!("{keep:?}").into()) };
    assert!(at > two.written_at && keep.applied(1) == Applied::By(at));
    assert_eq!((keep.version, keep.applied(3)), (2, Applied::NotYet));
    shelf.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_says_what_is_not_known() -> Result<(), BoxError> {
    let mut shelf = Shelf::new("unknown").await?;
    let memory = shelf.memory.clone();
    shelf.inbox(&memory);
    shelf.publish("a", 2).await?;
    shelf.relay();
    until(2, || async { Ok(shelf.home.effects().await?.len()) }).await?;
    until(0, || shelf.home.pending()).await?;
    // The notes are gone, and the first event with its day.
    sqlx::raw_sql("delete from outbox.sent; delete from outbox.event where version = 1")
        .execute(&shelf.home.admin)
        .await?;
    assert_eq!(
        archive::keys(&shelf.operator, NOTES, &["a".into()], std::time::Duration::ZERO, ME, WHY).await?,
        1
    );
    let history = outbox::history(&shelf.operator, NOTES, "a").await?;
    assert_eq!((history.version, history.archived), (2, true));
    assert_eq!(
        history.steps.iter().map(|step| (step.version, step.sent.clone())).collect::<Vec<_>>(),
        [(2, Sent::Unknown)]
    );
    assert!(matches!(history.handlers[0].applied(2), Applied::At(_)));
    let nothing = outbox::history(&shelf.operator, NOTES, "nobody").await?;
    assert_eq!((nothing.version, nothing.steps.len(), nothing.handlers.len()), (0, 0, 0));
    shelf.end().await
}
