//! Connections of the relay's own.

use std::time::Duration;

use sqlx::{Connection as _, PgPool};

/// A connection that has answered this lately is not asked whether it still does.
const FRESH: Duration = Duration::from_secs(1);

/// Connections of the relay's own. All it asks are look-ups by index, and a plan that was made while a table was empty must
/// not read it whole later; so the other plans are switched off, and a statement is planned once and not each time it is asked,
/// which would cost more than the answer. Its commits need not wait for the disk: what is lost with them is sent again.
pub(super) fn own_pool(pool: &PgPool, connections_max: u32, query_timeout: Duration) -> PgPool {
    let settings = [
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("max_parallel_workers_per_gather", "0"),
        ("jit", "off"),
        ("plan_cache_mode", "force_generic_plan"),
        ("synchronous_commit", "off"),
        ("statement_timeout", &format!("{}ms", query_timeout.as_millis())),
    ];
    let options = (*pool.connect_options()).clone().options(settings);
    pool.options()
        .clone()
        .min_connections(0)
        .max_connections(connections_max.max(1))
        .test_before_acquire(false)
        .before_acquire(|connection, used| {
            Box::pin(async move {
                if used.idle_for > FRESH {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options)
}
