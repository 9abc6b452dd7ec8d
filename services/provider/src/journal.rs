//! The journal's file: append only, one JSON object a line, on disk before anyone hears of it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::line::Line;

/// Lines that may wait for the disk; then requests wait.
const QUEUE_MAX: usize = 1_024;

/// Lines that go to the disk with one `fsync`.
const BATCH_MAX: usize = 256;

/// The journal can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be opened, read or written.
    #[error("journal {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another provider writes to it.
    #[error("journal {path} is in use by another process; give each provider a file of its own")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A line before the last can't be read: this is not a torn write.
    #[error("journal {path}, line {line}: {reason}; the file was changed by hand, or is not a journal")]
    Broken {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The task that writes the file is gone.
    #[error("the journal is closed")]
    Closed,
}

/// The way to the file: lines are written in the order they were sent.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    lines: mpsc::Sender<Line>,
    durable: watch::Receiver<u64>,
}

/// An opened file with what it holds.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) lines: Vec<Line>,
    /// Bytes of a last line that was never finished, and so never answered; cut off.
    pub(crate) torn_bytes: u64,
    file: File,
    path: PathBuf,
}

/// Opens the file, makes it when it is missing, and reads it.
pub(crate) fn open(path: &Path) -> Result<Opened, Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    // A line counts once its end is there; the newline is the last byte of the write.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines = parse(path, &bytes[..whole])?;
    let torn_bytes = length(bytes.len() - whole);
    file.set_len(length(whole)).map_err(failed)?;
    file.seek(SeekFrom::End(0)).map_err(failed)?;
    Ok(Opened { lines, torn_bytes, file, path: path.to_owned() })
}

impl Journal {
    /// Starts the writer. It ends when every [`Journal`] is gone, or with the first error: then nothing is
    /// durable any more, and the process must end.
    pub(crate) fn start(opened: Opened, last: u64) -> (Self, JoinHandle<Result<(), Error>>) {
        let (lines, queue) = mpsc::channel(QUEUE_MAX);
        let (written, durable) = watch::channel(last);
        let writer = Writer { file: opened.file, path: opened.path, queue, written };
        (Self { lines, durable }, tokio::task::spawn_blocking(move || writer.run()))
    }

    /// A journal whose disk is in the hands of a test.
    #[cfg(test)]
    pub(crate) fn by_hand() -> (Self, mpsc::Receiver<Line>, watch::Sender<u64>) {
        let (lines, queue) = mpsc::channel(QUEUE_MAX);
        let (written, durable) = watch::channel(0);
        (Self { lines, durable }, queue, written)
    }

    /// Room for one line. Taken before the book is locked, so that sending is instant under the lock.
    pub(crate) async fn room(&self) -> Result<OwnedPermit<Line>, Error> {
        self.lines.clone().reserve_owned().await.map_err(|_| Error::Closed)
    }

    /// Waits until the line is on disk.
    pub(crate) async fn durable(&self, seq: u64) -> Result<(), Error> {
        self.durable.clone().wait_for(|written| *written >= seq).await.map(drop).map_err(|_| Error::Closed)
    }
}

struct Writer {
    file: File,
    path: PathBuf,
    queue: mpsc::Receiver<Line>,
    written: watch::Sender<u64>,
}

impl Writer {
    /// Writes what waits, syncs once, says so: requests that come together share one `fsync`.
    fn run(mut self) -> Result<(), Error> {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while self.queue.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
            let last = batch.last().map_or(0, |line| line.seq);
            let result = write(&mut self.file, &batch);
            result.map_err(|source| Error::File { path: self.path.clone(), source })?;
            self.written.send_replace(last);
            batch.clear();
        }
        Ok(())
    }
}

fn write(file: &mut File, batch: &[Line]) -> io::Result<()> {
    let mut bytes = Vec::new();
    for line in batch {
        serde_json::to_writer(&mut bytes, line)?;
        bytes.push(b'\n');
    }
    file.write_all(&bytes)?;
    file.sync_data()
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Line>, Error> {
    let broken = |line: usize, reason: String| Error::Broken { path: path.to_owned(), line, reason };
    let mut lines: Vec<Line> = Vec::new();
    for (at, text) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let line: Line = serde_json::from_slice(text).map_err(|error| broken(at + 1, error.to_string()))?;
        let expected = lines.last().map_or(1, |last| last.seq + 1);
        if line.seq != expected {
            return Err(broken(at + 1, format!("seq is {}, not {expected}", line.seq)));
        }
        lines.push(line);
    }
    Ok(lines)
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
