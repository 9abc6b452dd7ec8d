//! Card numbers in a protobuf message of any type, known or not.

/// How deep messages are read into each other.
const DEPTH_MAX: u8 = 8;
/// How deep groups may stand in each other; prost refuses more than 100.
const GROUPS_MAX: usize = 100;

/// What a field carries, as far as it matters here.
enum Field<'a> {
    Number(u64),
    /// A text, bytes or a message: nobody can tell which.
    Bytes(&'a [u8]),
    Fixed,
    /// A group begins or ends, by its number: what is in it is read as fields of the message's own.
    Begin(u64),
    End(u64),
}

/// Whether a field of the message, or of one in it, looks like a card number: a text, or a whole number. What is no message is
/// read as text.
pub(super) fn has_card(message: &[u8]) -> bool {
    let (found, whole) = look(message, DEPTH_MAX);
    found || (!whole && super::is_in(message))
}

/// Whether something was found, and whether all of it could be read as a message.
fn look(mut message: &[u8], depth: u8) -> (bool, bool) {
    let (mut found, mut groups) = (false, Vec::new());
    while !message.is_empty() {
        let Some((field, rest)) = field(message) else { return (found, false) };
        match field {
            Field::Number(number) => found = found || super::is_in(number.to_string().as_bytes()),
            Field::Bytes(bytes) => {
                found = found || super::is_in(bytes) || (depth > 0 && look(bytes, depth - 1) == (true, true));
            }
            Field::Fixed => {}
            Field::Begin(group) if groups.len() < GROUPS_MAX => groups.push(group),
            Field::End(group) if groups.pop() == Some(group) => {}
            // Nobody can read this: texts are not to seem to be messages.
            Field::Begin(_) | Field::End(_) => return (found, false),
        }
        message = rest;
    }
    (found, groups.is_empty())
}

/// The first field, and what follows it.
fn field(message: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let (tag, rest) = varint(message)?;
    match tag & 7 {
        0 => varint(rest).map(|(number, rest)| (Field::Number(number), rest)),
        1 => rest.get(8..).map(|rest| (Field::Fixed, rest)),
        2 => {
            let (length, rest) = varint(rest)?;
            let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            Some((Field::Bytes(bytes), rest))
        }
        3 => Some((Field::Begin(tag >> 3), rest)),
        4 => Some((Field::End(tag >> 3), rest)),
        5 => rest.get(4..).map(|rest| (Field::Fixed, rest)),
        _ => None,
    }
}

/// Seven bits a byte, the least significant first; ten bytes at most.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (place, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[place + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_numbers_and_inner_messages_are_read() {
        // A text of 48 bytes: its length, '0', must not seem to be a digit of it.
        let long = [b"\x0a\x304111111111111111".as_slice(), &[b' '; 32]].concat();
        let inner = [b"\x12\x14\x0a\x12x 4111111111111111".as_slice(), b"\x12\x00"].concat();
        for message in
            [b"\x0a\x104111111111111111".as_slice(), &long, &inner, b"\x0a\x104111111111111111\x32\x00"]
        {
            assert!(has_card(message), "{message:?}");
        }
        // 4111111111111111 as a varint, in field 2 and in a message within.
        let number = b"\x10\xc7\xe3\xa3\xab\x8a\xe1\xa6\x07";
        let within = [b"\x0a\x09".as_slice(), number].concat();
        assert_eq!(
            (varint(&number[1..]), has_card(number), has_card(&within)),
            (Some((4_111_111_111_111_111, &[][..])), true, true)
        );
        assert!(!has_card(b"\x0a\x2400000000-4111-4111-8111-111111111111\x10\xe8\x07"));
    }

    #[test]
    fn a_group_hides_nothing() {
        let text = [b"\x22\x304111111111111111".as_slice(), &[b' '; 32]].concat();
        let number = b"\x10\xc7\xe3\xa3\xab\x8a\xe1\xa6\x07".to_vec();
        let filler = b"\x0a\x01x".to_vec();
        for card in [text, number] {
            let group = |inside: &[u8]| [b"\x7b".as_slice(), inside, b"\x7c"].concat();
            assert!(has_card(&[group(b""), card.clone()].concat()), "{card:?} after a group");
            assert!(has_card(&group(&group(&card))), "{card:?} in a group in a group");
            let inner = [group(b""), card].concat();
            let length = u8::try_from(inner.len()).unwrap();
            assert!(has_card(&[&[0x0a, length][..], &inner].concat()), "{inner:?} in a message");
        }
        assert!(!has_card(&[b"\x7b".as_slice(), &filler, b"\x7c", &filler].concat()));
        // A group that never ends, or another one that does, is in no message.
        for text in [b"\x7b".as_slice(), b"\x7b\x74", b"\x7c", &[0x7b; 200]] {
            assert_eq!(look(text, DEPTH_MAX), (false, false), "{text:?}");
        }
    }
}
