//! Card numbers: never taken, never stored, never logged.
//!
//! A number looks like a card's when all of this holds:
//! - It has 13 to 19 digits that pass the check of Luhn (ISO/IEC 7812-1, annex B), and begins as cards do: 3 (14 digits or more),
//!   4, 5, 6, or 2200 to 2204 and 2221 to 2720 (16 or more). So times, in milliseconds or written as `20260131..`, are none.
//! - Its digits stand together, or in the groups that people write: all of one size (1 to 6) but for a shorter last one, or
//!   4-6-5 and 4-6-4; between two groups is one space or hyphen. So UUIDs are none, nor is a key such as `shop-4711-20260131-1`.
//! - It is no part of a longer run of ASCII letters and digits, and not the fraction of a decimal.
//!
//! One in twenty numbers of 13 to 19 digits that begin with 3 to 6 looks like a card. An id that may be one needs a letter.
//! [`server::edge`](crate::server::edge) and [`token::guard`](crate::token::guard) refuse what [`Guard`](grpc::Guard) refuses over
//! gRPC; the log and the spans [`mask`] what slips through.

mod fold;
pub mod grpc;
pub(crate) mod http;
mod message;

use std::borrow::Cow;
use std::ops::Range;

pub(crate) use self::fold::unescaped;

/// The fewest and the most digits of a card number.
const DIGITS: std::ops::RangeInclusive<usize> = 13..=19;
/// The longest group of digits when there are several.
const GROUP_MAX: usize = 6;

/// Whether something in a text looks like a card number. Digits of other scripts count, and so do the spaces and dashes of
/// typesetters.
pub fn is_in(text: &[u8]) -> bool {
    if !text.is_ascii() {
        return fold::Folded::of(&String::from_utf8_lossy(text)).first(0).is_some();
    }
    first(text, 0).is_some()
}

/// The text with a star in the place of each digit of what looks like a card number. It may have been written by `Debug` or as
/// JSON: an escape such as `\n` before a number is no letter of its word.
pub fn mask(text: &str) -> Cow<'_, str> {
    mask_with(text, '*')
}

/// The same with another character.
pub(crate) fn mask_with(text: &str, digit: char) -> Cow<'_, str> {
    if text.is_ascii() && !text.contains('\\') && first(text.as_bytes(), 0).is_none() {
        return Cow::Borrowed(text);
    }
    let folded = fold::Folded::of_escaped(text);
    let (mut masked, mut at) = (String::new(), 0);
    while let Some(found) = folded.first(at) {
        masked.push_str(folded.original(at..found.start));
        masked.extend(folded.bytes(found.clone()).iter().map(|byte| {
            let byte = char::from(*byte);
            if byte.is_ascii_digit() { digit } else { byte }
        }));
        at = found.end;
    }
    if at == 0 {
        return Cow::Borrowed(text);
    }
    masked.push_str(folded.original(at..folded.len()));
    Cow::Owned(masked)
}

/// The first card number that begins at `from` or later, which is no place inside a word.
fn first(text: &[u8], from: usize) -> Option<Range<usize>> {
    // Most texts end here: counting takes a fraction of the time of reading.
    if digits(&text[from..]) < *DIGITS.start() {
        return None;
    }
    let mut at = from;
    while at < text.len() {
        if !text[at].is_ascii_alphanumeric() {
            at += 1;
            continue;
        }
        if text[at].is_ascii_digit()
            && !is_fraction(&text[..at])
            && let Some(end) = number(text, at)
        {
            return Some(at..end);
        }
        at += word(&text[at..]);
    }
    None
}

/// How many there are. Sums of one byte let the compiler look at many bytes at once.
fn digits(text: &[u8]) -> usize {
    let sum = |chunk: &[u8]| chunk.iter().map(|byte| u8::from(byte.is_ascii_digit())).sum::<u8>();
    text.chunks(usize::from(u8::MAX)).map(|chunk| usize::from(sum(chunk))).sum()
}

/// Whether what follows are the digits after a decimal point.
fn is_fraction(before: &[u8]) -> bool {
    matches!(before, [.., digit, b'.'] if digit.is_ascii_digit())
}

/// The length of the run of letters and digits that a text begins with.
fn word(text: &[u8]) -> usize {
    text.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(text.len())
}

/// Where the longest card number ends that begins at `start`, the beginning of a word.
fn number(text: &[u8], start: usize) -> Option<usize> {
    let (mut digits, mut groups) = ([0; *DIGITS.end()], [0; *DIGITS.end()]);
    let (mut seen, mut at, mut found) = (0, start, None);
    for count in 0..groups.len() {
        let group = &text[at..at + word(&text[at..])];
        let fits = (1..=digits.len() - seen).contains(&group.len());
        if !fits || !group.iter().all(u8::is_ascii_digit) {
            break;
        }
        for (digit, byte) in digits[seen..].iter_mut().zip(group) {
            *digit = byte - b'0';
        }
        groups[count] = group.len();
        seen += group.len();
        at += group.len();
        if DIGITS.contains(&seen) && is_written_so(&groups[..=count]) && is_card(&digits[..seen]) {
            found = Some(at);
        }
        if !matches!(text.get(at), Some(b' ' | b'-')) {
            break;
        }
        at += 1;
    }
    found
}

fn is_card(digits: &[u8]) -> bool {
    begins_as_a_card(digits) && luhn(digits)
}

fn is_written_so(groups: &[usize]) -> bool {
    match groups {
        [] => false,
        [_] | [4, 6, 4 | 5] => true,
        [first, middle @ .., last] => {
            *first <= GROUP_MAX && last <= first && middle.iter().all(|group| group == first)
        }
    }
}

fn begins_as_a_card(digits: &[u8]) -> bool {
    let four = digits.iter().take(4).fold(0_u16, |sum, digit| sum * 10 + u16::from(*digit));
    let shortest = match four {
        2200..=2204 | 2221..=2720 => 16,
        3000..=3999 => 14,
        4000..=6999 => *DIGITS.start(),
        _ => return false,
    };
    digits.len() >= shortest
}

/// Every second digit from the right but the last counts double, its own digits added up; the sum ends with 0.
fn luhn(digits: &[u8]) -> bool {
    let value = |(place, digit): (usize, &u8)| match (place % 2, *digit) {
        (0, digit) => u32::from(digit),
        (_, digit @ 0..=4) => u32::from(digit) * 2,
        (_, digit) => u32::from(digit) * 2 - 9,
    };
    digits.iter().rev().enumerate().map(value).sum::<u32>().is_multiple_of(10)
}

#[cfg(test)]
mod tests;
