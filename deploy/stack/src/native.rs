//! PostgreSQL and Kafka as processes of our own, on loopback.

mod java;
mod kafka;
mod log;
mod postgres;
mod programs;
mod user;

use std::net::TcpListener;
use std::path::Path;

use crate::config::Config;
use crate::guard::Guard;
use crate::stack::Servers;
use crate::{Error, native};

pub(crate) use log::last_lines;

/// How often a server is started again because someone took its port between our look and its bind.
pub(crate) const ATTEMPTS_MAX: u32 = 3;

/// Finds or fetches the programs, then starts both servers side by side.
pub(crate) async fn start(config: &Config) -> Result<Servers, Error> {
    let java = java::find(config).await?;
    let programs = native::programs::find(config).await?;
    let guard = Guard::start()?;
    let user = user::User::for_servers(guard.folder())?;
    let (postgres, kafka) = tokio::try_join!(
        postgres::start(&guard, &programs, user.as_ref(), &config.postgres_settings),
        kafka::start(&guard, &java, &programs.kafka, &config.kafka_jvm)
    )?;
    let detail = format!("PostgreSQL from {}, Apache Kafka from Maven jars, on {java}", programs.postgres);
    Ok(Servers { postgres_url: postgres, kafka, detail, containers: Vec::new(), guard: Some(guard) })
}

/// A loopback port that is free at this moment.
pub(crate) fn free_port() -> Result<u16, Error> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(Error::io("find a free port on 127.0.0.1"))
}

/// An error when the server ended; its log's last lines tell why.
fn still_running(guard: &Guard, pid: u32, program: &str, log: &Path) -> Result<(), Error> {
    match guard.exited(pid)? {
        None => Ok(()),
        Some(status) => Err(Error::Program {
            program: program.to_owned(),
            status: status.to_string(),
            log: log::tail(log),
        }),
    }
}

/// Whether a server ended because its port was taken meanwhile, so that another port may do.
fn port_was_taken(error: &Error) -> bool {
    match error {
        Error::Program { log, .. } => log.contains("Address already in use") || log.contains("BindException"),
        _ => false,
    }
}
