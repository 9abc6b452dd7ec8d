//! A monolith without its half of payments: it serves a sealed source, and nothing it does touches the copy that is left there.

use std::convert::Infallible;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::checker::Accepted;
use tests::load::Client;
use tests::{Binaries, Process, Shop, Spec, story, until};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use crate::handover::paid;
use crate::migration::command;
use crate::sealed::{all_at_the_target, approve, people, seal, until_right};

const SOON: Duration = Duration::from_secs(60);
/// A start that is refused, or a migration.
const ENDS: Duration = Duration::from_secs(60);
/// What only the half needed.
const GONE: [&str; 3] = ["MONOLITH_PAYMENTS_DATABASE_URL", "PROVIDER_URL", "PROVIDER_SECRET_KEY"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_half_the_monolith_sells_on_and_the_copy_may_be_deleted() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        let removed = Binaries::removed().await?;
        let counted = counts_statements(&shop).await?;
        let mut accepted = all_at_the_target(&shop).await?;
        let client = shop.client("acme")?;
        refused(&shop, &removed).await?;
        refused_late(&shop, &removed).await?;

        seal(&shop).await?;
        let monolith = without_half(world.stop("monolith").await?, &removed);
        revoke(&shop).await?;
        migrate(&shop, &removed).await?;
        shop.start_ready(monolith).await?;
        accepted.extend(paid(&client, "removed", 5).await?);
        refund(&client, &accepted).await?;
        listed(&client, accepted.len()).await?;
        until_right(&shop, &accepted).await?;
        if !counted {
            // Nobody knows who reads without the statements, so the gate can't pass.
            let left_out = "pg_stat_statements is not preloaded: `removed` and the copy's deletion are left out";
            return Ok(writeln!(std::io::stderr(), "{left_out}")?);
        }
        remove(&shop).await?;

        // It may be deleted, and is.
        let sql = "select outbox.retire_handler('payments.replica', true, 'ada', 'the source has no replica any more');
                   drop schema payments cascade";
        sqlx::raw_sql(sql).execute(&shop.source).await?;
        let monolith = world.stop("monolith").await?;
        migrate(&shop, &removed).await?;
        shop.start_ready(monolith).await?;
        let last = paid(&client, "deleted", 5).await?;
        refund(&client, &last).await?;
        accepted.extend(last);
        listed(&client, accepted.len()).await?;
        until_right(&shop, &accepted).await
    })
    .await;
}

/// The same process by the other program, which is not told what only the half needed.
fn without_half(spec: Spec, program: &Path) -> Spec {
    let env = spec.env.into_iter().filter(|(name, _)| !GONE.contains(&name.as_str())).collect();
    Spec { program: program.to_owned(), env, ..spec }
}

/// Before the source is sealed the program neither migrates nor starts, and says why.
async fn refused(shop: &Shop<'_>, program: &Path) -> Result<()> {
    let mut start = shop.monolith_spec("early", &["--role", "web"]);
    start.env.retain(|(name, _)| name != "MONOLITH_ADMIN_DATABASE_URL");
    for spec in [shop.monolith_spec("early", &["migrate"]), start] {
        let (status, said) = Process::run(&without_half(spec, program), ENDS).await?;
        ensure!(!status.success() && said.contains("the migration is not sealed"), "{status}\n{said}");
    }
    Ok(())
}

/// One that comes too early while its database is away waits with all its parts, and ends as soon as it is told: it never holds the
/// lease that the other program's controller needs.
async fn refused_late(shop: &Shop<'_>, program: &Path) -> Result<()> {
    const DATABASE: &str = "MONOLITH_STRANGLER_DATABASE_URL";
    let mut spec = without_half(shop.running_monolith("late", "controller"), program);
    let setting = spec.env.iter_mut().find(|(name, _)| name == DATABASE);
    let (_, database) = setting.with_context(|| format!("{DATABASE} is not set"))?;
    let mut url = Url::parse(database)?;
    let server = (url.host_str().context("a host")?.to_owned(), url.port().unwrap_or(5432));
    let door = TcpListener::bind("127.0.0.1:0").await?;
    url.set_host(Some("127.0.0.1"))?;
    let moved = url.set_port(Some(door.local_addr()?.port()));
    ensure!(moved.is_ok(), "{DATABASE} takes no port");
    *database = url.into();
    let (status, said) = tokio::select! {
        ended = Process::run(&spec, ENDS) => ended?,
        broken = opens_late(&door, &server) => match broken? {},
    };
    let told = said.contains("nobody knows whether the source is sealed");
    ensure!(told && said.contains("the migration is not sealed"), "{status}\n{said}");
    ensure!(!status.success() && !said.contains("listening admin="), "no part of it began: {status}\n{said}");
    Ok(())
}

/// A way to the database that breaks off whoever comes first.
async fn opens_late(door: &TcpListener, server: &(String, u16)) -> Result<Infallible> {
    drop(door.accept().await?);
    loop {
        let (mut near, _) = door.accept().await?;
        let mut far = TcpStream::connect((server.0.as_str(), server.1)).await?;
        // However a connection ends, the next one may come.
        let _ = copy_bidirectional(&mut near, &mut far).await;
    }
}

async fn migrate(shop: &Shop<'_>, program: &Path) -> Result<()> {
    let spec = without_half(shop.monolith_spec("migrate", &["migrate"]), program);
    let (status, said) = Process::run(&spec, ENDS).await?;
    ensure!(status.success(), "{status}\n{said}");
    Ok(())
}

/// As `docs/sealed.md` has it, once no monolith with the half runs.
async fn revoke(shop: &Shop<'_>) -> Result<()> {
    let sql = "select format('revoke all on all tables in schema payments from %1$I; revoke all on schema payments from %1$I', role)
               from strangler.sealable where migration = 'payments'";
    let sql: String = sqlx::query_scalar(sql).fetch_one(&shop.source).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&shop.source).await?;
    Ok(())
}

async fn refund(client: &Client, payments: &[Accepted]) -> Result<()> {
    for payment in [payments.first(), payments.last()].into_iter().flatten() {
        command(client, &payment.payment, "refunds", &json!({ "amount_minor": 100 })).await?;
    }
    Ok(())
}

async fn listed(client: &Client, payments: usize) -> Result<()> {
    let list = client.get("/v1/payments?limit=200").await?;
    let found = list.body["payments"].as_array().map_or(0, Vec::len);
    ensure!((list.status, found) == (200, payments), "{}", list.body);
    Ok(())
}

/// Enters `removed`, days after anything touched the copy.
async fn remove(shop: &Shop<'_>) -> Result<()> {
    let people = people(shop)?;
    approve(&people, "removed").await?;
    let [(_, ada), _] = &people;
    // What other sessions read before may be counted late, which begins the days anew.
    until("the source's half to be removed", SOON, async || {
        let step = json!({ "to": "removed" });
        let sql = "update strangler.touch set first_at = first_at - interval '8 days',
                                              changed_at = changed_at - interval '8 days'";
        sqlx::raw_sql(sql).execute(&shop.source).await?;
        let answer = ada.post("/admin/migrations/payments/advance", "remove", &step).await?;
        ensure!(answer.status == 200, "{}", answer.body);
        Ok(Some(()))
    })
    .await
}

/// Whether the server counts statements; if so, in this database, too.
async fn counts_statements(shop: &Shop<'_>) -> Result<bool> {
    let loaded: String = sqlx::query_scalar("show shared_preload_libraries").fetch_one(&shop.source).await?;
    let counts = loaded.contains("pg_stat_statements");
    if counts {
        sqlx::raw_sql("create extension pg_stat_statements").execute(&shop.source).await?;
    }
    Ok(counts)
}
