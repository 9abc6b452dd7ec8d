//! TOML as sections, so that an error names the one it is in.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use toml_edit::{DocumentMut, Item, Table};

use crate::Error;

/// A file's sections that were not read yet.
pub(super) type File = Map<String, Value>;

/// The largest file, in bytes.
const BYTES_MAX: usize = 64 * 1024;
/// The field of an instruction that no plan can give.
const DUAL_WRITE: &str = "dual_write";

pub(super) fn wrong(field: impl Into<String>, wrong: impl Into<String>, way_on: impl Into<String>) -> Error {
    Error::Plan { field: field.into(), wrong: wrong.into(), way_on: way_on.into() }
}

pub(super) fn read(text: &str) -> Result<File, Error> {
    if text.len() > BYTES_MAX {
        return Err(wrong("the file", format!("over {BYTES_MAX} bytes"), "a plan is a page: write less"));
    }
    let document: DocumentMut = text
        .parse()
        .map_err(|error: toml_edit::TomlError| wrong("the file", error.to_string(), "write it as TOML"))?;
    Ok(object(document.as_table()))
}

/// Two homes that both write a key can't be kept equal: a crash between the two writes leaves them apart.
pub(super) fn refuse_dual_write(file: &File) -> Result<(), Error> {
    let within = |value: &Value| value.as_object().is_some_and(|section| section.contains_key(DUAL_WRITE));
    if !file.contains_key(DUAL_WRITE) && !file.values().any(within) {
        return Ok(());
    }
    let way_on = "take it out: one home writes a key, and the other follows its events";
    Err(wrong(DUAL_WRITE, "there is no such policy: a request writes at one home only", way_on))
}

pub(super) fn section<T: DeserializeOwned>(file: &mut File, name: &'static str) -> Result<T, Error> {
    let Some(section) = file.remove(name) else {
        return Err(wrong(format!("[{name}]"), "it is missing", "add it, with its fields (docs/plan.md)"));
    };
    let say = |error: serde_json::Error| {
        wrong(format!("[{name}]"), error.to_string(), "write its fields as docs/plan.md shows")
    };
    serde_json::from_value(section).map_err(say)
}

pub(super) fn section_or_default<T: DeserializeOwned + Default>(
    file: &mut File,
    name: &'static str,
) -> Result<T, Error> {
    if file.contains_key(name) { section(file, name) } else { Ok(T::default()) }
}

/// What nobody read is a slip of the pen, and might have been meant.
pub(super) fn refuse_others(file: &File) -> Result<(), Error> {
    match file.keys().next() {
        None => Ok(()),
        Some(name) => {
            let way_on = "take it out, or write it into [migration], [business] or [thresholds]";
            Err(wrong(name, "a plan has no such section or field", way_on))
        }
    }
}

fn object(table: &Table) -> File {
    table.iter().map(|(name, item)| (name.to_owned(), of_item(item))).collect()
}

fn of_item(item: &Item) -> Value {
    match item {
        Item::None => Value::Null,
        Item::Value(value) => of_value(value),
        Item::Table(table) => Value::Object(object(table)),
        Item::ArrayOfTables(tables) => {
            Value::Array(tables.iter().map(|table| Value::Object(object(table))).collect())
        }
    }
}

/// A number that is none becomes null, which no field takes.
fn of_value(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(text) => Value::from(text.value().as_str()),
        toml_edit::Value::Integer(number) => Value::from(*number.value()),
        toml_edit::Value::Float(number) => Value::from(*number.value()),
        toml_edit::Value::Boolean(word) => Value::from(*word.value()),
        toml_edit::Value::Datetime(time) => Value::from(time.value().to_string()),
        toml_edit::Value::Array(values) => Value::Array(values.iter().map(of_value).collect()),
        toml_edit::Value::InlineTable(table) => {
            Value::Object(table.iter().map(|(name, value)| (name.to_owned(), of_value(value))).collect())
        }
    }
}
