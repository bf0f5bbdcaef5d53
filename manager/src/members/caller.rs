//! Which node calls, as the connection has proven it.

use std::sync::Arc;

use berth_proto::id::NodeId;
use tonic::{Request, Status};

use crate::identity::Peer;

/// The node that calls; `None` where the connection proves nothing.
pub fn caller<T>(request: &Request<T>) -> Option<NodeId> {
    request.extensions().get::<Arc<Peer>>().map(|peer| peer.node)
}

/// The node that calls.
///
/// # Errors
/// When the connection proves nothing.
pub fn known_caller<T>(request: &Request<T>) -> Result<NodeId, Status> {
    caller(request).ok_or_else(|| Status::unauthenticated("the connection does not say which node calls"))
}
