//! A worker's certificate for HTTP is the one that it has as a node, which the managers renew. It answers to
//! [`ANY_NODE`](berth_manager::identity::certificate::ANY_NODE) and to the node's own name, not to addresses: who reaches a worker
//! by which address is not for the worker to say, and the managers do not know it.

use std::sync::Arc;

use berth_manager::identity::{Credentials, Identity};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Shown, TlsError, certified};

/// The certificate of `credentials` as it changes, until `stop`.
///
/// # Errors
/// When there is none, or TLS does not take it.
pub fn of_node(credentials: Credentials, stop: CancellationToken) -> Result<Shown, TlsError> {
    let mut identity = credentials.identity().ok_or(TlsError::NoIdentity)?;
    let (show, shown) = watch::channel(pair(&identity)?);
    tokio::spawn(async move {
        loop {
            let other = credentials.when(|now| now.chain != identity.chain);
            if stop.run_until_cancelled(other).await.is_none() {
                return;
            }
            let Some(new) = credentials.identity() else { return };
            identity = new;
            match pair(&identity) {
                Ok(pair) => drop(show.send_replace(pair)),
                Err(error) => tracing::error!(%error, "the node's new certificate cannot be used for HTTP"),
            }
        }
    });
    Ok(shown)
}

fn pair(identity: &Identity) -> Result<Arc<CertifiedKey>, rustls::Error> {
    let chain = identity.chain.iter().map(|certificate| CertificateDer::from(certificate.to_vec())).collect();
    certified(chain, PrivatePkcs8KeyDer::from(identity.key.0.to_vec()).into())
}
