//! Who asks, and whether that is allowed. Coming from this machine is no login: every request shows a token or a certificate.
//!
//! | file | what |
//! |---|---|
//! | `caller.rs` | who asks: a token in a header or in the login's cookie, or a client certificate |
//! | `origin.rs` | whether a browser was sent here by another site |
//! | `guard.rs` | the layers: authentication, roles, headers |
//! | `session.rs` | logging in and out |
//! | `trace.rs` | requests that belong to a trace |

mod caller;
mod guard;
mod origin;
mod session;
mod trace;

pub use caller::{Caller, Claim, ClientCertificate, Shown};
pub use guard::{Login, authenticate, headers, not_allowed, not_valid, nothing_here, require, too_many};
pub use session::routes;
pub use trace::trace;

/// Headers for tests.
#[cfg(test)]
fn headers_of(pairs: &[(&'static str, &'static str)]) -> axum::http::HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
}
