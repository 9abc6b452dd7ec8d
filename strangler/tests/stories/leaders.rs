//! Several controllers: one acts, each may be asked, and no two change the policy from the same state.

use strangler::{Advance, Controller, Error};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::world::{SOON, World, eventually};

#[tokio::test]
async fn one_controller_acts_and_another_takes_over() {
    let world = World::new().await;
    let (one, two) = (world.controller(), world.controller());
    let (stop_one, stop_two) = (CancellationToken::new(), CancellationToken::new());
    let leader = async |asked: &Controller| asked.status().await.unwrap().controller;

    let first = tokio::spawn(one.clone().run(stop_one.clone()));
    eventually("the first leads", async || leader(&one).await.as_deref() == Some(one.name())).await;
    let second = tokio::spawn(two.clone().run(stop_two.clone()));

    // A crash: nobody gives the lease back.
    first.abort();
    assert_eq!(leader(&two).await.as_deref(), Some(one.name()), "the lease outlives the crash for a while");
    eventually("the second leads", async || leader(&two).await.as_deref() == Some(two.name())).await;

    // An orderly end: it is free at once.
    stop_two.cancel();
    timeout(SOON, second).await.unwrap().unwrap();
    assert_eq!(leader(&two).await, None);
    world.end().await;
}

#[tokio::test]
async fn of_two_changes_at_once_one_wins() {
    let world = World::new().await;
    let one = world.ramp(0).await;
    let two = world.controller();
    // Both have read the policy and asked their gates; a birth in flight holds both changes up.
    let birth = crate::world::open_birth(&world, "k").await;
    let (ten, twenty) = (Advance::ramp(10), Advance::ramp(20));
    let both = async { tokio::join!(one.advance(&ten, "one"), two.advance(&twenty, "two")) };
    let commit = async {
        eventually("both wait", async || {
            world.number("select count(*) from pg_locks where not granted and locktype = 'advisory'").await
                == 2
        })
        .await;
        birth.commit().await.unwrap();
    };
    let (results, ()) = tokio::join!(both, commit);
    let (won, lost) = match results {
        (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
        other => panic!("{other:?}"),
    };
    assert!(matches!(&lost, Error::Changed(_)) && lost.is_retryable(), "{lost}");
    assert_eq!(one.status().await.unwrap().policy.revision, won.revision);
    world.end().await;
}
