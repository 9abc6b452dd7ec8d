//! How a story is told: in a world of its own that must be at rest in the end.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures::FutureExt;
use stack::Stack;

use crate::World;

/// A story that takes longer hangs. The first may have to build the programs under test.
const STORY_TIMEOUT: Duration = Duration::from_secs(600);

/// Tells a story in a world on the shared stack, and afterwards demands that it is at rest: empty outboxes, nothing parked,
/// unreadable or in conflict, every process stopped with success. A story that fails shows its processes' last words.
///
/// # Panics
/// When the story fails or its world is not at rest: that is how a test fails.
pub async fn story(tell: impl AsyncFnOnce(&World, &'static Stack) -> Result<()>) {
    if let Err(error) = Box::pin(tell_it(tell)).await {
        panic!("{error:?}");
    }
}

async fn tell_it(tell: impl AsyncFnOnce(&World, &'static Stack) -> Result<()>) -> Result<()> {
    let stack = stack::shared().await?;
    let name = std::thread::current().name().unwrap_or("story").to_owned();
    let logs =
        tempfile::Builder::new().prefix("banyan-story-").tempdir().context("make a folder for logs")?;
    let world = World::new(stack, name.rsplit("::").next().unwrap_or(&name), logs.path())?;
    let telling = AssertUnwindSafe(tokio::time::timeout(STORY_TIMEOUT, tell(&world, stack))).catch_unwind();
    match telling.await {
        Ok(Ok(Ok(()))) => match Box::pin(world.end()).await {
            Ok(()) => Ok(()),
            Err(error) => {
                Err(error.context(format!("the story {name} ended well, but its world is not at rest")))
            }
        },
        Ok(Ok(Err(error))) => Err(failed(&world, error).await),
        Ok(Err(_)) => Err(failed(&world, anyhow!("not told within {} s", STORY_TIMEOUT.as_secs())).await),
        Err(panic) => {
            eprintln!("{}", world.tails().await);
            std::panic::resume_unwind(panic)
        }
    }
}

async fn failed(world: &World, error: anyhow::Error) -> anyhow::Error {
    eprintln!("{}", world.tails().await);
    error
}
