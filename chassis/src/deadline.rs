//! How long a gRPC client will wait.

use std::time::Duration;

/// The deadline that the client sent in `grpc-timeout`: at most eight digits and a unit (`H`, `M`, `S`,
/// `m`, `u`, `n`), as the gRPC protocol has it. `None` when there is none or it can't be read.
pub fn deadline<T>(request: &tonic::Request<T>) -> Option<Duration> {
    parse(request.metadata().get("grpc-timeout")?.to_str().ok()?)
}

fn parse(text: &str) -> Option<Duration> {
    let (unit_at, unit) = text.char_indices().next_back()?;
    let digits = &text[..unit_at];
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(count * 3_600)),
        'M' => Some(Duration::from_secs(count * 60)),
        'S' => Some(Duration::from_secs(count)),
        'm' => Some(Duration::from_millis(count)),
        'u' => Some(Duration::from_micros(count)),
        'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_as_the_protocol_has_it() {
        let mut request = tonic::Request::new(());
        assert_eq!(deadline(&request), None);
        request.set_timeout(Duration::from_millis(1_500));
        assert_eq!(deadline(&request), Some(Duration::from_millis(1_500)));
        for wrong in ["", "m", "5", "-5S", "123456789S", "5x", "\u{e9}"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
