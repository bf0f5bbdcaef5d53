//! Whether a browser was sent here by another site: cross-site request forgery, and a WebSocket that another page opens. Pure.
//!
//! A browser says where a request comes from, in `Sec-Fetch-Site` (W3C Fetch Metadata) or in `Origin` (RFC 6454); a page cannot
//! make it lie. What says neither is no browser, or one from before both, and is not let in by its cookie.

use axum::http::{HeaderMap, Method, header};

/// Whether the request comes from this site's own pages, as far as headers tell.
pub fn is_own(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("sec-fetch-site") {
        Some("same-origin") => return true,
        // `none` is a person who typed the address.
        Some("none") => return text("origin").is_none(),
        Some(_) => return false,
        None => {}
    }
    let (Some(origin), Some(host)) = (text(header::ORIGIN.as_str()), text(header::HOST.as_str())) else { return false };
    let origin = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host))
}

/// Whether the request says where it comes from, as every browser does that acts.
pub fn is_said(headers: &HeaderMap) -> bool {
    headers.contains_key("sec-fetch-site") || headers.contains_key(header::ORIGIN)
}

/// Whether a request could do something: that is not only read, or opens a connection that talks both ways.
pub fn is_acting(method: &Method, headers: &HeaderMap) -> bool {
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    !reads || headers.contains_key(header::UPGRADE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::headers_of as headers;

    #[test]
    fn only_own_pages_are_own() {
        let host = ("host", "berth:4778");
        for (pairs, own) in [
            (&[host][..], false),
            (&[host, ("sec-fetch-site", "same-origin")], true),
            (&[host, ("sec-fetch-site", "same-site")], false),
            (&[host, ("sec-fetch-site", "cross-site"), ("origin", "http://berth:4778")], false),
            (&[host, ("sec-fetch-site", "none")], true),
            (&[host, ("sec-fetch-site", "none"), ("origin", "http://evil")], false),
            (&[host, ("origin", "http://berth:4778")], true),
            (&[host, ("origin", "https://BERTH:4778")], true),
            (&[host, ("origin", "http://berth:4779")], false),
            (&[host, ("origin", "http://berth:4778.evil")], false),
            (&[host, ("origin", "null")], false),
            (&[("origin", "http://berth:4778")], false),
        ] {
            assert_eq!(is_own(&headers(pairs)), own, "{pairs:?}");
        }
    }

    #[test]
    fn a_connection_that_talks_both_ways_is_no_mere_reading() {
        assert!(!is_acting(&Method::GET, &HeaderMap::new()));
        assert!(is_acting(&Method::GET, &headers(&[("upgrade", "websocket")])));
        assert!(is_acting(&Method::POST, &HeaderMap::new()) && is_acting(&Method::DELETE, &HeaderMap::new()));
    }
}
