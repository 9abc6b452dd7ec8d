//! The Docker engine, and what both containers need of it.

use std::path::Path;
use std::time::Duration;

use testcontainers::bollard::{API_DEFAULT_VERSION, Docker};
use testcontainers::core::{ContainerPort, ImageExt};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage};

use crate::config::Config;
use crate::guard::Guard;
use crate::native::last_lines;
use crate::{Error, database};

/// An engine that does not answer within this is not a source.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Pulling both images from a slow registry is the long part.
const START_TIMEOUT: Duration = Duration::from_secs(300);
/// Seconds that bollard gives one call.
const CALL_TIMEOUT_S: u64 = 120;
const WATCH_PAUSE: Duration = Duration::from_millis(500);

/// A connection to an engine that answered.
pub(super) struct Engine {
    docker: Docker,
    host: String,
    pub(super) version: String,
}

impl Engine {
    /// Connects and asks for the version. Refuses a machine on which nobody could remove the containers after us.
    pub(super) async fn connect(config: &Config) -> Result<Self, Error> {
        let host = config.docker_host.clone();
        let missing = |why: String| Error::Missing(format!("no Docker engine at {host}: {why}"));
        let docker = match host.strip_prefix("unix://") {
            Some(socket) if !Path::new(socket).exists() => {
                return Err(missing("there is no such socket".to_owned()));
            }
            Some(_) => Docker::connect_with_unix(&host, CALL_TIMEOUT_S, API_DEFAULT_VERSION),
            None => Docker::connect_with_host(&host),
        };
        let docker = docker.map_err(|error| missing(error.to_string()))?;
        let version = tokio::time::timeout(PING_TIMEOUT, docker.version())
            .await
            .map_err(|_| missing(format!("no answer within {} s", PING_TIMEOUT.as_secs())))?
            .map_err(|error| missing(error.to_string()))?;
        if config.program("docker").is_none() && config.program("curl").is_none() {
            return Err(Error::Missing(
                "the guard removes containers with `docker` or `curl`, and neither is on the PATH".to_owned(),
            ));
        }
        Ok(Self { docker, host, version: version.version.unwrap_or_else(|| "of unknown version".to_owned()) })
    }

    /// Starts a container under a name that the guard knows beforehand.
    pub(super) async fn start(
        &self,
        guard: &Guard,
        role: &str,
        request: ContainerRequest<GenericImage>,
    ) -> Result<Container, Error> {
        let run = guard.folder().file_name().unwrap_or_default().to_string_lossy();
        let name = format!("{run}-{role}-{}", database::suffix());
        guard.watch_container(&self.host, &name)?;
        let request = request.with_container_name(&name).with_startup_timeout(START_TIMEOUT);
        let started = tokio::time::timeout(START_TIMEOUT, request.start()).await;
        let container = started
            .map_err(|_| Error::Timeout {
                what: format!("starting {name}"),
                bound: START_TIMEOUT,
                last: String::new(),
            })?
            .map_err(|error| Error::Docker { what: format!("start {name}"), reason: error.to_string() })?;
        Ok(Container { docker: self.docker.clone(), container: Some(container), name, local: self.local() })
    }

    /// Where published ports are to be reached: on loopback if the engine is local, else at the name in `tcp://name:port`.
    ///
    /// Not what testcontainers says: on a machine with a `/.dockerenv` that is the bridge's gateway, where nothing of ours
    /// is published.
    pub(super) fn address(&self) -> String {
        if self.local() {
            return "127.0.0.1".to_owned();
        }
        let address = self.host.split_once("://").map_or(self.host.as_str(), |(_, address)| address);
        address.rsplit_once(':').map_or(address, |(name, _)| name).to_owned()
    }

    /// Whether the engine's ports are ours.
    pub(super) fn local(&self) -> bool {
        self.host.starts_with("unix://")
    }
}

/// A started container.
pub(super) struct Container {
    docker: Docker,
    container: Option<ContainerAsync<GenericImage>>,
    name: String,
    local: bool,
}

impl Container {
    /// The port of the machine behind a port of the container.
    pub(super) async fn port(&self, port: ContainerPort) -> Result<u16, Error> {
        let refused =
            |reason: String| Error::Docker { what: format!("tell the port of {}", self.name), reason };
        let Some(container) = &self.container else { return Err(refused("it is gone".to_owned())) };
        container.get_host_port_ipv4(port).await.map_err(|error| refused(error.to_string()))
    }

    /// Waits until `ready` is; ends early, with the container's last words, when the container stops.
    pub(super) async fn wait(&self, ready: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
        let result = tokio::select! {
            result = ready => result,
            error = self.stopped() => return Err(error),
        };
        match result {
            Err(Error::Timeout { what, bound, last }) => {
                Err(Error::Timeout { what, bound, last: format!("{last}{}", self.last_words().await) })
            }
            other => other,
        }
    }

    /// The main process, if it is one of this machine.
    pub(super) async fn pid(&self) -> Option<u32> {
        let inspected = self.docker.inspect_container(&self.name, None).await.ok()?;
        let pid = inspected.state?.pid?;
        if self.local { u32::try_from(pid).ok() } else { None }
    }

    async fn stopped(&self) -> Error {
        loop {
            tokio::time::sleep(WATCH_PAUSE).await;
            let Ok(inspected) = self.docker.inspect_container(&self.name, None).await else { continue };
            let Some(state) = inspected.state else { continue };
            if state.running == Some(false) {
                let status = format!("exit code {}", state.exit_code.unwrap_or_default());
                return Error::Program { program: self.name.clone(), status, log: self.last_words().await };
            }
        }
    }

    async fn last_words(&self) -> String {
        let Some(container) = &self.container else { return String::new() };
        let out = container.stdout_to_vec().await.unwrap_or_default();
        let err = container.stderr_to_vec().await.unwrap_or_default();
        last_lines(&format!("{}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err)))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // The guard removes it, whatever runtime we are in by then; testcontainers would want a running one here.
        std::mem::forget(self.container.take());
    }
}

/// Publishes a container's port on this machine: on loopback if the engine is local. Port 0 means any.
pub(super) fn publish(
    request: ContainerRequest<GenericImage>,
    engine: &Engine,
    port: u16,
    inner: u16,
) -> ContainerRequest<GenericImage> {
    use testcontainers::bollard::models::PortBinding;
    let host_ip = engine.local().then(|| "127.0.0.1".to_owned());
    request.with_host_config_modifier(move |host| {
        let binding = PortBinding { host_ip: host_ip.clone(), host_port: Some(port.to_string()) };
        let bindings = host.port_bindings.get_or_insert_default();
        bindings.insert(format!("{inner}/tcp"), Some(vec![binding]));
        host.publish_all_ports = Some(false);
    })
}

/// `name:tag`; [`Config`] saw to it that there is a tag.
pub(super) fn image(name_and_tag: &str) -> GenericImage {
    let (name, tag) = name_and_tag.rsplit_once(':').unwrap_or((name_and_tag, "latest"));
    GenericImage::new(name, tag)
}
