//! Asking for streams without a connection, and reading server-sent events.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, Request, StatusCode, header};
use berth_proto::state::ApiRole;
use bytes::Bytes;
use serde_json::Value;
use tokio_stream::StreamExt;
use tower::ServiceExt;

use crate::support::{PATIENCE, Server};

/// One event.
#[derive(Debug, Clone)]
pub struct Event {
    pub name: String,
    pub id: Option<u64>,
    pub data: Value,
}

/// Events as they come.
pub struct Events {
    pub headers: HeaderMap,
    body: BodyDataStream,
    text: String,
}

/// Status, headers and body of a GET by somebody with that token, as the router gives them: nothing is read ahead.
pub async fn ask(server: &Server, path: &str, token: &str, last: Option<u64>) -> (StatusCode, HeaderMap, Body) {
    let mut request = Request::get(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
    if let Some(last) = last {
        request = request.header("last-event-id", last.to_string());
    }
    let answer = berth_http::router(server.site.clone()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    (answer.status(), answer.headers().clone(), answer.into_body())
}

impl Events {
    pub async fn open(server: &Server, path: &str) -> Self {
        Self::open_after(server, path, None).await
    }

    pub async fn open_after(server: &Server, path: &str, last: Option<u64>) -> Self {
        let token = server.token(ApiRole::Viewer).await;
        Self::open_with(server, path, &token, last).await
    }

    pub async fn open_with(server: &Server, path: &str, token: &str, last: Option<u64>) -> Self {
        let (status, headers, body) = ask(server, path, token, last).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        Self { headers, body: body.into_data_stream(), text: String::new() }
    }

    /// The next piece as it was sent; `None` at the end.
    pub async fn frame(&mut self) -> Option<Bytes> {
        let next = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("an event, or the end");
        next.map(Result::unwrap)
    }

    /// The next event; `None` at the end.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (read(event), rest.to_owned());
                self.text = rest;
                match event {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            let frame = self.frame().await?;
            self.text.push_str(std::str::from_utf8(&frame).unwrap());
        }
    }

    /// The next event of that name; others are passed over.
    pub async fn named(&mut self, name: &str) -> Event {
        loop {
            let event = self.next().await.expect("the stream goes on");
            if event.name == name {
                return event;
            }
        }
    }

    /// Returns once the stream has ended.
    pub async fn end(mut self) {
        let end = async { while self.next().await.is_some() {} };
        tokio::time::timeout(PATIENCE + Duration::from_secs(1), end).await.expect("the stream ends");
    }
}

/// `None` for what only says how long to wait before asking again.
fn read(text: &str) -> Option<Event> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = field("data")?;
    Some(Event {
        name: field("event").unwrap().to_owned(),
        id: field("id").map(|id| id.parse().unwrap()),
        data: serde_json::from_str(data).unwrap(),
    })
}

/// The changes of an event: action, kind, id.
pub fn changes(event: &Event) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = event.data["changes"].as_array().unwrap().iter();
    all.map(|change| (text(&change["action"]), text(&change["kind"]), text(&change["id"]))).collect()
}
