//! PostgreSQL as a process of our own.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::programs::{Postgres, Programs};
use super::user::User;
use super::{ATTEMPTS_MAX, free_port, log, port_was_taken, still_running};
use crate::guard::Guard;
use crate::{Error, ready};

const UNPACK_TIMEOUT: Duration = Duration::from_secs(60);
const INITDB_TIMEOUT: Duration = Duration::from_secs(90);
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Settings that differ from the defaults. Durability stays on: the promises are about what was committed.
/// Shared memory in the data folder goes with that folder; just-in-time compilation costs each session memory.
const SETTINGS: [&str; 7] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=300",
    "shared_buffers=64MB",
    "dynamic_shared_memory_type=mmap",
    "jit=off",
    "timezone=UTC",
];

/// Makes a cluster in the run's folder and starts it; answers the superuser's URL.
pub(crate) async fn start(
    guard: &Guard,
    programs: &Programs,
    user: Option<&User>,
    settings: &[String],
) -> Result<String, Error> {
    let home = guard.folder().join("postgres");
    std::fs::create_dir(&home).map_err(Error::io(format!("create {}", home.display())))?;
    if let Some(user) = user {
        user.own(&home)?;
    }
    let bin = match &programs.postgres {
        Postgres::Installed(folder) => folder.clone(),
        Postgres::Archive(archive) => unpack(archive, guard.folder()).await?,
    };
    let password = uuid::Uuid::new_v4().simple().to_string();
    initdb(&bin, &home, &password, user).await?;
    let mut attempt = 1;
    loop {
        let port = free_port()?;
        let url = format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres");
        match serve(guard, (&bin, &home), user, settings, port, &url).await {
            Ok(()) => return Ok(url),
            Err(error) if attempt < ATTEMPTS_MAX && port_was_taken(&error) => {
                tracing::info!(port, attempt, "PostgreSQL's port was taken meanwhile; trying another");
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn unpack(archive: &Path, folder: &Path) -> Result<PathBuf, Error> {
    let target = folder.join("postgres-programs");
    std::fs::create_dir(&target).map_err(Error::io(format!("create {}", target.display())))?;
    let mut tar = Command::new("tar");
    tar.arg("-xJf").arg(archive).arg("--no-same-owner").current_dir(&target);
    run(tar, "tar -xJ (it needs xz-utils)", UNPACK_TIMEOUT).await?;
    Ok(target.join("bin"))
}

async fn initdb(bin: &Path, home: &Path, password: &str, user: Option<&User>) -> Result<(), Error> {
    let secret = home.join("password");
    let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&secret);
    written
        .and_then(|mut file| writeln!(file, "{password}"))
        .map_err(Error::io(format!("write {}", secret.display())))?;
    let mut command = Command::new(bin.join("initdb"));
    command
        .args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"])
        .arg(format!("--pwfile={}", secret.display()))
        .arg("--pgdata")
        .arg(home.join("data"))
        .current_dir(home);
    if let Some(user) = user {
        user.own(&secret)?;
        user.apply(&mut command);
    }
    run(command, "initdb", INITDB_TIMEOUT).await
}

async fn serve(
    guard: &Guard,
    (bin, home): (&Path, &Path),
    user: Option<&User>,
    settings: &[String],
    port: u16,
    url: &str,
) -> Result<(), Error> {
    let path = guard.folder().join("postgres.log");
    let (out, err) = log::create(&path)?;
    let mut command = Command::new(bin.join("postgres"));
    command.arg("-D").arg(home.join("data")).arg("-p").arg(port.to_string());
    for setting in SETTINGS.into_iter().chain(settings.iter().map(String::as_str)) {
        command.args(["-c", setting]);
    }
    command.current_dir(home).env("LC_ALL", "C").stdin(Stdio::null()).stdout(out).stderr(err);
    if let Some(user) = user {
        user.apply(&mut command);
    }
    // SIGQUIT ends at once: nobody needs a last checkpoint of what is thrown away.
    let pid = guard.spawn(&mut command, "QUIT")?;
    ready::postgres(url, READY_TIMEOUT, || still_running(guard, pid, "postgres", &path)).await
}

/// Runs a program to its end, within a bound.
pub(super) async fn run(command: Command, name: &str, bound: Duration) -> Result<(), Error> {
    let mut command = tokio::process::Command::from(command);
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(bound, running)
        .await
        .map_err(|_| Error::Timeout { what: name.to_owned(), bound, last: String::new() })?
        .map_err(Error::io(format!("start {name}")))?;
    if output.status.success() {
        return Ok(());
    }
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(Error::Program {
        program: name.to_owned(),
        status: output.status.to_string(),
        log: log::last_lines(&text),
    })
}
