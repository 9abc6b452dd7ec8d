//! What an operator does from the command line.

use anyhow::Context as _;
use chassis::Url;
use chassis::database::{PoolOptions, pool};
use webhooks::Error;

use crate::cli::WebhooksCommand;

/// A command makes one statement at a time.
const CONNECTIONS_MAX: u32 = 1;

/// Looks at the provider's notices that nobody has taken, or decides on one. `database` is the module's own role's.
///
/// # Errors
/// When the database does not answer, or no open notice has the id.
pub async fn operate_webhooks(database: &Url, command: &WebhooksCommand) -> anyhow::Result<()> {
    let pool = pool(database, &PoolOptions::new("monolith.operator", CONNECTIONS_MAX))?;
    let explain = |done: Result<(), Error>, id: &str| done.with_context(|| format!("notice {id}"));
    match command {
        WebhooksCommand::List { state, limit } => {
            let kept = webhooks::list(&pool, *state, *limit).await?;
            for kept in &kept {
                println!("{kept}");
            }
            println!("{} notices", kept.len());
        }
        WebhooksCommand::Retry { id } => explain(webhooks::retry(&pool, id).await, id)?,
        WebhooksCommand::Dismiss { id, by, reason } => {
            explain(webhooks::dismiss(&pool, id, by, reason).await, id)?;
        }
    }
    pool.close().await;
    Ok(())
}
