//! The Java that Kafka runs on.

use std::path::PathBuf;
use std::time::Duration;

use tokio::process::Command;

use crate::Error;
use crate::config::Config;

/// What Kafka 4 asks for.
const VERSION_MIN: u32 = 17;
const VERSION_TIMEOUT: Duration = Duration::from_secs(20);

/// A Java that is new enough.
pub(crate) struct Java {
    pub(crate) program: PathBuf,
    version: u32,
}

impl std::fmt::Display for Java {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Java {}", self.version)
    }
}

/// The `java` on the `PATH`, if it is new enough.
pub(crate) async fn find(config: &Config) -> Result<Java, Error> {
    let missing = |why: String| Error::Missing(format!("Kafka needs Java {VERSION_MIN} or newer, and {why}"));
    let program =
        config.program("java").ok_or_else(|| missing("there is no `java` on the PATH".to_owned()))?;
    // A JVM's performance data would leave a folder among the temporary ones.
    let asked = Command::new(&program).args(["-XX:-UsePerfData", "-version"]).kill_on_drop(true).output();
    let output = tokio::time::timeout(VERSION_TIMEOUT, asked)
        .await
        .map_err(|_| missing(format!("`{} -version` does not answer", program.display())))?
        .map_err(Error::io(format!("start {}", program.display())))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let version = major(&text).ok_or_else(|| missing(format!("`java -version` says `{}`", text.trim())))?;
    if version < VERSION_MIN {
        return Err(missing(format!("{} is Java {version}", program.display())));
    }
    Ok(Java { program, version })
}

/// From `openjdk version "17.0.15" 2025-04-15`; old ones say `"1.8.0_292"`.
fn major(text: &str) -> Option<u32> {
    let quoted = text.split('"').nth(1)?;
    let mut parts = quoted.split(['.', '-', '_', '+']);
    let first: u32 = parts.next()?.parse().ok()?;
    if first == 1 { parts.next()?.parse().ok() } else { Some(first) }
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn java_versions_old_and_new() {
        assert_eq!(major("openjdk version \"17.0.15\" 2025-04-15"), Some(17));
        assert_eq!(major("openjdk version \"25\" 2025-09-16"), Some(25));
        assert_eq!(major("java version \"1.8.0_292\""), Some(8));
        assert_eq!(major("sh: not found"), None);
    }
}
