//! A conversation with one registry about one repository: finds the protocol, logs in when asked, and
//! asks again with a new token when the old one has run out. Every error names what was asked for.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{Stream, StreamExt, TryStreamExt};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::challenge::{self, Challenge};
use super::credentials::RegistryAuth;
use super::endpoint::Endpoint;
use super::error::RegistryError;
use crate::digest::Digest;
use crate::spec::manifest;

/// Longest error text or token that is read.
const MAX_ANSWER: usize = 64 * 1024;
/// Who we are, to token servers.
const CLIENT_ID: &str = "berth";

/// A manifest or index as the registry gave it.
pub(crate) struct RawManifest {
    pub bytes: Vec<u8>,
    pub digest: Digest,
    pub media_type: String,
}

pub(crate) struct Session {
    client: Client,
    endpoint: Endpoint,
    /// `http://host` or `https://host`.
    base: String,
    repository: String,
    auth: RegistryAuth,
    /// The `Authorization` to send, and how often it was renewed.
    token: Mutex<(u64, Option<String>)>,
}

impl Session {
    /// Finds out how the registry speaks. Does not log in yet.
    pub(crate) async fn connect(
        client: Client,
        endpoint: Endpoint,
        repository: &str,
        auth: RegistryAuth,
    ) -> Result<Session, RegistryError> {
        let schemes: &[&str] = if endpoint.insecure { &["https", "http"] } else { &["https"] };
        let mut first_error = None;
        for scheme in schemes {
            let base = format!("{scheme}://{}", endpoint.host);
            match client.get(format!("{base}/v2/")).send().await {
                Ok(_) => {
                    let repository = repository.to_string();
                    return Ok(Session { client, endpoint, base, repository, auth, token: Mutex::default() });
                }
                Err(error) => {
                    let error = transport(&endpoint.host, "the registry", &error);
                    // Of two failures the first says more, unless it only says that it is not TLS.
                    first_error = Some(match first_error {
                        Some(first @ RegistryError::Unreachable { .. }) => first,
                        _ => error,
                    });
                }
            }
        }
        Err(first_error.expect("at least one protocol was tried"))
    }

    /// `host[:port]`.
    pub(crate) fn host(&self) -> &str {
        &self.endpoint.host
    }

    /// Fetches a manifest or index by tag or digest. Its digest is computed, not believed.
    pub(crate) async fn manifest(&self, reference: &str, limit: u64) -> Result<RawManifest, RegistryError> {
        let what = format!("{}:{reference}", self.repository);
        let path = format!("/v2/{}/manifests/{reference}", self.repository);
        let accept = manifest::ACCEPT.join(", ");
        let response = self.get(&path, &what, &[(ACCEPT.as_str(), accept)]).await?;
        let media_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(|value| value.split(';').next().unwrap_or(value).trim().to_string())
            .unwrap_or_default();
        let bytes = self.read_limited(response, &what, usize::try_from(limit).unwrap_or(usize::MAX)).await?;
        Ok(RawManifest { digest: Digest::of(&bytes), bytes, media_type })
    }

    /// Begins to fetch a blob from `offset`. Says where the answer really begins: at `offset`, or at 0
    /// when the registry knows no ranges.
    pub(crate) async fn blob(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> Result<(u64, impl Stream<Item = Result<bytes::Bytes, RegistryError>> + Unpin + use<>), RegistryError> {
        let what = digest.to_string();
        let path = format!("/v2/{}/blobs/{digest}", self.repository);
        let range = (RANGE.as_str(), format!("bytes={offset}-"));
        let headers: &[_] = if offset > 0 { &[range] } else { &[] };
        let response = match self.get(&path, &what, headers).await {
            // Nothing there any more to ask for: begin again.
            Err(RegistryError::Status { status: 416, .. }) => self.get(&path, &what, &[]).await?,
            other => other?,
        };
        let start = match response.status() {
            StatusCode::PARTIAL_CONTENT => range_start(&response).ok_or_else(|| RegistryError::Protocol {
                what: what.clone(),
                registry: self.endpoint.host.clone(),
                reason: "a partial answer without a range".to_string(),
            })?,
            _ => 0,
        };
        let host = self.endpoint.host.clone();
        let stream = response.bytes_stream().map_err(move |error| transport(&host, &what, &error));
        Ok((start, stream.boxed()))
    }

    /// GET with login: on 401 logs in and asks once more.
    async fn get(&self, path: &str, what: &str, headers: &[(&str, String)]) -> Result<Response, RegistryError> {
        let (generation, token) = self.token.lock().await.clone();
        let response = self.send(path, what, headers, token).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.check(response, what).await;
        }
        let token = self.log_in(&response, what, generation).await?;
        let response = self.send(path, what, headers, Some(token)).await?;
        self.check(response, what).await
    }

    async fn send(
        &self,
        path: &str,
        what: &str,
        headers: &[(&str, String)],
        token: Option<String>,
    ) -> Result<Response, RegistryError> {
        let mut request = self.client.get(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
        request.send().await.map_err(|error| transport(&self.endpoint.host, what, &error))
    }

    /// Gets what the registry wants to see. Requests that failed together log in once.
    async fn log_in(&self, refusal: &Response, what: &str, generation: u64) -> Result<String, RegistryError> {
        let mut token = self.token.lock().await;
        if token.0 != generation
            && let Some(fresh) = &token.1
        {
            return Ok(fresh.clone());
        }
        let challenges: Vec<Challenge> = refusal
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        let fresh = self.answer(&challenges, what).await?;
        *token = (generation + 1, Some(fresh.clone()));
        Ok(fresh)
    }

    async fn answer(&self, challenges: &[Challenge], what: &str) -> Result<String, RegistryError> {
        if let RegistryAuth::Bearer(token) = &self.auth {
            return Ok(format!("Bearer {token}"));
        }
        for challenge in challenges {
            match (challenge, &self.auth) {
                (Challenge::Bearer { realm, service, scope }, _) => {
                    return self.bearer(realm, service.as_deref(), scope.as_deref(), what).await;
                }
                (Challenge::Basic, RegistryAuth::Basic { username, password }) => {
                    return Ok(basic(username, password));
                }
                (Challenge::Basic, _) => {}
            }
        }
        Err(self.unauthorized(what, ""))
    }

    async fn bearer(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
        what: &str,
    ) -> Result<String, RegistryError> {
        let default_scope = format!("repository:{}:pull", self.repository);
        let mut fields = vec![("scope", scope.unwrap_or(&default_scope)), ("client_id", CLIENT_ID)];
        fields.extend(service.map(|service| ("service", service)));
        if self.base.starts_with("https:") && !realm.starts_with("https:") && !self.auth.is_anonymous() {
            return Err(self.protocol(what, format!("it wants credentials sent in clear to {realm}")));
        }
        let request = match &self.auth {
            RegistryAuth::IdentityToken(refresh) => {
                fields.extend([("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())]);
                let body = form(&fields);
                self.client.post(realm).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
            }
            RegistryAuth::Basic { username, password } => {
                fields.push(("account", username.as_str()));
                self.client.get(with_query(realm, &fields)).header(AUTHORIZATION, basic(username, password))
            }
            _ => self.client.get(with_query(realm, &fields)),
        };
        let response = request.send().await.map_err(|error| transport(realm, what, &error))?;
        if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST) {
            let message = self.message(response).await;
            return Err(self.unauthorized(what, &message));
        }
        let response = self.check(response, what).await?;
        let body = self.read_limited(response, what, MAX_ANSWER).await?;
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let parsed: Token = serde_json::from_slice(&body)
            .map_err(|error| self.protocol(what, format!("the token does not parse: {error}")))?;
        match parsed.token.or(parsed.access_token).filter(|token| !token.is_empty()) {
            Some(token) => Ok(format!("Bearer {token}")),
            None => Err(self.protocol(what, "the token is missing".to_string())),
        }
    }

    /// Success passes; everything else becomes an error with the registry's own words.
    async fn check(&self, response: Response, what: &str) -> Result<Response, RegistryError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.trim().parse().ok())
            .map(Duration::from_secs);
        let message = self.message(response).await;
        let (what, registry) = (what.to_string(), self.endpoint.host.clone());
        Err(match status {
            StatusCode::NOT_FOUND => RegistryError::NotFound { what, registry, message },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.unauthorized(&what, &message),
            StatusCode::TOO_MANY_REQUESTS => RegistryError::RateLimited { registry, retry_after, message },
            status => RegistryError::Status { what, registry, status: status.as_u16(), retry_after, message },
        })
    }

    /// The words of an error document (distribution-spec "Error Codes"), or nothing.
    async fn message(&self, response: Response) -> String {
        #[derive(Deserialize)]
        struct Errors {
            #[serde(default)]
            errors: Vec<ErrorEntry>,
            #[serde(default)]
            details: String,
        }
        #[derive(Deserialize)]
        struct ErrorEntry {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
        }
        let body = self.read_limited(response, "", MAX_ANSWER).await.unwrap_or_default();
        let Ok(parsed) = serde_json::from_slice::<Errors>(&body) else {
            return String::new();
        };
        let texts = parsed.errors.iter().map(|entry| {
            let text = if entry.message.is_empty() { &entry.code } else { &entry.message };
            text.clone()
        });
        let mut texts: Vec<String> = texts.collect();
        if !parsed.details.is_empty() {
            texts.push(parsed.details);
        }
        texts.join("; ").chars().filter(|c| !c.is_control()).take(300).collect()
    }

    async fn read_limited(&self, response: Response, what: &str, limit: usize) -> Result<Vec<u8>, RegistryError> {
        let mut out = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| transport(&self.endpoint.host, what, &error))?;
            if out.len() + chunk.len() > limit {
                return Err(self.protocol(what, format!("it is longer than {limit} bytes")));
            }
            out.extend_from_slice(&chunk);
        }
        Ok(out)
    }

    fn unauthorized(&self, what: &str, message: &str) -> RegistryError {
        RegistryError::Unauthorized {
            what: what.to_string(),
            registry: self.endpoint.host.clone(),
            anonymous: self.auth.is_anonymous(),
            message: message.to_string(),
        }
    }

    fn protocol(&self, what: &str, reason: String) -> RegistryError {
        RegistryError::Protocol { what: what.to_string(), registry: self.endpoint.host.clone(), reason }
    }
}

fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

/// `application/x-www-form-urlencoded`.
fn form(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| -> String {
        text.bytes()
            .map(|b| match b {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
                other => format!("%{other:02X}"),
            })
            .collect()
    };
    let pairs: Vec<String> = fields.iter().map(|(key, value)| format!("{key}={}", encode(value))).collect();
    pairs.join("&")
}

fn with_query(url: &str, fields: &[(&str, &str)]) -> String {
    let joint = if url.contains('?') { '&' } else { '?' };
    format!("{url}{joint}{}", form(fields))
}

/// `bytes 100-199/200` begins at 100.
fn range_start(response: &Response) -> Option<u64> {
    let value = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    value.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// Sorts the HTTP library's errors by what a person can do about them.
fn transport(host: &str, what: &str, error: &reqwest::Error) -> RegistryError {
    let registry = host.to_string();
    let reason = innermost(error);
    if is_tls(error) {
        return RegistryError::Tls { registry, reason };
    }
    if error.is_connect() {
        return RegistryError::Unreachable { registry, reason };
    }
    let reason = if error.is_timeout() { "no data came for too long".to_string() } else { reason };
    RegistryError::Broken { what: what.to_string(), registry, reason }
}

/// The last error of the chain: the one that says something.
fn innermost(error: &reqwest::Error) -> String {
    let mut current: &dyn std::error::Error = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current.to_string()
}

/// The TLS library's errors come wrapped, some in several layers of `io::Error`.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    if error.is::<rustls::Error>() {
        return true;
    }
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    inner.is_some_and(|inner| is_tls(inner)) || error.source().is_some_and(is_tls)
}
