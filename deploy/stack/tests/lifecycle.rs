//! A stack serves, and goes without a trace however its owner ends.
//!
//! Each story runs the `stack` program with a folder for temporary files of its own, so that "without a trace" can
//! be looked up: an empty folder, no process, no open port, no container. The source is the one that these tests
//! run under, else native.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

const STACK: &str = env!("CARGO_BIN_EXE_stack");
const UP_TIMEOUT: Duration = Duration::from_secs(300);
const GONE_TIMEOUT: Duration = Duration::from_secs(60);

/// A running `stack`, and what it said of itself.
struct Owner {
    child: Child,
    temporary: TempDir,
    ports: Vec<u16>,
    servers: Vec<Pid>,
    containers: String,
}

#[tokio::test]
async fn killed_owner_leaves_nothing() {
    let mut owner = Owner::start(&["up", "--stack", source()]).await;
    owner.signal(Signal::SIGKILL);
    owner.child.wait().await.unwrap();
    owner.assert_gone().await;
}

#[tokio::test]
async fn ctrl_c_leaves_nothing() {
    let mut owner = Owner::start(&["up", "--stack", source()]).await;
    owner.signal(Signal::SIGINT);
    assert!(owner.child.wait().await.unwrap().success());
    owner.assert_gone().await;
}

#[tokio::test]
async fn killed_run_takes_its_command_along() {
    let script = "echo export DATABASE_URL=$DATABASE_URL; echo export KAFKA_BOOTSTRAP_SERVERS=$KAFKA_BOOTSTRAP_SERVERS; \
                  sleep 1000 & echo \"# $!\"; wait";
    let mut owner = Owner::start(&["run", "--stack", source(), "--", "sh", "-c", script]).await;
    owner.signal(Signal::SIGKILL);
    owner.child.wait().await.unwrap();
    owner.assert_gone().await;
}

#[tokio::test]
async fn run_ends_with_the_commands_code_and_leaves_nothing() {
    let script = "test -n \"$DATABASE_URL\" && test -n \"$KAFKA_BOOTSTRAP_SERVERS\" && exit 7";
    let (temporary, mut command) = stack(&["run", "--stack", source(), "--", "sh", "-c", script]);
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(entries(temporary.path()), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_works_names_the_three_ways() {
    let (temporary, mut command) = stack(&["run", "--", "true"]);
    command.env_clear().env("PATH", "/nowhere").env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    command.env("TMPDIR", temporary.path());
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(125));
    let text = String::from_utf8(output.stderr).unwrap();
    for part in [
        "no PostgreSQL and Kafka to be had; one of these three is enough:",
        "external: neither DATABASE_URL nor KAFKA_BOOTSTRAP_SERVERS is set",
        "export DATABASE_URL=postgres://",
        "docker: no Docker engine at unix:///nowhere/docker.sock: there is no such socket",
        "apt-get install docker.io",
        "native: Kafka needs Java 17 or newer, and there is no `java` on the PATH",
        "apt-get install openjdk-17-jre-headless maven",
    ] {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
    assert_eq!(entries(temporary.path()), Vec::<String>::new());
}

#[tokio::test]
async fn asked_for_source_is_not_replaced_by_another() {
    let (_temporary, mut command) = stack(&["run", "--stack", "docker", "--", "true"]);
    let output = command.env("DOCKER_HOST", "unix:///nowhere/docker.sock").output().await.unwrap();
    assert_eq!(output.status.code(), Some(125));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("the stack `docker` does not work: no Docker engine at unix:///nowhere"), "{text}");
}

impl Owner {
    /// Starts `stack`, which prints two exports and a comment once all is up.
    async fn start(arguments: &[&str]) -> Self {
        let (temporary, mut command) = stack(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = Vec::new();
        while said.len() < 3 {
            let line =
                tokio::time::timeout(UP_TIMEOUT, lines.next_line()).await.expect("no stack in time").unwrap();
            match line {
                Some(line) => said.push(line),
                None => panic!("stack ended early: {}", last_words(child).await),
            }
        }
        let ports = said.iter().filter(|line| line.starts_with("export ")).map(|line| port(line)).collect();
        let owner = i32::try_from(child.id().unwrap()).unwrap();
        let servers = descendants(owner);
        let containers = entries(temporary.path()).pop().unwrap_or_default();
        Self { child, temporary, ports, servers, containers }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Waits, within a bound, until every trace is gone.
    async fn assert_gone(&self) {
        if source() == "external" {
            return;
        }
        assert_eq!(self.ports.len(), 2);
        assert!(!self.servers.is_empty() && !self.containers.is_empty(), "nothing was started");
        let started = Instant::now();
        loop {
            let mut left = entries(self.temporary.path());
            left.extend(self.servers.iter().filter(|pid| runs(**pid)).map(|pid| format!("process {pid}")));
            let open = |port: &&u16| TcpStream::connect(("127.0.0.1", **port)).is_ok();
            left.extend(self.ports.iter().filter(open).map(|port| format!("port {port}")));
            left.extend(containers(&self.containers).await);
            if left.is_empty() {
                return;
            }
            assert!(started.elapsed() < GONE_TIMEOUT, "left behind: {left:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The source under test: the one behind `cargo xtask test`, else native.
#[expect(clippy::disallowed_methods, reason = "a test has no config")]
fn source() -> &'static str {
    match std::env::var("BANYAN_STACK_SOURCE").as_deref() {
        Ok("external") => "external",
        Ok("docker") => "docker",
        _ => "native",
    }
}

/// A `stack` in a group of its own, with a folder for temporary files of its own.
fn stack(arguments: &[&str]) -> (TempDir, Command) {
    let temporary = TempDir::new().unwrap();
    // The unprivileged user of PostgreSQL passes through it.
    std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = std::process::Command::new(STACK);
    command.args(arguments).env("TMPDIR", temporary.path()).env_remove("BANYAN_STACK").process_group(0);
    if source() != "external" {
        command
            .env_remove("DATABASE_URL")
            .env_remove("KAFKA_BOOTSTRAP_SERVERS")
            .env_remove("BANYAN_STACK_SOURCE");
    }
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    (temporary, command)
}

async fn last_words(mut child: Child) -> String {
    let mut text = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut text).await.unwrap();
    }
    text
}

fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// The last number after a colon: the port in a URL with a path, or in an address.
fn port(line: &str) -> u16 {
    let address = line.rsplit_once(':').unwrap().1;
    address.split('/').next().unwrap().parse().unwrap()
}

/// Every process below this one, by `/proc`.
fn descendants(of: i32) -> Vec<Pid> {
    let mut found = vec![of];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(processes().into_iter().filter(|(_, ppid, _)| *ppid == parent).map(|(pid, _, _)| pid));
        at += 1;
    }
    found.into_iter().skip(1).map(Pid::from_raw).collect()
}

/// A zombie, which only waits to be looked at, does not run.
fn runs(pid: Pid) -> bool {
    processes().into_iter().any(|(other, _, state)| other == pid.as_raw() && state != "Z")
}

/// Process id, parent, state.
fn processes() -> Vec<(i32, i32, String)> {
    let stat = |name: String| {
        let pid = name.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit(") ").next()?.split(' ');
        Some((pid, fields.next().map(str::to_owned)?, fields.next()?.parse().ok()?))
    };
    entries(Path::new("/proc"))
        .into_iter()
        .filter_map(stat)
        .map(|(pid, state, ppid)| (pid, ppid, state))
        .collect()
}

async fn containers(name: &str) -> Vec<String> {
    if source() != "docker" {
        return Vec::new();
    }
    let filter = format!("name={name}");
    let output = Command::new("docker").args(["ps", "-aq", "--filter", &filter]).output().await.unwrap();
    assert!(output.status.success(), "docker ps failed");
    String::from_utf8(output.stdout).unwrap().lines().map(|id| format!("container {id}")).collect()
}
