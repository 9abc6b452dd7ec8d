//! Texts as the detector reads them: other scripts' digits, typesetters' spaces and JSON's escapes are what they stand for.

use std::borrow::Cow;
use std::ops::Range;

/// The zeros of all decimal digits but ASCII's (general category Nd of Unicode 16), in order: nine more digits follow each.
#[rustfmt::skip]
pub(super) const ZEROS: [char; 75] = [
    '\u{660}', '\u{6f0}', '\u{7c0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{b66}', '\u{be6}',
    '\u{c66}', '\u{ce6}', '\u{d66}', '\u{de6}', '\u{e50}', '\u{ed0}', '\u{f20}', '\u{1040}', '\u{1090}',
    '\u{17e0}', '\u{1810}', '\u{1946}', '\u{19d0}', '\u{1a80}', '\u{1a90}', '\u{1b50}', '\u{1bb0}',
    '\u{1c40}', '\u{1c50}', '\u{a620}', '\u{a8d0}', '\u{a900}', '\u{a9d0}', '\u{a9f0}', '\u{aa50}',
    '\u{abf0}', '\u{ff10}', '\u{104a0}', '\u{10d30}', '\u{10d40}', '\u{11066}', '\u{110f0}', '\u{11136}',
    '\u{111d0}', '\u{112f0}', '\u{11450}', '\u{114d0}', '\u{11650}', '\u{116c0}', '\u{116d0}', '\u{116da}',
    '\u{11730}', '\u{118e0}', '\u{11950}', '\u{11bf0}', '\u{11c50}', '\u{11d50}', '\u{11da0}', '\u{11f50}',
    '\u{16130}', '\u{16a60}', '\u{16ac0}', '\u{16b50}', '\u{16d70}', '\u{1ccf0}', '\u{1d7ce}', '\u{1d7d8}',
    '\u{1d7e2}', '\u{1d7ec}', '\u{1d7f6}', '\u{1e140}', '\u{1e2f0}', '\u{1e4f0}', '\u{1e5f1}', '\u{1e950}',
    '\u{1fbf0}',
];

/// A text with one ASCII byte for each character.
pub(super) struct Folded<'a> {
    text: &'a str,
    bytes: Vec<u8>,
    /// Where each of them begins in the text.
    places: Vec<usize>,
}

impl<'a> Folded<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let seen = text.char_indices().filter_map(|(place, char)| Some((place, folded(char)?)));
        let (places, bytes) = seen.unzip();
        Self { text, bytes, places }
    }

    /// The same of a text that may have been written by `Debug` or as JSON: an escape is read as what it stands for.
    pub(super) fn of_escaped(text: &'a str) -> Self {
        let (mut places, mut bytes, mut rest) = (Vec::new(), Vec::new(), text);
        while let Some(char) = rest.chars().next() {
            let (char, length) = escape(rest).unwrap_or_else(|| (char, char.len_utf8()));
            if let Some(byte) = folded(char) {
                places.push(text.len() - rest.len());
                bytes.push(byte);
            }
            rest = &rest[length..];
        }
        Self { text, bytes, places }
    }

    pub(super) fn first(&self, from: usize) -> Option<Range<usize>> {
        super::first(&self.bytes, from)
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn bytes(&self, of: Range<usize>) -> &[u8] {
        &self.bytes[of]
    }

    /// The part of the text that these bytes stand for.
    pub(super) fn original(&self, of: Range<usize>) -> &'a str {
        let place = |at: usize| self.places.get(at).copied().unwrap_or(self.text.len());
        &self.text[place(of.start)..place(of.end)]
    }
}

/// `None`: it takes no room. A letter of another script ends a word: some are written without spaces.
fn folded(char: char) -> Option<u8> {
    match char {
        char if char.is_ascii() => u8::try_from(char).ok(),
        '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' => None,
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{3000}' => Some(b' '),
        '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{ff0d}' => Some(b'-'),
        _ => Some(decimal(char).map_or(0, |digit| b'0' + digit)),
    }
}

/// What a digit of any script but ASCII's stands for.
fn decimal(char: char) -> Option<u8> {
    let zero = ZEROS[..ZEROS.partition_point(|zero| *zero <= char)].last()?;
    u8::try_from(u32::from(char) - u32::from(*zero)).ok().filter(|digit| *digit < 10)
}

/// What an escape stands for that a text begins with, and its length. What was escaped twice has more backslashes: all of them
/// belong to it, and without a name of an escape after them they are one backslash.
fn escape(text: &str) -> Option<(char, usize)> {
    let name = text.strip_prefix('\\')?.trim_start_matches('\\');
    let slashes = text.len() - name.len();
    Some(named(name).map_or(('\\', slashes), |(char, length)| (char, slashes + length)))
}

/// What stands after the backslash, in Rust's and in JSON's way: `n`, `x1b`, `u{a0}`, `u00a0`.
fn named(name: &str) -> Option<(char, usize)> {
    let (code, length) = match name.as_bytes() {
        [b'n' | b'r' | b't' | b'b' | b'f' | b'0' | b'"' | b'\'', ..] => return Some(('\n', 1)),
        [b'x', ..] => (name.get(1..3)?, 3),
        [b'u', b'{', ..] => {
            let end = name.bytes().take("u{10ffff}".len()).position(|byte| byte == b'}')?;
            (name.get(2..end)?, end + 1)
        }
        [b'u', ..] => (name.get(1..5)?, 5),
        _ => return None,
    };
    let code = u32::from_str_radix(code, 16).ok()?;
    Some((char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), length))
}

/// JSON with its escapes (`\u0034`, `\n`) replaced, wherever they stand: broken JSON is read too.
pub(crate) fn unescaped(json: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = json.iter().position(|byte| *byte == b'\\') else { return Cow::Borrowed(json) };
    let mut plain = json[..first].to_vec();
    let mut rest = &json[first..];
    while let [byte, tail @ ..] = rest {
        rest = match (byte, tail) {
            (b'\\', [b'u', hex @ ..]) => {
                let code = hex.get(..4).and_then(|hex| std::str::from_utf8(hex).ok());
                let code = code.and_then(|hex| u32::from_str_radix(hex, 16).ok());
                let char = code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
                plain.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                hex.get(if code.is_some() { 4.. } else { 0.. }).unwrap_or_default()
            }
            // What the others stand for is never a digit or a space.
            (b'\\', [_, tail @ ..]) => {
                plain.push(b'\\');
                tail
            }
            _ => {
                plain.push(*byte);
                tail
            }
        };
    }
    Cow::Owned(plain)
}
