//! What the shop's program and the service run: for each home a relay and a replica; the target's control service; the controller.

use std::sync::Arc;
use std::time::Duration;

use outbox::{Relay, Replica, kafka};
use prices::{PRICES, Prices};
use strangler::control::{Client, serve};
use strangler::plan_file::PlanFile;
use strangler::{
    Authority, BoxError, Controller, Home, Owners, Peer, ReadMetrics, ReadSettings, Reads, Seam, Settings,
    Target,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Status};

use crate::place::{self, MIGRATION, Place};

const TOKEN: &str = "a-token-of-tests";
/// Every wait ends within this time.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) source: Place,
    pub(crate) target: Place,
    pub(crate) owners: Owners,
    kafka: kafka::Config,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<Result<(), BoxError>>>,
}

impl World {
    pub(crate) async fn new() -> Result<Self, BoxError> {
        let stack = stack::shared().await?;
        let kafka = kafka::Config {
            bootstrap_servers: stack.kafka().to_owned(),
            topic_prefix: stack.topic_prefix("prices"),
            instance_id: None,
            client_id: "prices".to_owned(),
        };
        kafka::create_topics(&kafka, &[PRICES], 3).await?;
        let (source, target) = (place::source(stack).await?, place::target(stack).await?);
        let owners = Owners::new(MIGRATION, source.prices.pool.clone());
        let (shutdown, tasks) = (CancellationToken::new(), Vec::new());
        Ok(Self { source, target, owners, kafka, shutdown, tasks })
    }

    /// Both homes behind one face. Here they are in one process; a shop has a client of the service in the target's place.
    pub(crate) fn seam(&mut self) -> Seam<Prices> {
        let (source, target) = (Arc::clone(&self.source.prices), Arc::clone(&self.target.prices));
        let reads = Reads::new(MIGRATION, source.pool.clone(), ReadSettings::default(), ReadMetrics::noop());
        let running = Box::pin(reads.clone().run(self.shutdown.clone()));
        self.tasks.push(tokio::spawn(async move {
            running.await;
            Ok::<_, BoxError>(())
        }));
        Seam::new(self.owners.clone(), source, target).reads(reads)
    }

    /// Starts a home's relay and its replica.
    pub(crate) fn follow(&mut self, home: Home) -> Result<(), BoxError> {
        let prices = match home {
            Home::Source => &self.source.prices,
            Home::Target => &self.target.prices,
        };
        let relay = Relay::new(prices.relay.clone(), kafka::sink(&self.kafka)?);
        // A consumer group for each home.
        let source = kafka::source(&self.kafka, prices.origin)?;
        let replica = Replica::new(prices.pool.clone(), source, prices.origin, Prices::clone(prices));
        let relay = Box::pin(relay.run(self.shutdown.clone()));
        let replica = Box::pin(replica.run(self.shutdown.clone()));
        self.tasks.push(tokio::spawn(async move { Ok::<_, BoxError>(relay.await?) }));
        self.tasks.push(tokio::spawn(async move { Ok::<_, BoxError>(replica.await?) }));
        Ok(())
    }

    /// Starts the target's control service, for whoever has the token, and returns its port.
    pub(crate) async fn serve(&mut self) -> Result<u16, BoxError> {
        let prices = &self.target.prices;
        let target = Target::new(Authority::new(MIGRATION), prices.clone());
        let control = InterceptedService::new(serve(prices.clone(), target), lets_in);
        let (_, health) = tonic_health::server::health_reporter();
        let server = Server::builder().add_service(health).add_service(control);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (listener, shutdown) = (TcpListenerStream::new(listener), self.shutdown.clone());
        self.tasks.push(tokio::spawn(async move {
            let stopped = shutdown.cancelled_owned();
            Ok::<_, BoxError>(server.serve_with_incoming_shutdown(listener, stopped).await?)
        }));
        Ok(port)
    }

    /// Starts the controller, which belongs to the source's program. The target may be down.
    pub(crate) fn control(&mut self, port: u16) -> Result<Controller, BoxError> {
        let (pool, domain) = (self.source.controller()?, self.source.prices.clone());
        let plan = Some(Arc::new(PlanFile::parse(include_str!("migration.toml"))?));
        let settings = Settings { plan, tick: Duration::from_millis(100), ..Settings::default() };
        let controller = Controller::with(MIGRATION, pool, domain, peer(port)?, settings);
        let running = Box::pin(controller.clone().run(self.shutdown.clone()));
        self.tasks.push(tokio::spawn(async move {
            running.await;
            Ok::<_, BoxError>(())
        }));
        Ok(controller)
    }

    /// Stops what was started and passes its errors on; nothing may be left to deliver or to look at.
    pub(crate) async fn end(self) -> Result<(), BoxError> {
        for place in [&self.source, &self.target] {
            let empty =
                async || Ok::<_, BoxError>(place.number("select count(*) from outbox.pending").await? == 0);
            eventually("all is delivered", empty).await?;
            let waiting =
                "select (select count(*) from outbox.parked) + (select count(*) from outbox.dead_letter)";
            assert_eq!(place.number(waiting).await?, 0);
        }
        self.shutdown.cancel();
        for task in self.tasks {
            tokio::time::timeout(PATIENCE, task).await???;
        }
        self.source.end().await?;
        self.target.end().await
    }
}

/// Awaits a condition.
pub(crate) async fn eventually(
    what: &str,
    condition: impl AsyncFn() -> Result<bool, BoxError>,
) -> Result<(), BoxError> {
    let waiting = async {
        while !condition().await? {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, BoxError>(())
    };
    let late = |_| format!("not within {PATIENCE:?}: {what}");
    tokio::time::timeout(PATIENCE, waiting).await.map_err(late)?
}

fn lets_in(request: Request<()>) -> Result<Request<()>, Status> {
    match request.metadata().get("x-token") {
        Some(token) if token == TOKEN => Ok(request),
        _ => Err(Status::unauthenticated("a token is needed")),
    }
}

fn peer(port: u16) -> Result<Arc<dyn Peer>, BoxError> {
    let channel = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?.connect_lazy();
    Ok(Arc::new(Client::new(channel, |mut request: Request<()>| {
        request.metadata_mut().insert("x-token", tonic::metadata::MetadataValue::from_static(TOKEN));
        Ok::<_, Status>(request)
    })))
}
