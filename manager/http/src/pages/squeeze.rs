//! Pages go compressed (RFC 9110 section 8.4): one with a thousand tiles is fetched again with every change, also by a phone.
//! Only whole pages: what goes on without end would wait in the compressor.

use std::io::Write;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::problem::Problem;

/// Below this it is not worth it.
const SMALL: usize = 4096;

/// Whether the client takes gzip.
pub fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|one| {
        let (name, weight) = one.split_once(';').unwrap_or((one, ""));
        name.trim() == "gzip" && !matches!(weight.trim(), "q=0" | "q=0.0")
    })
}

/// The answer in gzip, if it is a page that is worth it.
pub async fn squeeze(answer: Response) -> Response {
    let is_page =
        answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if !is_page || answer.headers().contains_key(header::CONTENT_ENCODING) {
        return answer;
    }
    let (mut head, body) = answer.into_parts();
    let text = match to_bytes(body, usize::MAX).await {
        Ok(text) => text,
        Err(error) => {
            tracing::warn!(%error, "a page ends before its end");
            return Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "this page cannot be shown")
                .into_response();
        }
    };
    if text.len() < SMALL {
        return Response::from_parts(head, Body::from(text));
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
    let written = encoder.write_all(&text).and_then(|()| encoder.finish());
    let Ok(squeezed) = written else { return Response::from_parts(head, Body::from(text)) };
    head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    head.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(head, Body::from(squeezed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(value: &'static str) -> bool {
        is_wanted(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]))
    }

    #[test]
    fn only_who_takes_gzip_gets_it() {
        assert!(accepts("gzip, deflate, br") && accepts("br;q=1.0, gzip;q=0.8"));
        assert!(!accepts("br") && !accepts("gzip;q=0") && !accepts(""));
        assert!(!is_wanted(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn only_pages_that_are_worth_it_are_squeezed() {
        let long = "<p>tile</p>".repeat(1000);
        let squeezed = squeeze(axum::response::Html(long.clone()).into_response()).await;
        assert_eq!(squeezed.headers()[header::CONTENT_ENCODING], "gzip");
        let bytes = to_bytes(squeezed.into_body(), usize::MAX).await.expect("a body");
        assert!(bytes.len() < long.len() / 10, "{}", bytes.len());
        for plain in [axum::response::Html("short".to_owned()).into_response(), long.into_response()] {
            assert!(!squeeze(plain).await.headers().contains_key(header::CONTENT_ENCODING));
        }
    }
}
