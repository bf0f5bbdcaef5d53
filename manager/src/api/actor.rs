//! Who asks: the user at the other end of the unix socket, the node whose certificate it has, or the one that was found out.

use std::sync::Arc;

use tonic::Request;
use tonic::transport::server::UdsConnectInfo;

use crate::identity::Peer;

/// Who asks, where neither a socket nor a certificate says so: put into the extensions of a request by what has found it out,
/// in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor(pub Arc<str>);

/// The name under which is recorded what a request does. `name_of_user` knows the users of this machine; one that it does not
/// know is `uid 1000` (`SO_PEERCRED`, unix(7)).
pub fn of<T>(request: &Request<T>, name_of_user: fn(u32) -> Option<String>) -> String {
    if let Some(Actor(actor)) = request.extensions().get::<Actor>() {
        return actor.to_string();
    }
    if let Some(peer) = request.extensions().get::<Arc<Peer>>() {
        return format!("node {}", peer.node);
    }
    let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    match peer.map(|peer| peer.uid()) {
        Some(uid) => name_of_user(uid).unwrap_or_else(|| format!("uid {uid}")),
        None => "local".to_owned(),
    }
}
