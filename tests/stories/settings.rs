//! A bad setting stops the start and is named; a database that does not fit is not ready, with the reason.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tests::{Binaries, Process, Shop, Side, Spec, World, story, until};

const SOON: Duration = Duration::from_secs(20);

/// Exit code and output of a start that must fail.
async fn refused(mut spec: Spec, change: impl FnOnce(&mut Spec)) -> Result<(Option<i32>, String)> {
    change(&mut spec);
    let (status, said) = Process::run(&spec, SOON).await?;
    Ok((status.code(), said))
}

fn without<'a>(name: &'a str) -> impl FnOnce(&mut Spec) + use<'a> {
    move |spec| spec.env.retain(|(known, _)| known != name)
}

fn with<'a>(name: &'a str, value: &'a str) -> impl FnOnce(&mut Spec) + use<'a> {
    move |spec| {
        without(name)(spec);
        spec.env.push((name.to_owned(), value.to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_or_bad_setting_stops_the_start_and_is_named() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        let monolith = shop.monolith_spec("monolith", &[]);
        let service = shop.service_spec("service", &[]);

        for name in [
            "MONOLITH_HOUSEKEEPER_DATABASE_URL",
            "KAFKA_BOOTSTRAP_SERVERS",
            "TOKEN_SECRET",
            "PROVIDER_URL",
            "PROVIDER_WEBHOOK_SECRETS",
        ] {
            let (code, said) = refused(monolith.clone(), without(name)).await?;
            assert_eq!(code, Some(2), "{said}");
            assert!(said.contains(&format!("{name}: not set")), "{name} is not named:\n{said}");
        }
        for name in ["PAYMENTS_DATABASE_URL", "PAYMENTS_HOUSEKEEPER_DATABASE_URL", "PROVIDER_SECRET_KEY"] {
            let (code, said) = refused(service.clone(), without(name)).await?;
            assert_eq!(code, Some(2), "{said}");
            assert!(said.contains(&format!("{name}: not set")), "{name} is not named:\n{said}");
        }
        let (code, said) = refused(monolith.clone(), with("MONOLITH_HTTP_LISTEN", "eighty")).await?;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("MONOLITH_HTTP_LISTEN=eighty"), "the value is not named:\n{said}");
        let (code, said) = refused(monolith, with("TOKEN_SECRET", "tooshort")).await?;
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains("TOKEN_SECRET=***") && !said.contains("tooshort"),
            "a secret must be masked:\n{said}"
        );
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_setting_is_named_at_once() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        let service = shop.service_spec("service", &[]);
        let (code, said) = refused(service, |spec| {
            without("PAYMENTS_DATABASE_URL")(spec);
            with("PAYMENTS_GRPC_LISTEN", "everywhere")(spec);
            with("PROVIDER_TIMEOUT", "soon")(spec);
        })
        .await?;
        assert_eq!(code, Some(2), "{said}");
        for part in
            ["PAYMENTS_DATABASE_URL: not set", "PAYMENTS_GRPC_LISTEN=everywhere", "PROVIDER_TIMEOUT=soon"]
        {
            assert!(said.contains(part), "{part} is not in:\n{said}");
        }
        Ok(())
    })
    .await;
}

/// Starts a process that does not get ready, and returns the reasons it gives.
async fn reasons(world: &World, spec: Spec) -> Result<String> {
    let name = spec.name.clone();
    let listening = world.start(spec).await?;
    let admin = listening.get("admin").context("it names no admin address")?;
    let alive = reqwest::get(format!("http://{admin}/livez")).await?.status();
    assert_eq!(alive, 200, "it lives, but it is not ready");
    let reasons = until(&format!("{name} to say why it is not ready"), SOON, async || {
        let answer = reqwest::get(format!("http://{admin}/readyz")).await?;
        assert_eq!(answer.status(), 503);
        let body: Value = answer.json().await?;
        let failed = body.get("failed").and_then(Value::as_array).context("no list of failed checks")?;
        let reasons: Vec<&str> = failed.iter().filter_map(|check| check.get("reason")?.as_str()).collect();
        Ok((!reasons.is_empty()).then(|| reasons.join("\n")))
    })
    .await?;
    world.stop(&name).await?;
    Ok(reasons)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_with_an_unknown_or_a_missing_migration_is_not_ready() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.migrate(&[]).await?;

        sqlx::query(
            "insert into orders._migrations (version, description, success, checksum, execution_time)
             values (99, 'from the future', true, '\\x00', 0)",
        )
        .execute(&shop.source)
        .await?;
        let said = reasons(world, shop.monolith_spec("monolith", &[])).await?;
        assert!(said.contains("unknown migration 99"), "{said}");

        sqlx::query("delete from payments._migrations").execute(&shop.target).await?;
        let mut service = shop.service_spec("service", &[]);
        with("PAYMENTS_GRPC_LISTEN", "127.0.0.1:0")(&mut service);
        let said = reasons(world, service).await?;
        assert!(said.contains("migration"), "{said}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrating_twice_changes_nothing() {
    story(async |world, stack| {
        let shop = Shop::open(world, stack, Binaries::fresh().await?).await?;
        shop.migrate(&["acme"]).await?;
        let products = async || -> Result<i64> {
            Ok(sqlx::query_scalar("select count(*) from catalog.product").fetch_one(&shop.source).await?)
        };
        let before = products().await?;
        assert!(before > 0, "the tenant has products");
        // Both at once, as two instances that are deployed together would.
        let (first, second) = tokio::join!(
            shop.migrate_one(Side::Source, &["--seed", "acme"]),
            shop.migrate_one(Side::Source, &[])
        );
        first?;
        second?;
        shop.migrate_one(Side::Target, &[]).await?;
        assert_eq!(products().await?, before);
        Ok(())
    })
    .await;
}
