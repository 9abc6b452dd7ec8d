//! The header by which a client says which version of a payment it has seen already.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use chassis::Problem;

/// The header's name.
const AT_LEAST: &str = "x-min-version";

/// The version; 0 when the client says none.
#[derive(Debug, Clone, Copy)]
pub(super) struct AtLeast(pub(super) i64);

impl<S: Send + Sync> FromRequestParts<S> for AtLeast {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let wrong =
            || Problem::malformed("X-Min-Version must be given at most once, as a whole number from 0 on");
        let mut values = parts.headers.get_all(AT_LEAST).iter();
        let Some(value) = values.next() else { return Ok(Self(0)) };
        if values.next().is_some() {
            return Err(wrong());
        }
        let number = value.to_str().ok().and_then(|text| text.parse::<i64>().ok());
        number.filter(|version| *version >= 0).map(Self).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    async fn read(values: &[&str]) -> Option<i64> {
        let mut request = Request::get("/");
        for value in values {
            request = request.header(AT_LEAST, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        AtLeast::from_request_parts(&mut parts, &()).await.ok().map(|AtLeast(version)| version)
    }

    #[tokio::test]
    async fn it_is_a_whole_number_given_at_most_once() {
        assert_eq!((read(&[]).await, read(&["7"]).await), (Some(0), Some(7)));
        for wrong in [&["-1"][..], &["seven"], &[""], &["1", "2"], &["99999999999999999999"]] {
            assert_eq!(read(wrong).await, None, "{wrong:?}");
        }
    }
}
