//! Who calls, as the connection has proven it.

use berth_proto::id::NodeId;
use tonic::{Request, Status};

/// The node at the other end, in the extensions of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller(pub NodeId);

/// The node that calls; `None` where the connection proves nothing.
pub fn caller<T>(request: &Request<T>) -> Option<NodeId> {
    request.extensions().get::<Caller>().map(|caller| caller.0)
}

/// The node that calls.
///
/// # Errors
/// When the connection proves nothing.
pub fn known_caller<T>(request: &Request<T>) -> Result<NodeId, Status> {
    caller(request).ok_or_else(|| Status::unauthenticated("the connection does not say which node calls"))
}
