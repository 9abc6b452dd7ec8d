//! A home with its log, a broker in memory, and the roles that look after both.

use std::future::Future;

use outbox::{BoxError, Handler, Inbox, InboxOptions, Received, Relay, memory::Memory};
use sqlx::{PgPool, postgres::PgTransaction};
use time::{Date, OffsetDateTime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::{Home, NOTES, Noted, effect, noted};

pub(crate) const ME: &str = "ann";
pub(crate) const WHY: &str = "the story wants it";

/// Writes each note down.
pub(crate) struct Keep;

impl Handler for Keep {
    const NAME: &'static str = "test.keep";
    type Event = Noted;

    async fn handle(&self, tx: &mut PgTransaction<'_>, event: Received<Noted>) -> Result<(), BoxError> {
        effect(tx, &event.event.key, event.meta.version, &event.event.text).await
    }
}

pub(crate) struct Shelf {
    pub(crate) home: Home,
    pub(crate) memory: Memory,
    pub(crate) operator: PgPool,
    /// Owns the logs.
    pub(crate) keeper: PgPool,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<Result<(), outbox::Error>>>,
}

impl Shelf {
    pub(crate) async fn new(name: &str) -> Result<Self, BoxError> {
        let home = Home::new(stack::shared().await?, name, "test.notes").await?;
        let operator = role(&home, "operator").await?;
        let keeper = role(&home, "keeper").await?;
        outbox::grant_operator(&home.admin, &user(&operator)).await?;
        outbox::grant_housekeeper(&home.admin, &user(&keeper)).await?;
        let (shutdown, tasks) = (CancellationToken::new(), Vec::new());
        Ok(Self { home, memory: Memory::new(2), operator, keeper, shutdown, tasks })
    }

    pub(crate) fn spawn<F>(&mut self, run: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), outbox::Error>> + Send + 'static,
    {
        self.tasks.push(tokio::spawn(run(self.shutdown.clone())));
    }

    pub(crate) fn relay(&mut self) {
        let relay = Relay::new(self.home.relay.clone(), self.memory.sink());
        self.spawn(|shutdown| relay.run(shutdown));
    }

    /// An inbox of [`Keep`] that reads `memory`.
    pub(crate) fn inbox(&mut self, memory: &Memory) {
        let options = InboxOptions {
            retry_delay_max: std::time::Duration::from_millis(500),
            ..InboxOptions::default()
        };
        let inbox = Inbox::new(self.home.module.clone(), memory.source("keep")).register(Keep).with(options);
        self.spawn(|shutdown| inbox.run(shutdown));
    }

    /// Publishes versions `1 ..= n` of a key, in a transaction each.
    pub(crate) async fn publish(&self, key: &str, n: i64) -> Result<(), BoxError> {
        for text in 1..=n {
            self.home.publish(&noted(key, text)).await?;
        }
        Ok(())
    }

    /// Moves the events of a key, and what is pending of them, into the past, where a day is made for them.
    pub(crate) async fn age(&self, key: &str, days: i32) -> Result<Date, BoxError> {
        let mut tx = self.home.admin.begin().await?;
        let day = age(&mut tx, key, days).await?;
        tx.commit().await?;
        Ok(day)
    }

    /// The name of the table that holds a day.
    pub(crate) async fn has(&self, table: &str) -> Result<bool, BoxError> {
        let found = "select to_regclass('outbox.' || $1) is not null";
        Ok(sqlx::query_scalar(found).bind(table).fetch_one(&self.home.admin).await?)
    }

    /// A number that the database knows.
    pub(crate) async fn count(&self, from: &'static str) -> Result<i64, BoxError> {
        let count = sqlx::AssertSqlSafe(format!("select count(*) from {from}"));
        Ok(sqlx::query_scalar(count).fetch_one(&self.home.admin).await?)
    }

    /// What is in the broker, in its order, as `key:version`, with ` again` for a replayed record.
    pub(crate) fn records(&self) -> Vec<String> {
        self.memory.records(NOTES.name()).iter().map(told).collect()
    }

    /// Stops what the story started and passes its errors on.
    pub(crate) async fn end(self) -> Result<(), BoxError> {
        self.shutdown.cancel();
        for task in self.tasks {
            tokio::time::timeout(std::time::Duration::from_secs(20), task).await???;
        }
        self.operator.close().await;
        self.keeper.close().await;
        self.home.drop_now().await
    }
}

fn told(message: &outbox::Message) -> String {
    let header = |name: &str| message.headers.iter().find(|h| h.0 == name).map_or("", |h| h.1.as_str());
    let key = String::from_utf8_lossy(message.key.as_deref().unwrap_or_default());
    let again = if header(outbox::replay::HEADER).is_empty() { "" } else { " again" };
    format!("{key}:{}{again}", header("banyan-version"))
}

/// A table's name for a day.
pub(crate) fn table(log: &str, day: Date) -> String {
    format!("{log}_{:04}{:02}{:02}", day.year(), u8::from(day.month()), day.day())
}

pub(crate) async fn age(tx: &mut PgTransaction<'_>, key: &str, days: i32) -> Result<Date, BoxError> {
    let at: OffsetDateTime = sqlx::query_scalar("select now() - make_interval(days => $1)")
        .bind(days)
        .fetch_one(&mut **tx)
        .await?;
    for log in ["event", "sent"] {
        sqlx::query("select outbox.make_partition($1, $2)")
            .bind(log)
            .bind(at.date())
            .execute(&mut **tx)
            .await?;
    }
    for sql in [
        "update outbox.pending p set created_at = $2 from outbox.event e
         where e.position = p.position and e.key = $1",
        "update outbox.event e set created_at = $2 where e.key = $1",
    ] {
        sqlx::query(sql).bind(key).bind(at).execute(&mut **tx).await?;
    }
    Ok(at.date())
}

pub(crate) async fn role(home: &Home, name: &str) -> Result<PgPool, BoxError> {
    let database: String =
        sqlx::query_scalar("select current_database()::text").fetch_one(&home.admin).await?;
    let role = format!("{database}_{name}");
    let create = format!("create role {role} login password 'story'");
    sqlx::query(sqlx::AssertSqlSafe(create)).execute(&home.admin).await?;
    let options = (*home.admin.connect_options()).clone().username(&role).password("story");
    Ok(PgPool::connect_with(options).await?)
}

pub(crate) fn user(pool: &PgPool) -> String {
    pool.connect_options().get_username().to_owned()
}
