//! What one pull may turn to: the registry, and other stores, which are looked for when they are first needed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;

use super::peers::{Holders, PeerError, Peers};
use crate::reference::Reference;
use crate::registry::session::Session;

/// The other stores that have what a reference means.
pub(super) struct Nodes {
    peers: Arc<dyn Peers>,
    reference: Reference,
    stall: Duration,
    found: OnceCell<Result<Holders, PeerError>>,
}

impl Nodes {
    pub(super) fn new(peers: Arc<dyn Peers>, reference: Reference, stall: Duration) -> Nodes {
        Nodes { peers, reference, stall, found: OnceCell::new() }
    }

    /// Looks for them, once.
    pub(super) async fn holders(&self) -> Result<&Holders, PeerError> {
        let find = || async {
            let what = || self.reference.familiar();
            let found = tokio::time::timeout(self.stall, self.peers.holders(&self.reference)).await;
            let reason = || "nothing came for too long".to_string();
            match found.unwrap_or_else(|_| Err(PeerError::Unasked { what: what(), reason: reason() }))? {
                none if none.is_empty() => Err(PeerError::Nobody { what: what() }),
                found => Ok(Holders::new(found, self.stall)),
            }
        };
        self.found.get_or_init(find).await.as_ref().map_err(PeerError::clone)
    }
}

/// Where the blobs of one pull come from: other stores first, then the registry.
pub(super) struct Origins {
    registry: Option<Session>,
    nodes: Option<Arc<Nodes>>,
}

impl Origins {
    pub(super) fn new(registry: Option<Session>, nodes: Option<Arc<Nodes>>) -> Origins {
        Origins { registry, nodes }
    }

    pub(super) fn registry(&self) -> Option<&Session> {
        self.registry.as_ref()
    }

    /// `None` when there are none to look for.
    pub(super) async fn holders(&self) -> Result<Option<&Holders>, PeerError> {
        match &self.nodes {
            Some(nodes) => nodes.holders().await.map(Some),
            None => Ok(None),
        }
    }
}
