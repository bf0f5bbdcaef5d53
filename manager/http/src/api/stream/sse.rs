//! Server-sent events (WHATWG HTML section 9.2): how one is written, and the answer that they come in.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use serde::Serialize;

/// What a browser waits before it asks again, milliseconds.
const RETRY: &[u8] = b"retry: 1000\n\n";

/// One event. `data` is written as one line of JSON.
pub fn event(name: &str, id: Option<u64>, data: &impl Serialize) -> Bytes {
    let mut text = format!("event: {name}\n").into_bytes();
    if let Some(id) = id {
        text.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    text.extend_from_slice(b"data: ");
    // Line feeds within texts are escaped in JSON, so that none ends the line.
    serde_json::to_writer(&mut text, data).expect("what is shown is JSON");
    text.extend_from_slice(b"\n\n");
    text.into()
}

/// The answer; it ends with `events`. Nothing is read from them ahead of the client.
pub fn response(events: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let first = futures::stream::iter([Bytes::from_static(RETRY)]);
    let body = Body::from_stream(first.chain(events).map(Ok::<_, Infallible>));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        // A proxy that collects what it passes on would hold every event back.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_data_whatever_is_in_it() {
        let text = event("change", Some(7), &serde_json::json!({"a": "x\ny\r\n\n"}));
        assert_eq!(&text[..], b"event: change\nid: 7\ndata: {\"a\":\"x\\ny\\r\\n\\n\"}\n\n");
        assert_eq!(&event("stats", None, &1)[..], b"event: stats\ndata: 1\n\n");
    }
}
