//! Where the programs under test are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::OnceCell;

use crate::config::Config;

/// The packages that make the programs.
const PACKAGES: [&str; 3] = ["app", "payments-service", "provider"];
/// The programs themselves.
const PROGRAMS: [&str; 3] = ["monolith", "payments-service", "provider"];

/// Built once for all stories of this process: cargo's lock would serialise them anyway.
static BUILT: OnceCell<()> = OnceCell::const_new();
/// The same of the monolith without its half of payments.
static REMOVED: OnceCell<()> = OnceCell::const_new();

/// A folder with the programs under test.
#[derive(Clone, Debug)]
pub struct Binaries(PathBuf);

impl Binaries {
    /// From `BANYAN_BIN_DIR`, else built now with cargo, so that a story never runs against yesterday's program.
    ///
    /// # Errors
    /// When a program is missing there, or does not build.
    pub async fn fresh() -> Result<Self> {
        let config = Config::from_env();
        if let Some(folder) = config.bin_dir {
            return Self::in_folder(folder);
        }
        BUILT.get_or_try_init(|| build(&config.cargo)).await?;
        Self::in_folder(own_folder()?)
    }

    /// The monolith without its half of payments: from `BANYAN_REMOVED_DIR`, else built now with cargo. Features are those of a
    /// whole call of cargo, so it has a target folder of its own.
    ///
    /// # Errors
    /// When it is missing there, or does not build.
    pub async fn removed() -> Result<PathBuf> {
        let config = Config::from_env();
        let folder = match config.removed_dir {
            Some(folder) => folder,
            None => {
                let own = own_folder()?;
                let target = own.parent().context("the folder of programs is in no folder")?.join("removed");
                REMOVED.get_or_try_init(|| build_removed(&config.cargo, &target)).await?;
                target.join("debug")
            }
        };
        let program = folder.join("monolith");
        ensure!(program.is_file(), "there is no program {}", program.display());
        Ok(program)
    }

    /// Beside the running program, as a build of the whole workspace leaves them.
    ///
    /// # Errors
    /// When a program is missing there.
    pub fn beside() -> Result<Self> {
        Self::in_folder(Config::from_env().bin_dir.map_or_else(own_folder, Ok)?)
    }

    fn in_folder(folder: PathBuf) -> Result<Self> {
        for program in PROGRAMS {
            ensure!(
                folder.join(program).is_file(),
                "there is no program {program} in {}: build it with `cargo build -p {}`",
                folder.display(),
                PACKAGES.join(" -p ")
            );
        }
        Ok(Self(folder))
    }

    /// The path of a program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

/// `target/debug`, for the demo (`target/debug/demo`) as for a test binary (`target/debug/deps/stories-..`).
fn own_folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context("find the running program")?;
    let folder = program.parent().context("the running program is in no folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_owned())
}

async fn build(cargo: &str) -> Result<()> {
    let mut command = tokio::process::Command::new(cargo);
    run(command.arg("build").args(PACKAGES.iter().flat_map(|package| ["-p", package]))).await
}

async fn build_removed(cargo: &str, target: &Path) -> Result<()> {
    let mut command = tokio::process::Command::new(cargo);
    command.args(["build", "-p", "app", "--bin", "monolith", "--no-default-features", "--target-dir"]);
    run(command.arg(target)).await
}

/// A build, at the root of the workspace.
async fn run(command: &mut tokio::process::Command) -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = command.current_dir(workspace).output().await.context("start cargo")?;
    if !output.status.success() {
        bail!("the programs under test don't build:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
