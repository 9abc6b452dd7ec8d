//! What servers and programs wrote.

use std::fs::File;
use std::path::Path;

use crate::Error;

/// Lines of a log that go into an error.
const TAIL_LINES: usize = 15;

/// A new file for a server's output.
pub(crate) fn create(path: &Path) -> Result<(File, File), Error> {
    let file = File::create(path).map_err(Error::io(format!("create {}", path.display())))?;
    let twin = file.try_clone().map_err(Error::io(format!("open {}", path.display())))?;
    Ok((file, twin))
}

/// The last lines of a file, each on a line of its own; empty when there are none.
pub(crate) fn tail(path: &Path) -> String {
    last_lines(&std::fs::read_to_string(path).unwrap_or_default())
}

/// The last lines of a text, indented, with a leading line break.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines[from..].iter().map(|line| format!("\n    | {line}")).collect()
}
