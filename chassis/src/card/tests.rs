use std::time::Instant;

use proptest::prelude::*;

use super::*;

/// The test numbers that the schemes and their processors publish.
const CARDS: [&str; 12] = [
    "4111111111111111",
    "4242424242424242",
    "4222222222222",
    "4000000000000000006",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "6011111111111117",
    "30569309025904",
    "3530111333300000",
    "6200000000000005",
    "5018000000000009",
];

fn in_text(text: &str) -> bool {
    is_in(text.as_bytes())
}

/// The digits in groups of these sizes, the last as long as it takes.
fn grouped(digits: &str, sizes: &[usize], between: &str) -> String {
    let (mut groups, mut rest) = (Vec::new(), digits);
    for size in sizes.iter().chain(std::iter::repeat(&sizes[sizes.len() - 1])) {
        let (group, more) = rest.split_at((*size).min(rest.len()));
        groups.push(group);
        rest = more;
        if rest.is_empty() {
            break;
        }
    }
    groups.join(between)
}

/// Digits and the one that makes the check of Luhn pass.
fn with_check(digits: &str) -> String {
    (0..10)
        .map(|check| format!("{digits}{check}"))
        .find(|number| luhn(&number.bytes().map(|it| it - b'0').collect::<Vec<_>>()))
        .unwrap()
}

#[test]
fn every_scheme_is_seen_as_people_write_it() {
    for card in CARDS {
        for between in [" ", "-", "\u{a0}", "\u{2011}"] {
            for sizes in [&[19][..], &[4], &[3], &[6], &[1]] {
                let written = grouped(card, sizes, between);
                let fits = sizes != [6] || card.len() > 12;
                assert_eq!(in_text(&format!("it is {written}, thanks")), fits, "{written}");
            }
        }
    }
    assert!(in_text("3782 822463 10005") && in_text("3056 930902 5904"));
    let wide: String =
        CARDS[0].bytes().map(|it| char::from_u32(0xff10 + u32::from(it - b'0')).unwrap()).collect();
    for around in ["pm_#", "#-refund", "no 17 # 12 27", "(#)", "card=#&", "番号#です", "{\"n\":-#}", "#.0"]
    {
        assert!(in_text(&around.replace('#', CARDS[0])), "{around}");
        assert!(in_text(&around.replace('#', &wide)), "{around}");
    }
}

#[test]
fn what_is_no_card_number_is_let_through() {
    for text in [
        "4111111111111112",
        "411111111111",
        "x4111111111111111",
        "4111111111111111x",
        "41111111111111110000",
        "4111  1111 1111 1111",
        "4111.1111.1111.1111",
        "52.4111111111111111",
        "41111111-11111111",
        "1763877600000",
        "1763877600000000",
        "2026-11-23 05-51-07",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "9223372036854775807",
        "-9223372036854775808",
        "01a2c4b0-4111-7111-8111-111111111111",
        "evt_4111111111111111aB",
    ] {
        assert!(!in_text(text), "{text}");
    }
}

#[test]
fn only_the_number_is_masked() {
    assert_eq!(
        mask("pay 4111-1111-1111-1111 and 378282246310005."),
        "pay ****-****-****-**** and ***************."
    );
    assert_eq!(mask("番号４１１１１１１１１１１１１１１１です"), "番号****************です");
    assert!(matches!(mask("nothing in 1763877600000"), Cow::Borrowed(_)));
    assert!(matches!(mask("müde"), Cow::Borrowed(_)));
    assert_eq!(mask_with(r#"{"n":4111111111111111}"#, '9'), r#"{"n":9999999999999999}"#);
}

#[test]
fn every_scripts_digits_count() {
    assert!(fold::ZEROS.is_sorted());
    for zero in fold::ZEROS {
        let digit = |value: u32| char::from_u32(u32::from(zero) + value).unwrap();
        let card: String = CARDS[0].chars().filter_map(|it| it.to_digit(10)).map(digit).collect();
        assert!(in_text(&format!("it is {card}")), "{card}");
        assert_eq!(mask(&card), "****************", "{card}");
    }
}

#[test]
fn a_mask_sees_through_escapes() {
    let stars = "****************";
    for (before, after) in [
        ("\\n", ""),
        ("\\\\n", "\\\\t"),
        ("\\u0001", "\\r"),
        ("\\u{1b}", ""),
        ("\\x01", ""),
        ("\\0", "\\u{a0}x"),
    ] {
        assert_eq!(mask(&format!("x{before}{}{after}", CARDS[0])), format!("x{before}{stars}{after}"));
    }
    let spaced = grouped(CARDS[0], &[4], "\\u{a0}");
    assert_eq!(mask(&spaced), "**** **** **** ****");
    assert_eq!(mask(&format!("\\\\{} \\u{{", CARDS[0])), format!("\\\\{stars} \\u{{"));
    assert!(matches!(mask("a\\nb \\u{zz} \\u12 \\x \\"), Cow::Borrowed(_)));
}

proptest! {
    #[test]
    fn ids_times_and_amounts_are_no_card_numbers(
        id in any::<u128>(), digits in "[0-9]{8}-[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{12}", second in 1_000_000_000_i64..7_258_118_400, amount in -999_999_999_999_i64..=999_999_999_999,
        words in "[a-z]{1,8}",
    ) {
        let id = format!("{id:032x}");
        let uuid = format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
        // From 2001 to 2200 whole seconds and fractions of them begin with 1, or with 2 to 7 and are too short.
        let times = [second.to_string(), (second.min(1_999_999_999) * 1_000).to_string(), (second.min(1_999_999_999) * 1_000_000).to_string()];
        for text in times.iter().chain([&uuid, &digits, &amount.to_string()]) {
            for around in [format!("\"{text}\""), format!("{words}-{text}"), format!("{words} {text} {words}"), format!("/{text}?{words}")] {
                prop_assert!(!in_text(&around), "{around}");
            }
        }
    }

    #[test]
    fn a_number_that_passes_is_seen_between_anything_and_masked(
        begin in 3000_u32..7000, rest in "[0-9]{9,14}", size in 3_usize..7,
        before in proptest::sample::select(vec!["", " ", "17 ", "=", "\"", "_", "-", ":", "番号", "x "]),
        after in proptest::sample::select(vec!["", " ", " 12 27", ".", ".0", "\"", "_x", "-x", "です"]),
    ) {
        let digits = with_check(&format!("{begin}{rest}"));
        for number in [digits.clone(), grouped(&digits, &[size], "-")] {
            let text = format!("{before}{number}{after}");
            prop_assert!(in_text(&text), "{text:?}");
            prop_assert!(!mask(&text).contains(&number), "{text:?}");
        }
    }

    #[test]
    fn any_bytes_can_be_looked_at(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&bytes);
        prop_assert_eq!(is_in(text.as_bytes()), matches!(mask(&text), Cow::Owned(_)));
        message::has_card(&bytes);
        unescaped(&bytes);
    }
}

/// Prints what looking costs: `cargo test -p chassis --release -- --ignored --nocapture cost`.
#[test]
#[ignore = "measures"]
fn cost_of_looking_at_a_kilobyte() {
    const ROUNDS: u32 = 200_000;
    let line = r#"{"product_id":"3183dff4-0724-56a2-aeed-125f1fdbb279","quantity":2},"#;
    for (what, unit) in
        [("an order", line), ("prose", "the quick brown fox jumps over "), ("digits", "1234 567 89 ")]
    {
        let text = unit.repeat(1_024 / unit.len() + 1);
        let text = &text.as_bytes()[..1_024];
        let began = Instant::now();
        let found = (0..ROUNDS).filter(|_| is_in(std::hint::black_box(text))).count();
        println!("{what}: {} ns per KiB, found {found}", began.elapsed().as_nanos() / u128::from(ROUNDS));
    }
}
