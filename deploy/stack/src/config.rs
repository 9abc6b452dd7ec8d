//! Every setting of the stack; the only place in the library that reads the environment.

use std::path::{Path, PathBuf};

use crate::{Choice, Error};

/// A small machine's settings: a bounded heap, a collector without threads of its own, and the quick compiler,
/// which is warm after a second. It takes 170 MB after its start.
const SMALL_JVM: &str = "-Xms128m -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1";

/// What the environment says.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// `BANYAN_STACK`: the source that [`crate::shared`] takes; `auto` when unset. Another word stops the start.
    pub(crate) choice: Choice,
    /// `DATABASE_URL`: a superuser's address of an existing PostgreSQL.
    pub(crate) database_url: Option<String>,
    /// `KAFKA_BOOTSTRAP_SERVERS`: addresses of an existing Kafka.
    pub(crate) bootstrap_servers: Option<String>,
    /// `BANYAN_STACK_SOURCE`: set by `stack run`, so that its child knows who stands behind the two addresses.
    pub(crate) behind: Option<&'static str>,
    /// `BANYAN_POSTGRES_IMAGE`, default `postgres:17`.
    pub(crate) postgres_image: String,
    /// `BANYAN_KAFKA_IMAGE`, default `apache/kafka:4.1.0`.
    pub(crate) kafka_image: String,
    /// `DOCKER_HOST`, else the usual sockets in the order in which testcontainers looks for them.
    pub(crate) docker_host: String,
    /// `BANYAN_POSTGRES_BIN`: where PostgreSQL's programs are.
    pub(crate) postgres_bin: PostgresBin,
    /// `BANYAN_POSTGRES_SETTINGS`: more settings of a PostgreSQL that we start, `name=value` separated by spaces.
    pub(crate) postgres_settings: Vec<String>,
    /// `BANYAN_KAFKA_JVM`: flags of the JVM of a Kafka that we start, separated by spaces; default [`SMALL_JVM`].
    pub(crate) kafka_jvm: Vec<String>,
    /// `BANYAN_STACK_CACHE`: where fetched jars are kept; default `target/stack` of this checkout, else
    /// `~/.cache/banyan`, else a folder for temporary files.
    pub(crate) cache: PathBuf,
    /// `MAVEN_OPTS`, which may name a proxy; we add to it.
    pub(crate) maven_opts: String,
    /// `PATH`, for finding programs.
    pub(crate) path: Vec<PathBuf>,
}

/// Where the native stack looks for `initdb` and `postgres`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PostgresBin {
    /// On the `PATH` and in `/usr/lib/postgresql/*/bin`, else the jar. The default.
    Search,
    /// `none`: the jar, whatever is installed.
    Jar,
    /// This folder and no other.
    Folder(PathBuf),
}

impl Config {
    /// Reads the environment once.
    pub(crate) fn from_env() -> Result<Self, Error> {
        Ok(Self {
            choice: choice(variable("BANYAN_STACK"))?,
            database_url: variable("DATABASE_URL"),
            bootstrap_servers: variable("KAFKA_BOOTSTRAP_SERVERS"),
            behind: behind(variable("BANYAN_STACK_SOURCE"))?,
            postgres_image: image("BANYAN_POSTGRES_IMAGE", "postgres:17")?,
            kafka_image: image("BANYAN_KAFKA_IMAGE", "apache/kafka:4.1.0")?,
            docker_host: variable("DOCKER_HOST").unwrap_or_else(docker_socket),
            postgres_bin: postgres_bin(variable("BANYAN_POSTGRES_BIN")),
            postgres_settings: postgres_settings(variable("BANYAN_POSTGRES_SETTINGS"))?,
            kafka_jvm: kafka_jvm(variable("BANYAN_KAFKA_JVM"))?,
            cache: variable("BANYAN_STACK_CACHE").map_or_else(cache, PathBuf::from),
            maven_opts: variable("MAVEN_OPTS").unwrap_or_default(),
            path: variable("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default(),
        })
    }

    /// The first executable of this name on the `PATH`.
    pub(crate) fn program(&self, name: &str) -> Option<PathBuf> {
        self.path.iter().map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
    }
}

/// An empty variable counts as unset: that is how a shell hides one for a single command.
#[expect(clippy::disallowed_methods, reason = "this file is the one that reads the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn choice(value: Option<String>) -> Result<Choice, Error> {
    let Some(value) = value else { return Ok(Choice::Auto) };
    clap::ValueEnum::from_str(&value, false).map_err(|_| Error::Setting {
        variable: "BANYAN_STACK",
        value,
        allowed: "external, docker, native or auto",
    })
}

fn behind(value: Option<String>) -> Result<Option<&'static str>, Error> {
    let Some(value) = value else { return Ok(None) };
    [Choice::External, Choice::Docker, Choice::Native]
        .into_iter()
        .map(Choice::name)
        .find(|name| *name == value)
        .map(Some)
        .ok_or(Error::Setting {
            variable: "BANYAN_STACK_SOURCE",
            value,
            allowed: "external, docker or native",
        })
}

/// An image name with a tag; without one the engine would take `latest`, which is a different thing each month.
fn image(name: &'static str, default: &str) -> Result<String, Error> {
    let image = variable(name).unwrap_or_else(|| default.to_owned());
    let tagged = image.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if tagged && !image.contains('@') {
        return Ok(image);
    }
    Err(Error::Setting { variable: name, value: image, allowed: "an image with its tag, like postgres:17" })
}

fn postgres_bin(value: Option<String>) -> PostgresBin {
    match value.as_deref() {
        None => PostgresBin::Search,
        Some("none") => PostgresBin::Jar,
        Some(folder) => PostgresBin::Folder(PathBuf::from(folder)),
    }
}

fn postgres_settings(value: Option<String>) -> Result<Vec<String>, Error> {
    let settings: Vec<String> =
        value.iter().flat_map(|value| value.split_whitespace()).map(str::to_owned).collect();
    match settings.iter().find(|setting| !setting.contains('=')) {
        None => Ok(settings),
        Some(bad) => Err(Error::Setting {
            variable: "BANYAN_POSTGRES_SETTINGS",
            value: bad.clone(),
            allowed: "name=value, several separated by spaces",
        }),
    }
}

fn kafka_jvm(value: Option<String>) -> Result<Vec<String>, Error> {
    let value = value.unwrap_or_else(|| SMALL_JVM.to_owned());
    let flags: Vec<String> = value.split_whitespace().map(str::to_owned).collect();
    if flags.iter().all(|flag| flag.starts_with("-X")) {
        return Ok(flags);
    }
    Err(Error::Setting {
        variable: "BANYAN_KAFKA_JVM",
        value,
        allowed: "flags that begin with -X, separated by spaces",
    })
}

fn docker_socket() -> String {
    let home = variable("HOME").unwrap_or_default();
    let runtime = variable("XDG_RUNTIME_DIR").unwrap_or_default();
    let usual = "/var/run/docker.sock".to_owned();
    let candidates = [
        usual.clone(),
        format!("{runtime}/.docker/run/docker.sock"),
        format!("{home}/.docker/run/docker.sock"),
        format!("{home}/.docker/desktop/docker.sock"),
    ];
    let socket = candidates.into_iter().find(|path| Path::new(path).exists()).unwrap_or(usual);
    format!("unix://{socket}")
}

fn cache() -> PathBuf {
    let checkout = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    if checkout.join("Cargo.lock").is_file() {
        return checkout.join("target/stack");
    }
    match variable("HOME") {
        Some(home) => Path::new(&home).join(".cache/banyan"),
        None => std::env::temp_dir().join("banyan-cache"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_stack_is_refused_by_name() {
        let error = choice(Some("podman".to_owned())).unwrap_err().to_string();
        assert_eq!(error, "BANYAN_STACK=`podman` is not allowed: external, docker, native or auto");
    }

    #[test]
    fn flags_of_the_jvm_are_flags() {
        assert_eq!(
            kafka_jvm(Some("-Xmx1g  -XX:+UseSerialGC".to_owned())).unwrap(),
            ["-Xmx1g", "-XX:+UseSerialGC"]
        );
        assert_eq!(kafka_jvm(None).unwrap().len(), 4);
        let error = kafka_jvm(Some("1g".to_owned())).unwrap_err().to_string();
        assert!(error.starts_with("BANYAN_KAFKA_JVM=`1g` is not allowed"), "{error}");
    }

    #[test]
    fn settings_are_pairs() {
        let two = postgres_settings(Some("wal_level=logical  work_mem=8MB".to_owned())).unwrap();
        assert_eq!(two, ["wal_level=logical", "work_mem=8MB"]);
        let error = postgres_settings(Some("logical".to_owned())).unwrap_err().to_string();
        assert!(error.starts_with("BANYAN_POSTGRES_SETTINGS=`logical` is not allowed"), "{error}");
    }

    #[test]
    fn none_means_the_jar() {
        assert_eq!(postgres_bin(Some("none".to_owned())), PostgresBin::Jar);
        assert_eq!(postgres_bin(Some("/opt/pg/bin".to_owned())), PostgresBin::Folder("/opt/pg/bin".into()));
    }
}
