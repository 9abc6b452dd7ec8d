//! Who may depend on whom: the table of the design, compared with what cargo knows.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Every edge between crates of the workspace, but for `tests` and `bench`, which may depend on anything, and
/// dev-dependencies on `stack`, which are free.
const EDGES: [(&str, &[&str]); 16] = [
    (
        "app",
        &[
            "catalog",
            "chassis",
            "notifications",
            "orders",
            "outbox",
            "payments",
            "proto",
            "strangler",
            "webhooks",
        ],
    ),
    ("banyan", &["proto", "strangler"]),
    ("catalog", &["chassis", "outbox", "proto"]),
    ("chassis", &[]),
    ("notifications", &["chassis", "outbox", "proto"]),
    ("orders", &["catalog", "chassis", "outbox", "proto"]),
    ("outbox", &[]),
    ("payments", &["chassis", "outbox", "proto"]),
    ("payments-service", &["chassis", "outbox", "payments", "proto", "strangler"]),
    ("prices", &["outbox", "strangler"]),
    ("proto", &["outbox"]),
    ("provider", &["chassis", "proto"]),
    ("stack", &[]),
    ("strangler", &[]),
    ("webhooks", &["chassis", "outbox", "proto"]),
    ("xtask", &[]),
];
const FREE: [&str; 2] = ["bench", "tests"];
/// The crates that may talk to Kafka. Everyone else, clients of gRPC above all, must not build librdkafka.
const KAFKA: [&str; 5] = ["app", "bench", "payments-service", "prices", "tests"];

fn metadata() -> Result<Metadata> {
    MetadataCommand::new().no_deps().exec().context("ask cargo for the workspace")
}

fn ours<'a>(package: &'a Package, names: &BTreeSet<&str>) -> Vec<&'a cargo_metadata::Dependency> {
    package.dependencies.iter().filter(|dependency| names.contains(dependency.name.as_str())).collect()
}

#[test]
fn edges_are_those_of_the_design() {
    let metadata = metadata().unwrap();
    let packages = metadata.workspace_packages();
    let names: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut found: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for package in packages.iter().filter(|package| !FREE.contains(&package.name.as_str())) {
        let edges = ours(package, &names).into_iter();
        let edges = edges.filter(|edge| !(edge.kind == DependencyKind::Development && edge.name == "stack"));
        found.insert(package.name.as_str(), edges.map(|edge| edge.name.clone()).collect());
    }
    let expected: BTreeMap<&str, BTreeSet<String>> = EDGES
        .into_iter()
        .map(|(name, edges)| (name, edges.iter().map(|edge| (*edge).to_owned()).collect()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn only_those_who_talk_to_kafka_build_librdkafka() {
    let metadata = metadata().unwrap();
    let packages = metadata.workspace_packages();
    let names: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut with_kafka = BTreeSet::new();
    for package in &packages {
        for edge in ours(package, &names).into_iter().filter(|edge| edge.name == "outbox") {
            assert!(!edge.uses_default_features, "{} must choose the outbox's features", package.name);
            if edge.features.iter().any(|feature| feature == "kafka") {
                with_kafka.insert(package.name.as_str());
            }
        }
        // `stack` asks a broker whether it is up; it is a dependency of tests alone.
        if package.dependencies.iter().any(|edge| edge.name == "rdkafka" && !edge.optional) {
            assert!(
                ["stack", "tests", "bench"].contains(&package.name.as_str()),
                "{} uses rdkafka itself",
                package.name
            );
        }
    }
    let others: Vec<&&str> = with_kafka.iter().filter(|name| !KAFKA.contains(name)).collect();
    assert!(others.is_empty(), "{others:?} build librdkafka");
    assert!(with_kafka.contains("app"), "the monolith is known to talk to Kafka: {with_kafka:?}");
}

#[test]
fn libraries_know_no_business_word() {
    const WORDS: [&str; 6] = ["payment", "refund", "captur", "customer", "invoice", "stripe"];
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = 0;
    for folder in ["outbox/src", "outbox/migrations", "strangler/src", "strangler/migrations"] {
        for path in files_under(&root.join(folder)).unwrap() {
            let text = std::fs::read_to_string(&path).unwrap().to_lowercase();
            // `capturing a state` is what a snapshot does.
            let text = text.replace("captures a state", "").replace("captured in", "");
            let found: Vec<&str> = WORDS.into_iter().filter(|word| text.contains(word)).collect();
            assert!(found.is_empty(), "{} speaks of {found:?}", path.display());
            files += 1;
        }
    }
    assert!(files > 20, "only {files} files were read");
}

#[test]
fn each_chapter_has_its_line_in_the_documentation() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let chapters = std::fs::read_to_string(root.join("tests/stories/main.rs")).unwrap();
    let chapters = chapters.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    // What the outbox's own chapters publish is no chapter.
    let chapters: BTreeSet<&str> = chapters.filter(|chapter| *chapter != "notes").collect();
    let page = std::fs::read_to_string(root.join("docs/testing.md")).unwrap();
    let table = page.lines().skip_while(|line| !line.starts_with("| chapter ")).skip(2);
    let rows = table.map_while(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(rows.collect::<BTreeSet<_>>(), chapters);
}

fn files_under(folder: &std::path::Path) -> std::io::Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(files_under(&path)?) } else { files.push(path) }
    }
    Ok(files)
}
