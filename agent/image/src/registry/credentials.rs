//! Credentials: what a caller gives with a pull, and Docker's `config.json` as a source of them.
//! Reads no file by itself and runs no credential helper.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// What is shown to a registry that asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum RegistryAuth {
    /// Nothing.
    #[default]
    Anonymous,
    /// User name and password, or access token as password.
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: String,
    },
    /// An OAuth2 refresh token, which is exchanged for an access token (`identitytoken`).
    IdentityToken(String),
    /// A bearer token, shown as it is (`registrytoken`).
    Bearer(String),
}

impl RegistryAuth {
    /// True when there is nothing to show.
    pub fn is_anonymous(&self) -> bool {
        matches!(self, RegistryAuth::Anonymous)
    }
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RegistryAuth::Anonymous => "Anonymous",
            RegistryAuth::Basic { .. } => "Basic(…)",
            RegistryAuth::IdentityToken(_) => "IdentityToken(…)",
            RegistryAuth::Bearer(_) => "Bearer(…)",
        })
    }
}

/// The part of Docker's `config.json` that holds credentials. Parse with [`DockerConfig::parse`].
#[derive(Clone, Default, Deserialize)]
pub struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, AuthEntry>,
    /// Registries whose credentials are in a helper program, which is not run.
    #[serde(default, rename = "credHelpers")]
    pub cred_helpers: BTreeMap<String, String>,
}

#[derive(Clone, Default, Deserialize)]
struct AuthEntry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

/// Why a `config.json` cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DockerConfigError {
    /// Not JSON of the right shape.
    #[error("the docker configuration does not parse: {0}")]
    Json(String),
    /// An `auth` is not base64 of `user:password`.
    #[error("the credentials for {0} in the docker configuration are not base64 of user:password")]
    Auth(String),
}

impl DockerConfig {
    /// Parses the file's content.
    ///
    /// # Errors
    /// When it is not JSON of the right shape.
    pub fn parse(text: &[u8]) -> Result<DockerConfig, DockerConfigError> {
        serde_json::from_slice(text).map_err(|error| DockerConfigError::Json(error.to_string()))
    }

    /// The credentials for a registry (as [`crate::Reference::registry`] gives it), or anonymous.
    ///
    /// # Errors
    /// When its entry is damaged.
    pub fn auth_for(&self, registry: &str) -> Result<RegistryAuth, DockerConfigError> {
        let entry = self.auths.iter().find(|(key, _)| host_of(key) == registry);
        let Some((key, entry)) = entry else {
            return Ok(RegistryAuth::Anonymous);
        };
        if !entry.registrytoken.is_empty() {
            return Ok(RegistryAuth::Bearer(entry.registrytoken.clone()));
        }
        if !entry.identitytoken.is_empty() {
            return Ok(RegistryAuth::IdentityToken(entry.identitytoken.clone()));
        }
        if !entry.auth.is_empty() {
            return decode(&entry.auth).ok_or_else(|| DockerConfigError::Auth(key.clone()));
        }
        if entry.username.is_empty() {
            return Ok(RegistryAuth::Anonymous);
        }
        Ok(RegistryAuth::Basic { username: entry.username.clone(), password: entry.password.clone() })
    }
}

fn decode(auth: &str) -> Option<RegistryAuth> {
    let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    // Docker pads with NUL bytes.
    let password = password.trim_matches('\0').to_string();
    Some(RegistryAuth::Basic { username: username.to_string(), password })
}

/// Keys are hosts or old-style addresses: `https://index.docker.io/v1/` is Docker Hub.
fn host_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    match rest.split('/').next().unwrap_or(rest) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn entries_of_every_kind_are_found() {
        let text = br#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6cGE6c3M="},
            "ghcr.io":{"identitytoken":"id"},"h:5000":{"username":"u","password":"p"},
            "http://t.io/v2":{"registrytoken":"tok"},"bad.io":{"auth":"%%"},"empty.io":{}},
            "credsStore":"desktop","HttpHeaders":{}}"#;
        let config = DockerConfig::parse(text).unwrap();
        let basic = |u: &str, p: &str| RegistryAuth::Basic { username: u.into(), password: p.into() };
        assert_eq!(config.auth_for("docker.io").unwrap(), basic("me", "pa:ss"));
        assert_eq!(config.auth_for("ghcr.io").unwrap(), RegistryAuth::IdentityToken("id".into()));
        assert_eq!(config.auth_for("h:5000").unwrap(), basic("u", "p"));
        assert_eq!(config.auth_for("t.io").unwrap(), RegistryAuth::Bearer("tok".into()));
        assert_eq!(config.auth_for("other.io").unwrap(), RegistryAuth::Anonymous);
        assert_eq!(config.auth_for("empty.io").unwrap(), RegistryAuth::Anonymous);
        assert!(config.auth_for("bad.io").is_err());
        assert!(DockerConfig::parse(b"[").is_err());
        assert!(!format!("{:?}", basic("me", "secret")).contains("secret"));
    }
}
