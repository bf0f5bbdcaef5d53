//! An OCI distribution client for pulling: authentication, manifests, blobs by range.
//!
//! `oci-client` was read and left out: a failing token endpoint is taken for anonymous access, so that
//! a wrong password reads as "unauthorized" of another request; `Retry-After` and identity tokens are
//! not there; it needs a process-wide TLS provider and panics without CA certificates even for a
//! registry on loopback. `reqwest`, which it stands on, is kept.

pub(crate) mod challenge;
pub mod credentials;
pub(crate) mod endpoint;
pub mod error;
pub(crate) mod http;
pub(crate) mod retry;
pub(crate) mod session;
