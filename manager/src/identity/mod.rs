//! What makes a machine part of the cluster and proves it: the CA, join tokens, certificates, TLS, and who may call what.
//!
//! | module | what it holds |
//! |---|---|
//! | [`token`] | join tokens |
//! | [`certificate`] | what a node's certificate says |
//! | [`request`] | keys, and what a certificate is asked for with |
//! | [`authority`] | the CA: roots, signing, handing over to a new root |
//! | [`node_identity`] | a node's key, certificate and trusted roots, on disk |
//! | [`credentials`] | the identity that this process has now |
//! | [`tls`] | what TLS is configured with |
//! | [`channel`] | connections to other nodes |
//! | [`mod@accept`] | connections from other nodes |
//! | [`access`] | who may call what |
//! | [`service`] | the `Certificates` service: letting machines in, renewing |
//! | [`throttle`] | how many wrong tokens one address may try |
//! | [`join`] | a machine's side of it |
//! | [`keeper`] | the loop that keeps a node's certificate good, of the right role and root |
//! | [`rotation`] | the leader's loop that ends a change of the root |
//!
//! Invariants: nothing of a caller is believed but what its certificate says and the store confirms; private keys and join
//! secrets are never shown; a renewed certificate or a new root ends no connection.

pub mod accept;
pub mod access;
pub mod authority;
pub mod certificate;
pub mod channel;
pub mod credentials;
pub mod join;
pub mod keeper;
pub mod node_identity;
pub mod request;
pub mod rotation;
pub mod service;
pub mod throttle;
pub mod tls;
pub mod token;

pub use accept::{Caller, Connection, Peer, accept};
pub use access::{Access, Standing};
pub use credentials::Credentials;
pub use join::{JoinError, Joined};
pub use keeper::{Keeper, Wanted};
pub use node_identity::Identity;
pub use service::CertificateService;
pub use token::JoinToken;
