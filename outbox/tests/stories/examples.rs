//! The examples do what they say: each asserts what it prints, and each is run here.

use outbox::BoxError;

#[path = "../../examples/dead_letter.rs"]
mod dead_letter;
#[path = "../../examples/handler.rs"]
mod handler;
#[path = "../../examples/publish.rs"]
mod publish;
#[path = "../../examples/relay.rs"]
mod relay;
#[path = "../../examples/replica.rs"]
mod replica;
#[path = "../../examples/testing.rs"]
mod testing;

#[test]
fn example_dead_letter() -> Result<(), BoxError> {
    dead_letter::main()
}

#[test]
fn example_handler() -> Result<(), BoxError> {
    handler::main()
}

#[test]
fn example_publish() -> Result<(), BoxError> {
    publish::main()
}

#[test]
fn example_relay() -> Result<(), BoxError> {
    relay::main()
}

#[test]
fn example_replica() -> Result<(), BoxError> {
    replica::main()
}

#[test]
fn example_testing() -> Result<(), BoxError> {
    testing::main()
}

#[test]
fn every_example_is_run() -> Result<(), BoxError> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let here = std::fs::read_to_string(folder.join("tests/stories/examples.rs"))?;
    let mut found = 0;
    for entry in std::fs::read_dir(folder.join("examples"))? {
        let path = entry?.path();
        let Some(name) = path.file_stem().and_then(|name| name.to_str()).filter(|_| path.is_file()) else {
            continue;
        };
        assert!(here.contains(&format!("{name}::main()")), "{name} is not run");
        found += 1;
    }
    assert!(found >= 5, "{found} examples");
    Ok(())
}
