//! Which build a program is.

/// The longest name of a build, in bytes: what is kept by build takes no longer one.
const BYTES_MAX: usize = 100;

/// This build: what `BANYAN_BUILD` said when it was compiled, such as its commit, else its version, which other builds share. A name of
/// over 100 bytes does not compile.
pub const VERSION: &str = of(option_env!("BANYAN_BUILD"), env!("CARGO_PKG_VERSION"));

/// A name that is empty is none.
const fn of(build: Option<&'static str>, version: &'static str) -> &'static str {
    match build {
        Some(build) if !build.is_empty() => {
            assert!(build.len() <= BYTES_MAX, "BANYAN_BUILD: over 100 bytes; name the build by its commit");
            build
        }
        Some(_) | None => version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_with_a_name_is_another_one_than_its_version() {
        assert_eq!(of(Some("0.1.0+abc"), "0.1.0"), "0.1.0+abc");
        assert_eq!((of(None, "0.1.0"), of(Some(""), "0.1.0")), ("0.1.0", "0.1.0"));
    }

    #[test]
    #[should_panic(expected = "BANYAN_BUILD: over 100 bytes")]
    fn a_name_that_no_table_takes_is_refused() {
        let long: &'static str = "b".repeat(101).leak();
        of(Some(long), "0.1.0");
    }
}
