//! The parts of a source file that may hold SQL.

/// A part, and the line where it begins.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) line: usize,
    pub(super) body: String,
}

/// The string literals of a Rust file. Breaks of lines stay, escapes become spaces.
pub(super) fn of_rust(source: &str) -> Vec<Text> {
    let (mut texts, mut rest, mut line, mut before) = (Vec::new(), source, 1, ' ');
    while !rest.is_empty() {
        let (taken, body) = rust_token(rest, before);
        if let Some(body) = body {
            texts.push(Text { line, body });
        }
        let Some((done, after)) = rest.split_at_checked(taken) else { break };
        line += done.matches('\n').count();
        before = done.chars().next_back().unwrap_or(' ');
        rest = after;
    }
    texts
}

/// A script without its comments, as one text. Breaks of lines stay.
pub(super) fn of_sql(source: &str) -> Vec<Text> {
    let (mut body, mut rest, mut in_literal) = (String::with_capacity(source.len()), source, false);
    while let Some(first) = rest.chars().next() {
        let comment = match first {
            '-' if !in_literal && rest.starts_with("--") => Some(rest.find('\n').unwrap_or(rest.len())),
            '/' if !in_literal && rest.starts_with("/*") => Some(block_comment(rest)),
            '\'' => {
                in_literal = !in_literal;
                None
            }
            _ => None,
        };
        let Some((done, after)) = rest.split_at_checked(comment.unwrap_or_else(|| first.len_utf8())) else {
            break;
        };
        match comment {
            Some(_) => body.extend(done.chars().map(|letter| if letter == '\n' { '\n' } else { ' ' })),
            None => body.push_str(done),
        }
        rest = after;
    }
    vec![Text { line: 1, body }]
}

/// The length of what comes next in a Rust file, and its text if it is a string. `before` is the letter before it.
fn rust_token(rest: &str, before: char) -> (usize, Option<String>) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), None);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), None);
    }
    if !super::is_word(before)
        && let Some((taken, body)) = raw(rest)
    {
        return (taken, Some(body.to_owned()));
    }
    match rest.chars().next() {
        Some('"') => {
            let (taken, body) = quoted(rest);
            (taken, Some(body))
        }
        Some('\'') => (character(rest), None),
        Some(other) => (other.len_utf8(), None),
        None => (0, None),
    }
}

/// A comment that may hold others.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth.saturating_sub(1), at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// A raw string, if one begins here: `r".."`, `r#".."#`, `br".."`.
fn raw(text: &str) -> Option<(usize, &str)> {
    let prefixes = ["br", "cr", "r"];
    let hashes_and_rest = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix))?;
    let body_and_rest = hashes_and_rest.trim_start_matches('#');
    let hashes = hashes_and_rest.len() - body_and_rest.len();
    let inner = body_and_rest.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inner.find(&end).unwrap_or(inner.len());
    let taken = text.len() - inner.len() + length + end.len();
    Some((taken.min(text.len()), inner.get(..length)?))
}

fn quoted(text: &str) -> (usize, String) {
    let mut body = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (at + 1, body),
            '\\' => match letters.next() {
                Some((_, kept @ ('"' | '\n'))) => body.push(kept),
                Some(_) => body.push(' '),
                None => {}
            },
            other => body.push(other),
        }
    }
    (text.len(), body)
}

/// A character such as `'"'`; of a lifetime only the mark.
fn character(text: &str) -> usize {
    let mut letters = text.char_indices().skip(1);
    match letters.next() {
        Some((_, '\\')) => {
            letters.next();
            letters.find(|(_, letter)| *letter == '\'').map_or(1, |(at, _)| at + 1)
        }
        Some(_) => match letters.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}
