//! The identity that this process has now, as everything that makes or takes connections sees it. Clones share it: a
//! renewed certificate and changed roots are used by the next connection, and nothing has to be started again.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use rustls::{ClientConfig, ServerConfig};
use tokio::sync::watch;

use super::node_identity::{Identity, IdentityError};
use super::tls::{self, TlsError};

/// The identity of this process, once it has one.
#[derive(Clone)]
pub struct Credentials {
    live: Arc<watch::Sender<Option<Arc<Live>>>>,
}

/// An identity, and what TLS makes of it.
struct Live {
    identity: Arc<Identity>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// Why credentials cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// TLS does not take them.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// They are not whole.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl Credentials {
    /// None yet: every connection is refused until [`Self::install`].
    pub fn empty() -> Self {
        Self { live: Arc::new(watch::Sender::new(None)) }
    }

    /// Those of `identity`.
    ///
    /// # Errors
    /// When TLS does not take it.
    pub fn new(identity: Identity) -> Result<Self, CredentialsError> {
        let credentials = Self::empty();
        credentials.install(identity)?;
        Ok(credentials)
    }

    /// From now on `identity` is used.
    ///
    /// # Errors
    /// When TLS does not take it; the one before is used on.
    pub fn install(&self, identity: Identity) -> Result<(), CredentialsError> {
        let live = Live {
            server: Arc::new(tls::server_config(&identity)?),
            client: Arc::new(tls::client_config(&identity)?),
            identity: Arc::new(identity),
        };
        self.live.send_replace(Some(Arc::new(live)));
        Ok(())
    }

    /// From now on these roots are trusted, the one that signs now first. Returns the identity to save when that changed
    /// anything.
    ///
    /// # Errors
    /// When they are no roots; those before are trusted on.
    pub fn trust(&self, roots: Vec<Bytes>) -> Result<Option<Arc<Identity>>, CredentialsError> {
        let Some(identity) = self.identity().filter(|identity| identity.roots != roots) else { return Ok(None) };
        self.install(Identity::clone(&identity).trusting(roots)?)?;
        Ok(self.identity())
    }

    /// The identity, once there is one.
    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.live.borrow().as_ref().map(|live| Arc::clone(&live.identity))
    }

    /// Waits until there is an identity that `holds`, which may be so already. Cancel-safe.
    pub async fn when(&self, holds: impl Fn(&Identity) -> bool) {
        let mut live = self.live.subscribe();
        // The sender lives as long as `self` does.
        let _ = live.wait_for(|live| live.as_ref().is_some_and(|live| holds(&live.identity))).await;
    }

    pub(super) fn server(&self) -> Result<Arc<ServerConfig>, TlsError> {
        self.live.borrow().as_ref().map(|live| Arc::clone(&live.server)).ok_or(TlsError::NoIdentity)
    }

    pub(super) fn client(&self) -> Result<Arc<ClientConfig>, TlsError> {
        self.live.borrow().as_ref().map(|live| Arc::clone(&live.client)).ok_or(TlsError::NoIdentity)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("node", &self.identity().map(|it| it.node)).finish_non_exhaustive()
    }
}
