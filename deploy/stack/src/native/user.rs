//! As whom PostgreSQL runs: it refuses to be root.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::Error;

/// An unprivileged user that root lends PostgreSQL.
pub(crate) struct User {
    uid: nix::unistd::Uid,
    gid: nix::unistd::Gid,
}

impl User {
    /// `None` unless we are root; then `postgres` if there is one, else `nobody`. Opens the run's folder for passing
    /// through, since that user has to reach its part of it.
    pub(crate) fn for_servers(folder: &Path) -> Result<Option<Self>, Error> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(None);
        }
        let find = |name: &str| nix::unistd::User::from_name(name).ok().flatten();
        let user = find("postgres").or_else(|| find("nobody")).ok_or_else(|| {
            Error::Missing(
                "PostgreSQL refuses to run as root, and there is no user postgres or nobody".to_owned(),
            )
        })?;
        let passable = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(folder, passable)
            .map_err(Error::io(format!("open {}", folder.display())))?;
        Ok(Some(Self { uid: user.uid, gid: user.gid }))
    }

    /// Makes the command run as this user. Supplementary groups are dropped with it.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.uid(self.uid.as_raw()).gid(self.gid.as_raw());
    }

    /// Gives a file or folder to this user.
    pub(crate) fn own(&self, path: &Path) -> Result<(), Error> {
        nix::unistd::chown(path, Some(self.uid), Some(self.gid))
            .map_err(|errno| Error::io(format!("give away {}", path.display()))(errno.into()))
    }
}
