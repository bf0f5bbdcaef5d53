//! Asking the API, and what it answers.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use berth_proto::state::ApiRole;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, ETAG, HeaderMap, IF_MATCH, LOCATION};
use serde_json::{Value, json};

use crate::support::{Server, eventually};

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    /// Null where there is no body.
    pub json: Value,
}

impl Reply {
    pub fn header(&self, name: impl reqwest::header::AsHeaderName) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    pub fn etag(&self) -> String {
        self.header(ETAG).to_owned()
    }

    pub fn location(&self) -> &str {
        self.header(LOCATION)
    }

    /// It is a problem of that status; returns what it says.
    pub fn problem(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{:?}", self.json);
        assert_eq!(self.header(CONTENT_TYPE), "application/problem+json");
        assert_eq!(self.json["status"], status);
        assert!(self.json["title"].is_string());
        self.json["detail"].as_str().unwrap()
    }

    /// Paths of the fields that a problem names.
    pub fn fields(&self) -> Vec<&str> {
        let errors = self.json["errors"].as_array().unwrap_or_else(|| panic!("no fields: {:?}", self.json));
        errors.iter().map(|error| error["path"].as_str().unwrap()).collect()
    }

    /// It went well.
    pub fn ok(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?}", self.json);
        self
    }

    /// A field of each item of a list.
    pub fn items(&self, field: &str) -> Vec<String> {
        let items = self.json["items"].as_array().unwrap_or_else(|| panic!("no list: {:?}", self.json));
        items.iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
    }
}

pub async fn reply(answer: reqwest::Response) -> Reply {
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await.unwrap();
    let json = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(json!(text)) };
    Reply { status, headers, json }
}

/// The API, asked by an admin.
pub struct Asking<'s>(pub &'s Server);

impl Asking<'_> {
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>, tag: Option<&str>) -> Reply {
        let mut request = self.0.ask(method, &format!("/api/v1{path}"), Some(ApiRole::Admin)).await;
        if let Some(body) = body {
            request = request.json(&body);
        }
        if let Some(tag) = tag {
            request = request.header(IF_MATCH, tag);
        }
        reply(request.send().await.unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, None, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Method::POST, path, Some(body), None).await
    }

    /// An action without a body.
    pub async fn act(&self, path: &str) -> Reply {
        self.send(Method::POST, path, None, None).await
    }

    pub async fn put(&self, path: &str, tag: &str, body: Value) -> Reply {
        self.send(Method::PUT, path, Some(body), Some(tag)).await
    }

    /// Replaces what is there, whatever the loops of the manager write to it meanwhile.
    pub async fn replace(&self, path: &str, body: Value) -> Reply {
        eventually("nobody to write at the same moment", async || {
            let tag = self.get(path).await.ok(200).etag();
            let reply = self.put(path, &tag, body.clone()).await;
            if reply.status == 412 { Err(reply) } else { Ok(reply) }
        })
        .await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, None, None).await
    }

    pub async fn apply(&self, query: &str, file: &str) -> Reply {
        let request = self.0.ask(Method::POST, &format!("/api/v1/apply{query}"), Some(ApiRole::Admin)).await;
        let request = request.header(CONTENT_TYPE, "application/yaml").body(file.to_owned());
        reply(request.send().await.unwrap()).await
    }
}

/// A service that one replica of an image is all of.
pub fn service(name: &str) -> Value {
    json!({"name": name, "task": {"container": {"image": "example.org/app:1"}}})
}
