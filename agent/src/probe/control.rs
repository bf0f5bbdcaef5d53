//! Whether a node's port for other nodes answers. Any answer of the node itself will do, refusals too.

use std::time::Duration;

use berth_proto::id::NodeId;
use berth_proto::pb;
use berth_proto::pb::image_share_client::ImageShareClient;
use tonic::Code;

use crate::reach::Reach;

/// How long it is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Connects with this node's certificate and asks for nothing in particular.
pub async fn answers(reach: &dyn Reach, node: NodeId, address: &str) -> bool {
    let channel = match reach.node(node, address) {
        Ok(channel) => channel,
        Err(error) => {
            tracing::debug!(%node, address, error, "no way to the port of a node");
            return false;
        }
    };
    let nothing = pb::ShareResolveRequest { reference: String::new(), platform: None };
    match tokio::time::timeout(PATIENCE, ImageShareClient::new(channel).resolve(nothing)).await {
        Ok(Ok(_)) => true,
        // What the transport says when nobody is there.
        Ok(Err(status)) => !matches!(status.code(), Code::Unavailable | Code::Unknown | Code::DeadlineExceeded),
        Err(_) => false,
    }
}
