//! The seeds of stories that are told by chance.

use std::ops::Range;

use anyhow::{Context, Result, ensure};

use crate::config::Config;

/// How many there are when nobody says otherwise.
const USUAL: u64 = 20;
/// The most of one run: each takes some seconds.
const SEEDS_MAX: u64 = 10_000;

/// Those of `BANYAN_SEEDS`, which is a number or a range such as `5..9`; else 0 to 19.
///
/// # Errors
/// When it is neither, names no seed, or names more than 10,000.
pub fn seeds() -> Result<Range<u64>> {
    Config::from_env().seeds.as_deref().map_or(Ok(0..USUAL), parse)
}

fn parse(text: &str) -> Result<Range<u64>> {
    let number = |text: &str| text.trim().parse::<u64>();
    let seeds = match text.split_once("..") {
        None => number(text).map(|count| 0..count),
        Some((first, end)) => number(first).and_then(|first| Ok(first..number(end)?)),
    };
    let seeds =
        seeds.with_context(|| format!("BANYAN_SEEDS={text}: a number or a range such as 5..9 is needed"))?;
    let count = seeds.end.saturating_sub(seeds.start);
    ensure!(
        (1..=SEEDS_MAX).contains(&count),
        "BANYAN_SEEDS={text} names {count} seeds: 1 to {SEEDS_MAX} are allowed"
    );
    Ok(seeds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_counts_from_zero_and_a_range_is_itself() {
        assert_eq!(parse("3").unwrap(), 0..3);
        assert_eq!(parse(" 5..9 ").unwrap(), 5..9);
    }

    #[test]
    fn what_names_no_seed_or_too_many_is_refused() {
        for wrong in ["0", "9..5", "7..7", "10001", "many", "1..", "-1"] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.starts_with(&format!("BANYAN_SEEDS={wrong}")), "{error}");
        }
    }
}
