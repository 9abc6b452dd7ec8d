//! Dead letters: found by cause, replayed, edited, discarded; each once, whatever happens beside it.

use outbox::{BoxError, Error, Message, RefillOptions, audit, dead_letter, dead_letter::Filter};
use uuid::Uuid;

use crate::{
    line::{Scene, texts},
    world::{Noted, until},
};

const ME: &str = "ann";
const WHY: &str = "the story wants it";

async fn ids(scene: &Scene) -> Result<Vec<Uuid>, BoxError> {
    let letters = dead_letter::list(&scene.home.admin, &Filter::default(), None, 1000).await?;
    Ok(letters.into_iter().map(|letter| letter.id).collect())
}

async fn actions(scene: &Scene) -> Result<Vec<String>, BoxError> {
    let entries = audit::list(&scene.home.admin, &audit::Filter::default(), None, 1000).await?;
    Ok(entries.into_iter().map(|e| format!("{} {} {}", e.actor, e.action, e.subject["key"])).collect())
}

/// A scene in which the notes of these keys were given up: version 1 of each shouts, version 2 waits behind it.
async fn buried(name: &str, keys: &[&str]) -> Result<(Scene, Vec<Message>), BoxError> {
    let mut scene = Scene::new(name).await?;
    let mut sent = Vec::new();
    for key in keys {
        sent.push(scene.send(key, 1, "!1"));
        sent.push(scene.send(key, 2, "2"));
    }
    scene.start(None, RefillOptions::default());
    scene.dead(i64::try_from(keys.len())?).await?;
    let query = "select key from outbox.parked order by key";
    until(keys.iter().map(ToString::to_string).collect(), || texts(&scene.home, query)).await?;
    Ok((scene, sent))
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_one_cause_are_a_group_and_replay_lets_their_keys_go_on() -> Result<(), BoxError> {
    let (scene, _) = buried("cause", &["a", "b"]).await?;
    let pool = scene.home.admin.clone();
    let groups = dead_letter::groups(&pool, &Filter::default(), 10).await?;
    let [group] = groups.as_slice() else { return Err(format!("{groups:?}").into()) };
    assert_eq!((group.letters, group.handler.as_str()), (2, "test.judge"));
    assert!(group.sample.contains("shouts") && group.first <= group.last, "{group:?}");
    let first = dead_letter::list(&pool, &Filter::default(), None, 1).await?;
    let rest = dead_letter::list(&pool, &Filter::default(), Some(first[0].id), 10).await?;
    assert_eq!((first.len(), rest.len()), (1, 1));
    assert_eq!((first[0].version, first[0].attempts), (1, 2));
    let other = Filter { handler: Some("test.other".into()), ..Filter::default() };
    assert_eq!(dead_letter::replay_all(&pool, &other, ME, WHY).await?, 0);
    // Not mended yet: it dies again, and is another letter.
    assert_eq!(dead_letter::replay(&pool, &[first[0].id], ME, WHY).await?, 1);
    scene.dead(2).await?;
    assert!(!ids(&scene).await?.contains(&first[0].id));
    scene.mend();
    let same = Filter { fingerprint: Some(group.fingerprint.clone()), ..Filter::default() };
    assert_eq!(dead_letter::replay_all(&pool, &same, ME, WHY).await?, 2);
    scene.effects(&["a:1:!1", "a:2:2", "b:1:!1", "b:2:2"]).await?;
    scene.at_rest().await?;
    assert_eq!(dead_letter::replay(&pool, &[first[0].id, rest[0].id], ME, WHY).await?, 0);
    assert_eq!(actions(&scene).await?.len(), 3);
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_discarded_twice_moves_its_cursor_by_one() -> Result<(), BoxError> {
    let (scene, sent) = buried("discard", &["a"]).await?;
    let pool = scene.home.admin.clone();
    let letters = ids(&scene).await?;
    let (one, other) = tokio::join!(
        dead_letter::discard(&pool, &letters, ME, WHY),
        dead_letter::discard(&pool, &letters, "bob", WHY)
    );
    assert_eq!(one? + other?, 1);
    scene.effects(&["a:2:2"]).await?;
    // The original comes again: its version is taken, by the same event.
    scene.mend();
    scene.line.put(&sent[0]);
    scene.send("a", 3, "3");
    scene.effects(&["a:2:2", "a:3:3"]).await?;
    scene.at_rest().await?;
    assert_eq!(actions(&scene).await?.len(), 1);
    let kept = "select convert_from(payload, 'UTF8') from outbox.audit_original";
    assert_eq!(texts(&scene.home, kept).await?, [r#"{"key":"a","text":"!1"}"#]);
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_is_never_skipped_is_neither_discarded_nor_edited() -> Result<(), BoxError> {
    let (scene, _) = buried("authority", &["a"]).await?;
    let pool = scene.home.admin.clone();
    sqlx::query("insert into outbox.never_skipped (kind) values ('test.noted.v1')").execute(&pool).await?;
    let refused = dead_letter::discard(&pool, &ids(&scene).await?, ME, WHY).await;
    assert!(
        matches!(&refused, Err(Error::Invalid { reason, .. }) if reason.contains("test.noted.v1")),
        "{refused:?}"
    );
    let letter = ids(&scene).await?[0];
    let edited = br#"{"key":"a","text":"other"}"#;
    let refused = dead_letter::edit_and_replay(&pool, letter, edited, &|_, _| Ok(()), ME, WHY).await;
    assert!(
        matches!(&refused, Err(Error::Invalid { reason, .. }) if reason.contains("edited")),
        "{refused:?}"
    );
    scene.dead(1).await?;
    assert!(actions(&scene).await?.is_empty());
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_letter_must_decode_and_takes_the_place_of_the_original() -> Result<(), BoxError> {
    let (scene, sent) = buried("edit", &["a"]).await?;
    let pool = scene.home.admin.clone();
    let letter = ids(&scene).await?[0];
    let decode = &dead_letter::decodes::<Noted>;
    let refused = dead_letter::edit_and_replay(&pool, letter, b"{\"key\":", decode, ME, WHY).await;
    assert!(matches!(&refused, Err(Error::Invalid { reason, .. }) if reason.contains("EOF")), "{refused:?}");
    let large = vec![b' '; 900_001];
    let refused = dead_letter::edit_and_replay(&pool, letter, &large, &|_, _| Ok(()), ME, WHY).await;
    assert!(
        matches!(&refused, Err(Error::Invalid { reason, .. }) if reason.contains("900000")),
        "{refused:?}"
    );
    let refused = dead_letter::edit_and_replay(&pool, letter, b"{}", &|_, _| Ok(()), ME, " ").await;
    assert!(matches!(refused, Err(Error::Unexplained { what: "reason", .. })), "{refused:?}");
    assert_eq!(ids(&scene).await?, [letter], "nothing has changed");
    // Held back, so that the original comes again before the edited event is tried.
    let hold = "create function public.hold() returns trigger language plpgsql as $$
                begin new.retry_at := clock_timestamp() + interval '1 hour'; return new; end $$;
                create trigger hold before insert on outbox.parked for each row execute function public.hold()";
    sqlx::raw_sql(hold).execute(&pool).await?;
    let better = br#"{"key":"a","text":"better"}"#;
    assert!(dead_letter::edit_and_replay(&pool, letter, better, decode, ME, WHY).await?);
    scene.mend();
    scene.line.put(&sent[0]);
    scene.send("b", 1, "marker");
    scene.effects(&["b:1:marker"]).await?;
    sqlx::query("update outbox.parked set retry_at = clock_timestamp()").execute(&pool).await?;
    scene.effects(&["a:1:better", "a:2:2", "b:1:marker"]).await?;
    scene.at_rest().await?;
    assert!(!dead_letter::edit_and_replay(&pool, letter, better, decode, ME, WHY).await?);
    assert_eq!(actions(&scene).await?, [r#"ann edit_dead_letter "a""#]);
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_is_refused_again_is_not_forgotten() -> Result<(), BoxError> {
    let (scene, sent) = buried("edit-again", &["a"]).await?;
    let pool = scene.home.admin.clone();
    let letter = ids(&scene).await?[0];
    let (better, decode) = (br#"{"key":"a","text":"!better"}"#, &dead_letter::decodes::<Noted>);
    assert!(dead_letter::edit_and_replay(&pool, letter, better, decode, ME, WHY).await?);
    until(true, async || Ok(ids(&scene).await?.first().is_some_and(|id| *id != letter))).await?;
    scene.mend();
    // The handler would take the original now.
    for round in ["dead", "replayed and dead"] {
        let settled = scene.tally.settled("test.judge");
        scene.line.put(&sent[0]);
        until(true, async || Ok(scene.tally.settled("test.judge") > settled)).await?;
        assert_eq!(texts(&scene.home, "select text from public.effect").await?, [""; 0], "{round}");
        if round == "dead" {
            scene.judge.strict.store(true, std::sync::atomic::Ordering::SeqCst);
            let letters = ids(&scene).await?;
            assert_eq!(dead_letter::replay(&pool, &letters, ME, WHY).await?, 1);
            until(true, async || Ok(ids(&scene).await?.first().is_some_and(|id| *id != letters[0]))).await?;
            scene.mend();
        }
    }
    assert_eq!(dead_letter::replay(&pool, &ids(&scene).await?, ME, WHY).await?, 1);
    scene.effects(&["a:1:!better", "a:2:2"]).await?;
    scene.at_rest().await?;
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_beside_a_redelivery_has_one_effect() -> Result<(), BoxError> {
    let keys = ["a", "b", "c", "d", "e", "f"];
    let (scene, sent) = buried("beside", &keys).await?;
    scene.mend();
    let pool = scene.home.admin.clone();
    let again = async {
        for message in sent.iter().chain(&sent) {
            scene.line.put(message);
            tokio::task::yield_now().await;
        }
        Ok::<_, Error>(0)
    };
    let all = Filter::default();
    tokio::try_join!(dead_letter::replay_all(&pool, &all, ME, WHY), again)?;
    let wanted: Vec<String> =
        keys.iter().flat_map(|key| [format!("{key}:1:!1"), format!("{key}:2:2")]).collect();
    scene.effects(&wanted.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    scene.at_rest().await?;
    scene.send("z", 1, "last");
    until(1, async || {
        let last = "select count(*) from public.effect where key = 'z'";
        Ok(sqlx::query_scalar::<_, i64>(last).fetch_one(&pool).await?)
    })
    .await?;
    let twice = "select key || version from public.effect group by key, version having count(*) > 1";
    assert!(texts(&scene.home, twice).await?.is_empty());
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_whose_event_was_applied_after_all_is_forgotten() -> Result<(), BoxError> {
    let (scene, sent) = buried("after-all", &["a"]).await?;
    let letters = ids(&scene).await?;
    // Refused again: still the same letter.
    scene.line.put(&sent[0]);
    scene.send("b", 1, "marker");
    scene.effects(&["b:1:marker"]).await?;
    assert_eq!(ids(&scene).await?, letters);
    scene.mend();
    scene.line.put(&sent[0]);
    scene.effects(&["a:1:!1", "a:2:2", "b:1:marker"]).await?;
    scene.at_rest().await?;
    assert_eq!(dead_letter::replay(&scene.home.admin, &letters, ME, WHY).await?, 0);
    assert_eq!(dead_letter::discard(&scene.home.admin, &letters, ME, WHY).await?, 0);
    assert!(actions(&scene).await?.is_empty(), "nothing was done, nothing is noted");
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_record_is_discarded_once_and_does_not_come_back() -> Result<(), BoxError> {
    let mut scene = Scene::new("illegible").await?;
    let mut bad = scene.make("a", 1, "1");
    bad.headers.clear();
    scene.line.put(&bad);
    scene.start(None, RefillOptions::default());
    let pool = scene.home.admin.clone();
    until(1, async || Ok(dead_letter::counts(&pool).await?.unreadable)).await?;
    let found = dead_letter::unreadable(&pool, Some("line"), 10).await?;
    assert_eq!(found[0].error, "header banyan-version is missing");
    assert!(dead_letter::discard_unreadable(&pool, &found[0].place, ME, WHY).await?);
    assert!(!dead_letter::discard_unreadable(&pool, &found[0].place, ME, WHY).await?);
    scene.line.again(&bad, 0);
    scene.send("b", 1, "marker");
    scene.effects(&["b:1:marker"]).await?;
    assert!(dead_letter::unreadable(&pool, None, 10).await?.is_empty());
    assert_eq!(actions(&scene).await?.len(), 1);
    scene.end().await
}

/// Runs `work` for each of two operators while somebody holds the key's cursor; `release` lets it go when both wait for it.
async fn both_wait<'a, T: Send + 'static, F>(
    pool: &sqlx::PgPool,
    holder: sqlx::Transaction<'a, sqlx::Postgres>,
    work: impl Fn(sqlx::PgPool, &'static str) -> F,
) -> Result<Vec<T>, BoxError>
where
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let tasks = [ME, "bob"].map(|actor| tokio::spawn(work(pool.clone(), actor)));
    let waiting = "select count(*) from pg_stat_activity where datname = current_database()
        and wait_event_type = 'Lock' and query like 'select outbox.%_dead_letters%'";
    until(2, async || Ok(sqlx::query_scalar::<_, i64>(waiting).fetch_one(pool).await?)).await?;
    holder.commit().await?;
    let mut done = Vec::new();
    for task in tasks {
        done.push(task.await??);
    }
    Ok(done)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_at_once_do_one_thing() -> Result<(), BoxError> {
    let (scene, _) = buried("two-operators", &["a", "b"]).await?;
    let pool = scene.home.admin.clone();
    let letters = ids(&scene).await?;
    for (letter, key) in letters.into_iter().zip(["a", "b"]) {
        let mut holder = pool.begin().await?;
        sqlx::query("select from outbox.cursor where key = $1 for update")
            .bind(key)
            .execute(&mut *holder)
            .await?;
        let done = both_wait(&pool, holder, move |pool, actor| async move {
            match key {
                "a" => dead_letter::discard(&pool, &[letter], actor, WHY).await,
                _ => dead_letter::replay(&pool, &[letter], actor, WHY).await,
            }
        })
        .await?;
        assert_eq!(done.iter().sum::<u64>(), 1, "{key}: {done:?}");
    }
    scene.mend();
    // The replayed letter may have died again before the handler was mended.
    dead_letter::replay_all(&pool, &Filter::default(), "eve", WHY).await?;
    scene.effects(&["a:2:2", "b:1:!1", "b:2:2"]).await?;
    scene.at_rest().await?;
    let noted = actions(&scene).await?;
    assert_eq!(noted.iter().filter(|action| !action.starts_with("eve")).count(), 2, "{noted:?}");
    scene.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_waits_for_the_handler_that_runs_and_finds_nothing_to_do() -> Result<(), BoxError> {
    let (scene, _) = buried("running", &["a"]).await?;
    let pool = scene.home.admin.clone();
    let letters = dead_letter::list(&pool, &Filter::default(), None, 10).await?;
    let (letter, event) = (letters[0].id, letters[0].event_id);
    // What a gate does with a redelivery, up to its commit.
    let mut gate = scene.home.module.begin().await?;
    let admitted: String =
        sqlx::query_scalar("select verdict from outbox.admit('test.judge', 'notes.v1', 'a', 1, $1)")
            .bind(event)
            .fetch_one(&mut *gate)
            .await?;
    assert_eq!(admitted, "apply");
    sqlx::query("select outbox.unpark('test.judge', 'notes.v1', 'a')").execute(&mut *gate).await?;
    let done = both_wait(&pool, gate, move |pool, actor| async move {
        match actor {
            ME => dead_letter::discard(&pool, &[letter], actor, WHY).await,
            _ => dead_letter::replay(&pool, &[letter], actor, WHY).await,
        }
    })
    .await?;
    assert_eq!(done, [0, 0]);
    scene.effects(&["a:2:2"]).await?;
    scene.at_rest().await?;
    assert!(actions(&scene).await?.is_empty());
    scene.end().await
}
