//! A shop that runs while it is measured: the demo's processes, in one stage of the migration.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use stack::Stack;
use tests::{
    Binaries, Shop, Spec, World,
    load::{Client, Product},
};
use tokio::time::sleep;

use super::{load, options::Options};

/// Whose customers order.
const TENANT: &str = "acme";

/// Between two orders while the migration is walked: its gates want to see traffic.
const TRICKLE: Duration = Duration::from_millis(100);

/// Which home owns the payments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The monolith, before the migration begins: there is no service.
    InProcess,
    /// The service: all are born there.
    Service,
}

impl Way {
    pub(super) const ALL: [Self; 2] = [Self::InProcess, Self::Service];

    /// As rows of the report begin.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::InProcess => "in process",
            Self::Service => "through the service",
        }
    }

    /// The owner of each new payment, as the owners' table has it.
    pub(super) fn owner(self) -> &'static str {
        match self {
            Self::InProcess => "source",
            Self::Service => "target",
        }
    }

    /// The names of its processes, in the order in which they start.
    pub(super) fn processes(self) -> &'static [&'static str] {
        match self {
            Self::InProcess => &["provider", "monolith", "relay"],
            Self::Service => &["provider", "monolith", "relay", "payments-service"],
        }
    }
}

/// A shop of one way, with databases and topics of its own. Its processes run in its rounds only.
pub(super) struct Side<'w> {
    pub(super) way: Way,
    pub(super) shop: Shop<'w>,
    pub(super) client: Client,
    pub(super) product: Product,
    /// How its processes are started again.
    stopped: Vec<Spec>,
}

impl<'w> Side<'w> {
    /// Makes databases and topics, walks the migration to where the payments shall be, and stops all processes.
    pub(super) async fn open(world: &'w World, stack: &Stack, way: Way, options: &Options) -> Result<Self> {
        let binaries = Binaries::beside().context("run `cargo xtask bench payments`, which builds them")?;
        let shop = Shop::open(world, stack, binaries).await?;
        shop.migrate(&[TENANT]).await?;
        shop.start_provider(&[("PROVIDER_LATENCY", &format!("{}ms", options.provider_ms))]).await?;
        shop.start_monolith("monolith", "web,inbox,controller").await?;
        shop.start_monolith("relay", "relay").await?;
        let client = shop.client(TENANT)?;
        let product = client.products().await?.into_iter().next().context("nothing is on sale")?;
        let mut side = Self { way, shop, client, product, stopped: Vec::new() };
        match way {
            Way::InProcess => {}
            Way::Service => tokio::select! {
                walked = side.walk() => walked.context("walk the migration")?,
                failed = side.trickle() => failed?,
            },
        }
        side.stop().await?;
        Ok(side)
    }

    /// As the demo walks it, until all payments are born at the target.
    async fn walk(&self) -> Result<()> {
        self.shop.start_service("payments-service", "all").await?;
        let operator = self.shop.operator()?;
        operator.follow().await?;
        operator.ramp(0).await?;
        operator.ramp(100).await
    }

    /// Orders now and then; ends only when one is refused.
    async fn trickle(&self) -> Result<()> {
        loop {
            load::place(&self.client, &self.product).await?;
            sleep(TRICKLE).await;
        }
    }

    /// Starts its processes again.
    pub(super) async fn start(&mut self) -> Result<()> {
        for spec in std::mem::take(&mut self.stopped) {
            if spec.name == "provider" {
                self.shop.world.start(spec).await?;
            } else {
                self.shop.start_ready(spec).await?;
            }
        }
        Ok(())
    }

    /// Stops its processes, each of which must end by itself, with success.
    pub(super) async fn stop(&mut self) -> Result<()> {
        ensure!(self.stopped.is_empty(), "the processes were stopped before");
        for name in self.way.processes().iter().rev() {
            let spec = self.shop.world.stop(name).await?;
            self.stopped.insert(0, spec);
        }
        Ok(())
    }

    /// What the provider has done, a line each.
    pub(super) fn journal(&self) -> PathBuf {
        self.shop.world.logs().join("journal.jsonl")
    }
}
