//! What this house refuses, built to be found. None of it is reachable from a program.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use chassis::{Secret, Url};
use outbox::Wake;
use payments::provider::{NewIntent, ObjectStatus, Tag};
use payments::{
    Authority, Balance, Capture, Crash, Delivered, Desk, Epoch, Error, Home, Local, Metrics, Notice,
    Operation, PROVIDER_TIMEOUTS, Page, Payment, Provider, Refund, Stripe, StripeConfig, Tenant, Void, Work,
};
use proto::{Money, PaymentId};
use serde_json::Value;
use sqlx::PgPool;
use sqlx::postgres::{PgPoolOptions, PgTransaction};
use tests::{Shop, Side};
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

const TENANT: &str = "acme";
/// Connections of a double.
const CONNECTIONS_MAX: u32 = 4;

/// Whoever asks may write.
pub(super) struct Everyone;

#[async_trait]
impl Authority for Everyone {
    async fn lock(&self, _tx: &mut PgTransaction<'_>, _payment: PaymentId) -> Result<Epoch, Error> {
        Ok(Epoch(0))
    }
}

/// Asks once who owns the payment, outside the writing transaction, and believes it from then on.
pub(super) struct Cached {
    admin: PgPool,
    known: OnceCell<(bool, Epoch)>,
}

impl Cached {
    pub(super) fn new(admin: PgPool) -> Self {
        Self { admin, known: OnceCell::new() }
    }

    async fn ask(&self, payment: PaymentId) -> Result<(bool, Epoch), Error> {
        let sql = "select owner, epoch from strangler.owner where migration = 'payments' and key = $1";
        let row: Option<(String, i64)> =
            sqlx::query_as(sql).bind(payment.to_string()).fetch_optional(&self.admin).await?;
        Ok(row.map_or((true, Epoch(0)), |(owner, epoch)| (owner == "source", Epoch(epoch))))
    }
}

#[async_trait]
impl Authority for Cached {
    async fn lock(&self, _tx: &mut PgTransaction<'_>, payment: PaymentId) -> Result<Epoch, Error> {
        let (is_owner, epoch) = *self.known.get_or_try_init(|| self.ask(payment)).await?;
        if is_owner { Ok(epoch) } else { Err(Error::NotOwner) }
    }
}

/// Writes to both homes in the request, and answers as the source does.
pub(super) struct Both {
    pub(super) source: Local,
    pub(super) target: Local,
}

#[async_trait]
impl Desk for Both {
    async fn find(&self, tenant: &Tenant, id: PaymentId) -> Result<Payment, Error> {
        self.source.find(tenant, id).await
    }

    async fn list(&self, tenant: &Tenant, page: Page) -> Result<Vec<Payment>, Error> {
        self.source.list(tenant, page).await
    }

    async fn trial_balance(&self, tenant: &Tenant) -> Result<Vec<Balance>, Error> {
        self.source.trial_balance(tenant).await
    }

    async fn quote_fee(&self, amount: Money) -> Result<Money, Error> {
        self.source.quote_fee(amount).await
    }

    async fn capture(&self, capture: &Capture, epoch: Epoch) -> Result<Payment, Error> {
        tokio::join!(self.source.capture(capture, epoch), self.target.capture(capture, epoch)).0
    }

    async fn void(&self, void: &Void, epoch: Epoch) -> Result<Payment, Error> {
        tokio::join!(self.source.void(void, epoch), self.target.void(void, epoch)).0
    }

    async fn refund(&self, refund: &Refund, epoch: Epoch) -> Result<Payment, Error> {
        tokio::join!(self.source.refund(refund, epoch), self.target.refund(refund, epoch)).0
    }

    async fn deliver(&self, notice: &Notice, epoch: Epoch) -> Result<Delivered, Error> {
        tokio::join!(self.source.deliver(notice, epoch), self.target.deliver(notice, epoch)).0
    }
}

/// A desk of one home, with its role and the real provider.
pub(super) async fn desk(shop: &Shop<'_>, side: Side, authority: Arc<dyn Authority>) -> Result<Local> {
    let urls = shop.role_urls(side);
    let (_, url) = urls.iter().find(|(role, _)| role == "payments").context("no role of payments")?;
    let home = Home {
        name: if side == Side::Source { "source" } else { "target" },
        pool: PgPoolOptions::new().max_connections(CONNECTIONS_MAX).connect(url).await?,
        authority,
        provider: Arc::new(stripe(shop)?),
        wake: Wake::default(),
        work: Work::default(),
        crash: Crash::none(),
    };
    Ok(Local::new(home, TaskTracker::new()))
}

/// Returns a part through a desk.
pub(super) async fn refund(desk: &dyn Desk, payment: &str, minor: i64, why: &str) -> Result<()> {
    let refund = Refund {
        tenant: TENANT.parse()?,
        payment: payment.parse()?,
        amount_minor: Some(minor),
        key: why.replace(' ', "-").parse()?,
        by: "ada".parse()?,
        reason: Some(why.to_owned()),
    };
    desk.refund(&refund, Epoch(0)).await?;
    Ok(())
}

/// Takes a payment's row as it is, without its owner's lock.
pub(super) async fn naive_copy(home: &PgPool, payment: &str) -> Result<Value> {
    let sql = "select to_jsonb(p) from payments.payment p where id = $1::uuid";
    Ok(sqlx::query_scalar(sql).bind(payment).fetch_one(home).await?)
}

/// Puts it into the other home, whatever version is there.
pub(super) async fn naive_write(home: &PgPool, row: &Value) -> Result<()> {
    let sql = "
        insert into payments.payment select * from jsonb_populate_record(null::payments.payment, $1)
        on conflict (id) do update
        set status = excluded.status, authorized_minor = excluded.authorized_minor,
            captured_minor = excluded.captured_minor, refunded_minor = excluded.refunded_minor,
            provider_ref = excluded.provider_ref, version = excluded.version";
    sqlx::query(sql).bind(row).execute(home).await?;
    Ok(())
}

/// Decides on the target's copy and has the provider carry it out, to see whether the outcome is the source's. It keeps nothing.
pub(super) async fn live_shadow(shop: &Shop<'_>, payment: &str) -> Result<()> {
    let (tenant, provider): (Tenant, Stripe) = (TENANT.parse()?, stripe(shop)?);
    let copy = desk(shop, Side::Target, Arc::new(Everyone)).await?.find(&tenant, payment.parse()?).await?;
    let tag = Tag { tenant, payment: copy.id, operation: Operation::Charge, command: Uuid::now_v7() };
    let intent = NewIntent {
        amount: copy.amount,
        capture_method: copy.capture_method,
        payment_method: copy.payment_method,
        tag,
    };
    let made = provider.create(&format!("shadow-create-{payment}"), &intent).await?;
    let confirmed = provider.confirm(&format!("shadow-confirm-{payment}"), &made.id).await?;
    ensure!(confirmed.status == ObjectStatus::Succeeded, "the outcomes differ: {confirmed:?}");
    Ok(())
}

/// The client that both homes have.
fn stripe(shop: &Shop<'_>) -> Result<Stripe> {
    let spec = shop.monolith_spec("a double", &[]);
    let setting = |name: &str| {
        let found = spec.env.iter().find(|(set, _)| set == name);
        found.map(|(_, value)| value.clone()).with_context(|| format!("{name} is not set"))
    };
    let url: Url = setting("PROVIDER_URL")?.parse()?;
    let secret_key = Secret::new(setting("PROVIDER_SECRET_KEY")?);
    let config = StripeConfig { url, secret_key, timeout: *PROVIDER_TIMEOUTS.end() };
    Ok(Stripe::new(config, Metrics::noop())?)
}
