//! What the two commands do.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use anyhow::Context;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use stack::{Choice, Stack};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// Our own exit code when there is no stack, apart from those of common commands.
pub(crate) const FAILED: u8 = 125;

/// Brings the stack up and waits to be told to end.
pub(crate) async fn up(choice: Choice) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let stack = tokio::select! {
        started = Stack::start(choice) => started?,
        ended = signals.next() => return Ok(code_of(ended)),
    };
    println!("export DATABASE_URL={}", stack.postgres_url());
    println!("export KAFKA_BOOTSTRAP_SERVERS={}", stack.kafka());
    println!("# {}; Ctrl-C takes it down", stack.describe());
    signals.next().await;
    stack.close().await?;
    Ok(ExitCode::SUCCESS)
}

/// Brings the stack up for one command.
pub(crate) async fn run(choice: Choice, command: &[OsString]) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let stack = tokio::select! {
        started = Stack::start(choice) => started?,
        ended = signals.next() => return Ok(code_of(ended)),
    };
    // At a terminal the child shares our group, so that it may read from it and Ctrl-C reaches it directly.
    // Elsewhere it gets a group, so that its own children end with it.
    let terminal = std::io::stdin().is_terminal();
    let ended = match start(&stack, command, terminal) {
        Ok(child) => follow(child, &mut signals, terminal).await,
        Err(error) => Err(error),
    };
    stack.close().await?;
    let status = ended?;
    // As a shell has it: 128 and the signal for a child that was killed.
    let code = status.code().or_else(|| status.signal().map(|number| 128 + number)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn start(stack: &Stack, command: &[OsString], terminal: bool) -> anyhow::Result<Child> {
    let (program, arguments) = command.split_first().context("no command")?;
    let mut command = Command::from(stack.command(program, arguments)?);
    command
        .env("DATABASE_URL", stack.postgres_url())
        .env("KAFKA_BOOTSTRAP_SERVERS", stack.kafka())
        .env("BANYAN_STACK_SOURCE", stack.source())
        // The child is to take the two addresses, whatever source we were told to take.
        .env("BANYAN_STACK", "external");
    if !terminal {
        command.process_group(0);
    }
    let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    if let Some(pid) = child.id() {
        stack.adopt(pid, !terminal)?;
    }
    Ok(child)
}

/// Waits for the child; passes on what we are told meanwhile.
async fn follow(mut child: Child, signals: &mut Signals, terminal: bool) -> anyhow::Result<ExitStatus> {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    loop {
        let told = tokio::select! {
            status = child.wait() => return status.context("cannot wait for the command"),
            told = signals.next() => told,
        };
        let Some(pid) = pid else { continue };
        // A child that is gone meanwhile needs no signal.
        let _ = match (terminal, told) {
            (true, Signal::SIGINT) => Ok(()),
            (true, _) => kill(pid, told),
            (false, _) => killpg(pid, told),
        };
    }
}

fn code_of(signal: Signal) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(FAILED))
}

/// The three ways to be told to end.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.terminate.recv() => Signal::SIGTERM,
            _ = self.hangup.recv() => Signal::SIGHUP,
        }
    }
}
