//! What a registry, or the way to it, refuses.

use std::time::Duration;

use super::retry::Retry;

/// A failed conversation with a registry.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// No such repository, tag or blob.
    #[error("{what} was not found in registry {registry}{}", detail(message))]
    NotFound {
        /// Reference or digest.
        what: String,
        /// Host and port.
        registry: String,
        /// The registry's words, if any.
        message: String,
    },
    /// Credentials are missing, wrong, or not good enough.
    #[error("registry {registry} refuses access to {what}{}{}", if *anonymous { " without credentials: log in, or check the name" } else { ": check user name and password" }, detail(message))]
    Unauthorized {
        /// Reference or digest.
        what: String,
        /// Host and port.
        registry: String,
        /// True when no credentials were given.
        anonymous: bool,
        /// The registry's words, if any.
        message: String,
    },
    /// Too many requests.
    #[error("registry {registry} limits the rate of requests{}", detail(message))]
    RateLimited {
        /// Host and port.
        registry: String,
        /// When to come back.
        retry_after: Option<Duration>,
        /// The registry's words, if any.
        message: String,
    },
    /// Any other status.
    #[error("registry {registry} answered {status} for {what}{}", detail(message))]
    Status {
        /// Reference or digest.
        what: String,
        /// Host and port.
        registry: String,
        /// HTTP status code.
        status: u16,
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
        /// The registry's words, if any.
        message: String,
    },
    /// No connection.
    #[error("cannot reach registry {registry}: {reason}")]
    Unreachable {
        /// Host and port.
        registry: String,
        /// The system's words.
        reason: String,
    },
    /// The TLS handshake failed.
    #[error(
        "no secure connection to registry {registry}: {reason}; if it speaks plain HTTP or has a certificate of its own, name it as an insecure registry or trust its CA"
    )]
    Tls {
        /// Host and port.
        registry: String,
        /// Why.
        reason: String,
    },
    /// The connection broke or stalled in the middle of an answer.
    #[error("the connection to registry {registry} broke while reading {what}: {reason}")]
    Broken {
        /// Reference or digest.
        what: String,
        /// Host and port.
        registry: String,
        /// Why.
        reason: String,
    },
    /// The answer makes no sense.
    #[error("registry {registry} gave a bad answer for {what}: {reason}")]
    Protocol {
        /// Reference or digest.
        what: String,
        /// Host and port.
        registry: String,
        /// Why.
        reason: String,
    },
    /// The HTTP client cannot be set up.
    #[error("cannot set up the registry client: {reason}")]
    Setup {
        /// Why.
        reason: String,
    },
}

fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

impl Retry for RegistryError {
    fn is_transient(&self) -> bool {
        match self {
            RegistryError::RateLimited { .. } | RegistryError::Unreachable { .. } | RegistryError::Broken { .. } => {
                true
            }
            RegistryError::Status { status, .. } => *status >= 500 || *status == 408,
            _ => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            RegistryError::RateLimited { retry_after, .. } | RegistryError::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
