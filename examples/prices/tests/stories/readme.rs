//! What is written about the example is true of it.

use std::path::Path;

use strangler::BoxError;

/// The most lines that moving a domain takes here.
const MOVING_MAX: usize = 150;

fn read(path: &str) -> Result<String, BoxError> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    Ok(std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?)
}

/// Lines without indentation; blank ones are left out.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

#[test]
fn moving_prices_takes_less_than_150_lines() -> Result<(), BoxError> {
    let moving = read("src/moving.rs")?;
    let code = lines(&moving).into_iter().filter(|line| !line.starts_with("//")).count();
    assert!((50..MOVING_MAX).contains(&code), "{code} lines without comments and blank ones");
    Ok(())
}

/// Each block of Rust or TOML in the crate's README is a part of this example, but for its indentation. `// ..` leaves something out.
#[test]
fn the_steps_of_the_readme_are_this_example() -> Result<(), BoxError> {
    let readme = read("../../strangler/README.md")?;
    let sources = [
        read("src/price.rs")?,
        read("src/prices.rs")?,
        read("src/moving.rs")?,
        read("tests/stories/place.rs")?,
        read("tests/stories/world.rs")?,
        read("tests/stories/moved.rs")?,
        read("tests/stories/operator.rs")?,
        read("tests/stories/migration.toml")?,
    ];
    let sources: Vec<Vec<&str>> = sources.iter().map(|source| lines(source)).collect();
    let mut parts = 0;
    // What is between two fences is every second piece, and begins with its language.
    let fenced = readme.split("```").skip(1).step_by(2);
    for block in fenced.filter(|block| block.starts_with("rust\n") || block.starts_with("toml\n")) {
        let block = block.split_once('\n').map_or("", |(_, block)| block);
        for part in lines(block).split(|line| *line == "// ..").filter(|part| !part.is_empty()) {
            let found = sources.iter().any(|source| source.windows(part.len()).any(|there| there == part));
            assert!(found, "the example has no such lines:\n{}", part.join("\n"));
            parts += 1;
        }
    }
    assert!(parts >= 8, "{parts} parts of the README were compared");
    Ok(())
}
