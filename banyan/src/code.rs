//! Finds SQL in a program's text that names the tables of a schema, without a server.

mod texts;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use crate::run::Outcome;
use texts::Text;

/// The most files and folders that are looked at.
const ENTRIES_MAX: usize = 200_000;
/// The largest file that is read, in bytes.
const BYTES_MAX: u64 = 4 << 20;
/// A text of a Rust program is SQL when it has one of these words.
const SQL: [&str; 16] = [
    "select", "insert", "update", "delete", "truncate", "copy", "alter", "create", "drop", "grant", "revoke",
    "lock", "call", "merge", "from", "join",
];
/// The bookkeeping of migrations is no table of the domain.
const BOOKKEEPING: &str = "_migrations";

/// A place that names a table.
#[derive(Debug, PartialEq, Eq)]
struct Touch {
    line: usize,
    table: String,
}

/// Looks through all `.rs` and `.sql` files of a folder, but for the folders `except` (paths inside it), hidden ones and `target`.
///
/// A name that a program puts together as it runs is not found here: the database's own statistics show its statement.
///
/// # Errors
/// What can't be read, and bounds: 200,000 entries, 4 MiB a file.
pub(crate) fn verify(folder: &Path, except: &[PathBuf], schema: &str) -> anyhow::Result<Outcome> {
    for excepted in except {
        let path = folder.join(excepted);
        ensure!(path.is_dir(), "--except {}: there is no folder {}", excepted.display(), path.display());
    }
    let files = sources(folder, except)?;
    if files.is_empty() {
        let text =
            format!("refused: no .rs or .sql file is in {}: nothing was looked at\n", folder.display());
        return Ok(Outcome { text, refused: true });
    }
    let mut found = Vec::new();
    for file in &files {
        let shown = file.strip_prefix(folder).unwrap_or(file).display();
        for Touch { line, table } in touches(&read(file)?, is_sql_file(file), schema) {
            found.push(format!("{shown}:{line}: {schema}.{table}\n"));
        }
    }
    let sum = format!("{} touches of schema {schema} in {} files\n", found.len(), files.len());
    Ok(Outcome { refused: !found.is_empty(), text: found.concat() + &sum })
}

/// A schema's name as an argument.
pub(crate) fn schema(text: &str) -> Result<String, String> {
    let letters = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    if (1..=63).contains(&text.len()) && text.chars().all(letters) {
        return Ok(text.to_owned());
    }
    Err("a schema is named by 1 to 63 of a-z, 0-9 and _".to_owned())
}

/// The files, in order.
fn sources(folder: &Path, except: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let (mut folders, mut files, mut entries) = (vec![folder.to_owned()], Vec::new(), 0);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let entry = entry.with_context(|| next.display().to_string())?;
            entries += 1;
            if entries > ENTRIES_MAX {
                bail!("{} has more than {ENTRIES_MAX} files: look at its parts", folder.display());
            }
            let (path, name) = (entry.path(), entry.file_name());
            // A link is not followed: what it leads to is looked at where it is, or is not of this program.
            let kind = entry.file_type().with_context(|| path.display().to_string())?;
            let left_out = name.to_string_lossy().starts_with('.')
                || name == "target"
                || except.iter().any(|excepted| folder.join(excepted) == path);
            if kind.is_dir() && !left_out {
                folders.push(path);
            } else if kind.is_file() && (is_sql_file(&path) || path.extension().is_some_and(|it| it == "rs"))
            {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn is_sql_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "sql")
}

fn read(path: &Path) -> anyhow::Result<String> {
    let named = || path.display().to_string();
    let bytes = fs::metadata(path).with_context(named)?.len();
    ensure!(bytes <= BYTES_MAX, "{}: {bytes} bytes are more than {BYTES_MAX}", named());
    fs::read_to_string(path).with_context(named)
}

fn touches(source: &str, is_sql: bool, schema: &str) -> Vec<Touch> {
    let texts = if is_sql { texts::of_sql(source) } else { texts::of_rust(source) };
    let asked = texts.into_iter().filter(|text| is_sql || has_sql(&text.body));
    asked.flat_map(|text| named(&text, schema)).collect()
}

fn has_sql(text: &str) -> bool {
    let mut words = text.split(|letter: char| !is_word(letter));
    words.any(|word| SQL.iter().any(|sql| word.eq_ignore_ascii_case(sql)))
}

/// Where a text says `schema.name`, with or without quotes.
fn named(text: &Text, schema: &str) -> Vec<Touch> {
    let body = text.body.to_lowercase();
    let places = body.match_indices(schema).filter_map(|(at, _)| {
        let (before, rest) = (body.get(..at)?, body.get(at + schema.len()..)?);
        let joined = |letter: char| is_word(letter) || letter == '.' || letter == '$';
        if before.chars().next_back().is_some_and(joined) {
            return None;
        }
        let rest = rest.strip_prefix('"').unwrap_or(rest).trim_start().strip_prefix('.')?.trim_start();
        let rest = rest.strip_prefix('"').unwrap_or(rest);
        let table: String = rest.chars().take_while(|letter| is_word(*letter)).collect();
        let first = table.chars().next()?;
        let line = text.line + before.matches('\n').count();
        (!first.is_ascii_digit() && table != BOOKKEEPING).then_some(Touch { line, table })
    });
    places.collect()
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

#[cfg(test)]
mod tests {
    use super::{Touch, schema, touches};

    fn found(source: &str, is_sql: bool) -> Vec<String> {
        let touches = touches(source, is_sql, "payments");
        touches.into_iter().map(|Touch { line, table }| format!("{line} {table}")).collect()
    }

    #[test]
    fn sql_in_a_program_is_found_with_its_line() {
        let source = r##"
            let one = "select 1 from payments.payment";
            let two = "update
                           \"payments\" . \"intent\" set x = 1";
            let raw = r#"delete from "payments".settled"#;
            let quote = '"'; let three = b"insert into PAYMENTS.audit";
        "##;
        assert_eq!(found(source, false), ["2 payment", "4 intent", "5 settled", "6 audit"]);
    }

    #[test]
    fn what_only_looks_like_it_is_left_alone() {
        let source = r#"
            // select 1 from payments.payment
            /* a /* nested */ update payments.payment */
            self.payments.find(id); payments.list("from a to b");
            let service = "payments.v1.Payments";
            let other = "select 1 from my_payments.payment, orders.payments, app.payments.x";
            let kept = "select 1 from payments._migrations";
            fn f<'a>(x: &'a str) {}
        "#;
        assert_eq!(found(source, false), [""; 0]);
    }

    #[test]
    fn a_script_is_looked_at_but_for_its_comments() {
        let source = "-- payments.a\ncreate view v as /* payments.b */ select '--', x from payments.c;\n\
                      do $$ begin perform payments.d(); end $$;";
        assert_eq!(found(source, true), ["2 c", "3 d"]);
    }

    #[test]
    fn only_a_plain_name_is_a_schema() {
        assert_eq!(schema("payments").unwrap(), "payments");
        for bad in ["", "Payments", "pay.ments", "a b"] {
            assert!(schema(bad).is_err(), "{bad:?}");
        }
    }
}
