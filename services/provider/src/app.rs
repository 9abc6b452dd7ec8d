//! The process: journal, listeners, tasks, and their end.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use chassis::health::Readiness;
use chassis::{admin as chassis_admin, server};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::book::Book;
use crate::config::Config;
use crate::journal::{self, Journal};
use crate::provider::Provider;
use crate::webhook::{self, Sender, Webhooks};
use crate::{admin, http};

/// The process can't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal can't be used.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// An address can't be listened on.
    #[error("can't listen on {address}: {source}; set PROVIDER_LISTEN or PROVIDER_ADMIN_LISTEN")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// Webhooks can't be sent.
    #[error("the client for webhooks can't be set up: {0}")]
    Client(reqwest::Error),
    /// A listener failed.
    #[error("serving failed: {0}")]
    Serve(io::Error),
}

/// A provider that runs.
#[derive(Debug)]
pub struct Running {
    http: SocketAddr,
    admin: SocketAddr,
    servers: JoinSet<io::Result<()>>,
    writer: JoinHandle<Result<(), journal::Error>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// Opens the journal, takes up what it left open, and serves until the token is cancelled.
///
/// # Errors
/// When the journal can't be read, is in use, or an address can't be listened on.
pub async fn start(config: Config, shutdown: CancellationToken) -> Result<Running, Error> {
    let mut opened = journal::open(&config.journal)?;
    if opened.torn_bytes > 0 {
        tracing::warn!(
            bytes = opened.torn_bytes,
            "cut a torn last line off the journal; it was never answered"
        );
    }
    let book = Book::of(std::mem::take(&mut opened.lines), config.key_lifetime, config.webhooks.is_some());
    let (http, admin) = (bind(config.listen).await?, bind(config.admin_listen).await?);
    let (http_address, admin_address) = (local(&http)?, local(&admin)?);
    let (journal, writer) = Journal::start(opened, book.seq());
    if config.ignore_idempotency {
        tracing::warn!("PROVIDER_IGNORE_IDEMPOTENCY is set: repeated requests charge again");
    }
    let provider = Provider {
        book: Arc::new(Mutex::new(book)),
        journal,
        late_by: config.late_by,
        search_lag: config.search_lag,
        ignore_idempotency: config.ignore_idempotency,
        wake: Arc::default(),
        tasks: TaskTracker::new(),
        shutdown: shutdown.clone(),
    };
    provider.resume();
    if let Some(settings) = config.webhooks {
        provider.tasks.spawn(sender(&provider, settings)?.run());
    }
    let tasks = provider.tasks.clone();
    let api = http::router(provider.clone(), config.secret_key, config.latency);
    let readiness = chassis_admin::router(Readiness::new(), admin::router(provider));
    let mut servers = JoinSet::new();
    servers.spawn(server::serve(http, api, shutdown.clone()));
    servers.spawn(server::serve(admin, readiness, shutdown.clone()));
    Ok(Running { http: http_address, admin: admin_address, servers, writer, tasks, shutdown })
}

impl Running {
    /// Where the API listens.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where health and the journal are served.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Runs until the shutdown, or until something fails; then ends in order: no more requests, then the
    /// work in flight, then the journal.
    ///
    /// # Errors
    /// When a listener or the journal's file failed.
    pub async fn join(mut self) -> Result<(), Error> {
        let served = tokio::select! {
            written = &mut self.writer => {
                self.shutdown.cancel();
                self.servers.shutdown().await;
                return written.map_err(|error| Error::Serve(error.into()))?.map_err(Error::from);
            }
            served = join(&mut self.servers, &self.shutdown) => served,
        };
        self.tasks.close();
        self.tasks.wait().await;
        // The last handle on the journal went with the servers and tasks, so the writer ends by itself.
        self.writer.await.map_err(|error| Error::Serve(error.into()))??;
        served
    }
}

fn sender(provider: &Provider, settings: Webhooks) -> Result<Sender, Error> {
    Ok(Sender {
        book: provider.book.clone(),
        journal: provider.journal.clone(),
        client: webhook::client().map_err(Error::Client)?,
        settings,
        wake: provider.wake.clone(),
        shutdown: provider.shutdown.clone(),
    })
}

/// A server that ends, ends both.
async fn join(servers: &mut JoinSet<io::Result<()>>, shutdown: &CancellationToken) -> Result<(), Error> {
    let mut result = Ok(());
    while let Some(served) = servers.join_next().await {
        shutdown.cancel();
        let served = served.unwrap_or_else(|error| Err(error.into()));
        result = result.and_then(|()| served.map_err(Error::Serve));
    }
    result
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

fn local(listener: &TcpListener) -> Result<SocketAddr, Error> {
    listener.local_addr().map_err(Error::Serve)
}
