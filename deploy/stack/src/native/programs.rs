//! The programs of both servers: what the machine brings, the rest as jars through one pinned Maven POM.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use super::log;
use crate::Error;
use crate::config::{Config, PostgresBin};

/// Pins every version; its text is the cache's key.
const POM: &str = include_str!("../../native/pom.xml");
/// A cold fetch of 58 MB took 7 s; slow lines get their time.
const FETCH_TIMEOUT: Duration = Duration::from_secs(300);
/// How long we let another run fetch for us.
const LOCK_TIMEOUT: Duration = Duration::from_secs(330);
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// The oldest PostgreSQL that the migrations are written for.
const POSTGRES_MAJOR_MIN: u32 = 15;

/// Where to find each server's programs.
pub(crate) struct Programs {
    pub(crate) postgres: Postgres,
    /// A folder of jars.
    pub(crate) kafka: PathBuf,
}

/// Where `initdb` and `postgres` come from.
pub(crate) enum Postgres {
    /// A folder with the programs.
    Installed(PathBuf),
    /// An archive that each run unpacks into its own folder, where the unprivileged user can read it.
    Archive(PathBuf),
}

impl std::fmt::Display for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Installed(folder) => write!(f, "{}", folder.display()),
            Self::Archive(_) => f.write_str("the Maven jar"),
        }
    }
}

/// Looks on the machine, and fetches the jars if no earlier run did.
pub(crate) async fn find(config: &Config) -> Result<Programs, Error> {
    let jars = jars(config).await?;
    let postgres = match &config.postgres_bin {
        PostgresBin::Folder(folder) if folder.join("initdb").is_file() => Postgres::Installed(folder.clone()),
        PostgresBin::Folder(folder) => {
            let value = folder.display().to_string();
            let allowed = "a folder with initdb and postgres, or none";
            return Err(Error::Setting { variable: "BANYAN_POSTGRES_BIN", value, allowed });
        }
        PostgresBin::Jar => archive(&jars)?,
        PostgresBin::Search => match installed(config) {
            Some(folder) => Postgres::Installed(folder),
            None => archive(&jars)?,
        },
    };
    Ok(Programs { postgres, kafka: jars.join("kafka") })
}

/// On the `PATH`, else the newest below `/usr/lib/postgresql`; not one that is too old.
fn installed(config: &Config) -> Option<PathBuf> {
    let debian =
        std::fs::read_dir("/usr/lib/postgresql").ok().into_iter().flatten().flatten().map(|e| e.path());
    let mut debian: Vec<(u32, PathBuf)> = debian
        .filter_map(|path| {
            let major = path.file_name()?.to_str()?.parse().ok()?;
            Some((major, path.join("bin")))
        })
        .filter(|(major, bin)| *major >= POSTGRES_MAJOR_MIN && bin.join("initdb").is_file())
        .collect();
    debian.sort();
    let on_path =
        config.path.iter().find(|folder| folder.join("initdb").is_file() && recent(&folder.join("postgres")));
    on_path.cloned().or_else(|| debian.pop().map(|(_, bin)| bin))
}

/// Whether this `postgres` says that it is new enough.
fn recent(postgres: &Path) -> bool {
    let Ok(output) = std::process::Command::new(postgres).arg("--version").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split(' ').find_map(|word| word.split('.').next()?.trim().parse::<u32>().ok());
    version.is_some_and(|version| version >= POSTGRES_MAJOR_MIN)
}

fn archive(jars: &Path) -> Result<Postgres, Error> {
    let entries =
        std::fs::read_dir(jars.join("postgres")).map_err(Error::io(format!("read {}", jars.display())))?;
    let mut archives = entries.flatten().map(|entry| entry.path());
    archives
        .find(|path| path.extension().is_some_and(|extension| extension == "txz"))
        .map(Postgres::Archive)
        .ok_or_else(|| {
            Error::Missing(format!(
                "no PostgreSQL in {}; delete that folder to fetch it again",
                jars.display()
            ))
        })
}

/// The folder of the fetched jars. It appears under its name only when whole, and one run at a time makes it.
async fn jars(config: &Config) -> Result<PathBuf, Error> {
    let key = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, POM.as_bytes()).simple().to_string();
    let ready = config.cache.join(format!("jars-{}", &key[..12]));
    if ready.is_dir() {
        return Ok(ready);
    }
    let maven = config.program("mvn").ok_or_else(|| {
        Error::Missing("Kafka's jars are fetched with Maven, and there is no `mvn` on the PATH".to_owned())
    })?;
    std::fs::create_dir_all(&config.cache)
        .map_err(Error::io(format!("create {}", config.cache.display())))?;
    let _lock = lock(&config.cache.join("lock")).await?;
    if !ready.is_dir() {
        fetch(&maven, config, &ready).await?;
    }
    Ok(ready)
}

async fn lock(path: &Path) -> Result<File, Error> {
    let file = File::create(path).map_err(Error::io(format!("create {}", path.display())))?;
    let taken = async {
        while file.try_lock().is_err() {
            tokio::time::sleep(LOCK_PAUSE).await;
        }
    };
    tokio::time::timeout(LOCK_TIMEOUT, taken).await.map_err(|_| Error::Timeout {
        what: format!("another run's fetch of the jars ({})", path.display()),
        bound: LOCK_TIMEOUT,
        last: String::new(),
    })?;
    Ok(file)
}

async fn fetch(maven: &Path, config: &Config, ready: &Path) -> Result<(), Error> {
    let cache = &config.cache;
    tracing::info!("fetching Apache Kafka and PostgreSQL from Maven Central (58 MB, once)");
    let folder = tempfile::Builder::new()
        .prefix("fetch-")
        .tempdir_in(cache)
        .map_err(Error::io(format!("create a folder in {}", cache.display())))?;
    let pom = folder.path().join("pom.xml");
    std::fs::write(&pom, POM).map_err(Error::io(format!("write {}", pom.display())))?;
    let platform = if cfg!(target_arch = "aarch64") { "linux-arm64v8" } else { "linux-amd64" };
    let running = Command::new(maven)
        .args(["-q", "-B", "-f"])
        .arg(&pom)
        .arg("package")
        .arg(format!("-Dstack.folder={}", folder.path().display()))
        .arg(format!("-Dpostgres.platform={platform}"))
        // No folder of performance data among the temporary ones.
        .env("MAVEN_OPTS", format!("{} -XX:-UsePerfData", config.maven_opts))
        .current_dir(folder.path())
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(FETCH_TIMEOUT, running)
        .await
        .map_err(|_| Error::Timeout {
            what: "mvn package".into(),
            bound: FETCH_TIMEOUT,
            last: String::new(),
        })?
        .map_err(Error::io(format!("start {}", maven.display())))?;
    if !output.status.success() {
        let log = log::last_lines(&String::from_utf8_lossy(&output.stdout));
        return Err(Error::Program { program: "mvn package".into(), status: output.status.to_string(), log });
    }
    std::fs::rename(folder.keep(), ready).map_err(Error::io(format!("create {}", ready.display())))
}
