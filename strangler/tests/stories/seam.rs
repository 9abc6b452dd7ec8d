//! The seam sends a call to the key's owner, and again when that was not the owner.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use strangler::{Advance, Answer, Bounds, Error, Home, Homes, Seam};

use crate::world::{SOON, World, eventually};

/// A home that notes its calls and answers what it is told.
#[derive(Default)]
struct Desk {
    calls: Mutex<Vec<i64>>,
    refuse: Mutex<Option<Said>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Said {
    NotMine,
    NotYet,
    TooMuch,
    Lost(String),
}

struct Shop;

impl Homes for Shop {
    type Desk = Desk;
    type Error = Said;

    fn answer(error: &Said, _: Home) -> Answer {
        match error {
            Said::NotMine => Answer::NotOwner,
            Said::NotYet => Answer::Moving,
            Said::TooMuch | Said::Lost(_) => Answer::Final,
        }
    }

    fn unroutable(error: Error) -> Said {
        Said::Lost(error.to_string())
    }
}

impl Desk {
    fn call(&self, epoch: i64) -> Result<i64, Said> {
        self.calls.lock().unwrap().push(epoch);
        self.refuse.lock().unwrap().clone().map_or(Ok(epoch), Err)
    }

    fn refuse(&self, said: Option<Said>) {
        *self.refuse.lock().unwrap() = said;
    }

    fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

struct Both {
    world: World,
    seam: Seam<Shop>,
    source: Arc<Desk>,
    target: Arc<Desk>,
}

/// Two homes, with the key `mine` at the source and `theirs` at the target.
async fn both() -> Both {
    let world = World::new().await;
    let controller = world.ramp(0).await;
    world.born("a", "mine").await;
    controller.advance(&Advance::ramp(100), "a test").await.unwrap();
    world.born("a", "theirs").await;
    let (source, target) = (Arc::new(Desk::default()), Arc::new(Desk::default()));
    let seam = Seam::new(world.writes.clone(), Arc::clone(&source), Arc::clone(&target));
    Both { world, seam, source, target }
}

impl Both {
    async fn write(&self, key: &str) -> Result<i64, Said> {
        self.seam.write(key, |home, epoch| async move { home.call(epoch.get()) }).await
    }

    async fn read(&self, key: &str) -> Result<i64, Said> {
        self.seam.read(key, |home| async move { home.call(0) }).await
    }

    /// Whether a look for an owner has come to its end: nothing else is asked by the role that writes.
    async fn has_looked(&self) -> bool {
        let sql = "select count(*) from pg_stat_activity
                   where usename = current_database() || '_writes' and state = 'idle' and query like '%find_owner%'";
        self.world.number(sql).await > 0
    }
}

#[tokio::test]
async fn calls_go_to_the_owner() {
    let both = both().await;
    both.write("mine").await.unwrap();
    both.read("mine").await.unwrap();
    assert_eq!((both.source.calls(), both.target.calls()), (2, 0));
    assert_eq!(both.write("theirs").await, Ok(1));
    both.read("theirs").await.unwrap();
    assert_eq!((both.source.calls(), both.target.calls()), (2, 2));
    both.world.end().await;
}

#[tokio::test]
async fn an_answer_of_the_home_is_handed_on() {
    let both = both().await;
    both.source.refuse(Some(Said::TooMuch));
    assert_eq!(both.write("mine").await, Err(Said::TooMuch));
    assert_eq!(both.source.calls(), 1);
    assert!(matches!(both.write("never").await, Err(Said::Lost(text)) if text.contains("has no owner")));
    both.world.end().await;
}

#[tokio::test]
async fn a_read_with_an_old_owner_is_sent_on() {
    let both = both().await;
    both.read("mine").await.unwrap();
    both.world.execute("update strangler.owner set owner = 'target', epoch = 3 where key = 'mine'").await;
    both.source.refuse(Some(Said::NotMine));
    both.read("mine").await.unwrap();
    assert_eq!((both.source.calls(), both.target.calls()), (2, 1));
    both.world.end().await;
}

#[tokio::test]
async fn a_write_is_repeated_within_its_bounds_and_then_retryable() {
    let mut both = both().await;
    let short = Duration::from_millis(2);
    both.seam =
        both.seam.bounds(Bounds { reroutes_max: 8, pause: short, pause_max: short, ..Bounds::default() });
    both.target.refuse(Some(Said::NotYet));
    let lost = both.write("theirs").await.unwrap_err();
    assert!(matches!(&lost, Said::Lost(text) if text.contains("try again")), "{lost:?}");
    assert_eq!(both.target.calls(), 9, "once, and eight repeats");

    both.seam = both.seam.bounds(Bounds { reroute_timeout: Duration::ZERO, ..Bounds::default() });
    both.write("theirs").await.unwrap_err();
    assert_eq!(both.target.calls(), 10, "no time for a repeat");

    // Longer than the time: the last pause is what is left of it.
    let (pause, reroute_timeout) = (Duration::from_secs(60), Duration::from_millis(500));
    both.seam = both.seam.bounds(Bounds { pause, pause_max: pause, reroute_timeout, ..Bounds::default() });
    both.write("theirs").await.unwrap_err();
    assert_eq!(both.target.calls(), 12, "once more when the time is over");
    both.world.end().await;
}

#[tokio::test]
async fn a_key_that_moves_is_waited_for_and_its_unsettled_epoch_shown_to_nobody() {
    let mut both = both().await;
    // As long as the story takes to see the first look.
    both.seam = both.seam.bounds(Bounds { reroutes_max: 9, reroute_timeout: SOON, ..Bounds::default() });
    both.world.execute("update strangler.owner set phase = 'moving', epoch = 2 where key = 'mine'").await;
    let settle = async {
        eventually("the write has found its key moving", async || both.has_looked().await).await;
        both.world
            .execute("update strangler.owner set owner = 'target', phase = 'settled', epoch = 3 where key = 'mine'")
            .await;
    };
    let (epoch, ()) = tokio::join!(both.write("mine"), settle);
    assert_eq!(epoch, Ok(3));
    assert_eq!((both.source.calls(), both.target.calls()), (0, 1));
    both.world.end().await;
}

#[tokio::test]
async fn a_key_that_is_called_back_is_its_homes_to_answer_without_an_epoch() {
    let mut both = both().await;
    both.seam = both.seam.bounds(Bounds { pause: Duration::from_millis(2), ..Bounds::default() });
    both.world
        .execute("update strangler.owner set phase = 'recalling', epoch = 2 where key = 'theirs'")
        .await;
    assert_eq!(both.write("theirs").await, Ok(0), "what is under way goes on, and nothing is granted");
    assert_eq!((both.source.calls(), both.target.calls()), (0, 1));
    // It begins nothing new.
    both.target.refuse(Some(Said::NotYet));
    let lost = both.write("theirs").await.unwrap_err();
    assert!(matches!(&lost, Said::Lost(text) if text.contains("try again")), "{lost:?}");
    // It has given the key up, and the source takes it a moment later.
    both.target.refuse(Some(Said::NotMine));
    let asked = both.target.calls();
    both.seam = both.seam.bounds(Bounds { reroutes_max: 9, reroute_timeout: SOON, ..Bounds::default() });
    let take_back = async {
        eventually("the target was asked", async || both.target.calls() > asked).await;
        both.world
            .execute("update strangler.owner set owner = 'source', phase = 'settled', epoch = 3 where key = 'theirs'")
            .await;
    };
    let (epoch, ()) = tokio::join!(both.write("theirs"), take_back);
    assert_eq!(epoch, Ok(3));
    assert_eq!(both.source.calls(), 1);
    both.world.end().await;
}

#[tokio::test]
async fn a_target_that_has_not_applied_the_key_yet_is_waited_for() {
    let both = both().await;
    both.target.refuse(Some(Said::NotYet));
    let apply = async {
        eventually("it was asked", async || both.target.calls() > 0).await;
        both.target.refuse(None);
    };
    let (epoch, ()) = tokio::join!(both.write("theirs"), apply);
    assert_eq!(epoch, Ok(1));
    assert!(both.target.calls() >= 2);
    both.world.end().await;
}
