//! The plan of the migration of payments, from its file.

use std::path::Path;

use anyhow::{Context as _, ensure};
use strangler::plan_file::PlanFile;

use crate::MIGRATION;

/// Reads it, once, when the controller starts: a change needs a restart.
pub(crate) fn read(path: &Path) -> anyhow::Result<PlanFile> {
    let named = || format!("MIGRATION_PLAN={}", path.display());
    let text = std::fs::read_to_string(path).with_context(named)?;
    let plan = PlanFile::parse(&text).with_context(named)?;
    let name = &plan.migration.name;
    ensure!(
        name == MIGRATION,
        "{}: migration.name: it is {name:?}, and this program moves {MIGRATION:?}",
        named()
    );
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn a_plan_that_is_not_there_or_not_ours_is_named_with_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("migration.toml");
        let said = format!("{:#}", read(&path).unwrap_err());
        assert!(said.starts_with("MIGRATION_PLAN=") && said.contains("migration.toml"), "{said}");
        let plan = include_str!("../../../deploy/migration.toml");
        std::fs::write(&path, plan).unwrap();
        assert_eq!(read(&path).unwrap().migration.name, "payments");
        std::fs::write(&path, plan.replace("name = \"payments\"", "name = \"prices\"")).unwrap();
        assert!(format!("{:#}", read(&path).unwrap_err()).contains("this program moves \"payments\""));
        std::fs::write(&path, plan.replace("decide_by", "decide")).unwrap();
        assert!(format!("{:#}", read(&path).unwrap_err()).contains("decide"));
    }
}
