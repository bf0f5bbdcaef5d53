//! Other nodes as sources of images: a manager says who has one, the nodes themselves are asked for it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use berth_image::{Digest, Peer, PeerError, Peers, Platform, Reference, SharedManifest};
use berth_proto::id::NodeId;
use berth_proto::pb;
use berth_proto::pb::dispatcher_client::DispatcherClient;
use berth_proto::pb::image_share_client::ImageShareClient;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::reach::Reach;
use crate::session::Link;

/// How long a session with a manager is waited for, and its answer.
const ASK: Duration = Duration::from_secs(5);
/// Longest message of a blob that is taken.
const MAX_CHUNK: usize = 1 << 20;
/// Longest answer to what a reference means: a manifest, and what is around it.
const MAX_MANIFEST: usize = 9 << 20;

/// Finds the nodes that have an image.
pub struct NodePeers {
    own: NodeId,
    link: watch::Receiver<Option<Link>>,
    reach: Arc<dyn Reach>,
}

impl NodePeers {
    /// Asks the manager that the session is with; `own` is never among those found.
    pub fn new(own: NodeId, link: watch::Receiver<Option<Link>>, reach: Arc<dyn Reach>) -> Self {
        Self { own, link, reach }
    }

    async fn ask(&self, reference: &Reference) -> Result<pb::FindImageResponse, String> {
        let Ok(Some(channel)) = tokio::time::timeout(ASK, Link::channel(&self.link)).await else {
            return Err("there is no session with a manager".to_owned());
        };
        // In the words in which nodes tell theirs.
        let request = pb::FindImageRequest { reference: reference.familiar() };
        let mut client = DispatcherClient::new(channel);
        let answer = tokio::time::timeout(ASK, client.find_image(request)).await;
        let answer = answer.map_err(|_| "the manager does not answer".to_owned())?;
        answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
    }

    fn peer(&self, holder: &pb::find_image_response::Holder) -> Option<Arc<dyn Peer>> {
        let node: NodeId = holder.node_id.parse().ok()?;
        if node == self.own {
            return None;
        }
        match self.reach.node(node, &holder.address) {
            Ok(channel) => Some(Arc::new(NodePeer { node, channel })),
            Err(error) => {
                tracing::warn!(%node, error, "a node that has an image cannot be reached");
                None
            }
        }
    }
}

#[async_trait]
impl Peers for NodePeers {
    async fn holders(&self, reference: &Reference) -> Result<Vec<Arc<dyn Peer>>, PeerError> {
        let unasked = |reason| PeerError::Unasked { what: reference.familiar(), reason };
        let found = self.ask(reference).await.map_err(unasked)?;
        Ok(found.holders.iter().filter_map(|holder| self.peer(holder)).collect())
    }
}

struct NodePeer {
    node: NodeId,
    channel: Channel,
}

impl NodePeer {
    fn refused(&self, what: String, status: &Status) -> PeerError {
        refused(self.node, what, status)
    }
}

#[async_trait]
impl Peer for NodePeer {
    fn name(&self) -> String {
        self.node.to_string()
    }

    async fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<SharedManifest, PeerError> {
        let platform = pb::Platform { os: platform.os.clone(), architecture: platform.architecture.clone() };
        let request = pb::ShareResolveRequest { reference: reference.familiar(), platform: Some(platform) };
        let mut client = ImageShareClient::new(self.channel.clone()).max_decoding_message_size(MAX_MANIFEST);
        let answer = client.resolve(request).await;
        let answer = answer.map_err(|status| self.refused(reference.familiar(), &status))?.into_inner();
        // The digest that it names is not looked at: the document has one of its own.
        Ok(SharedManifest { media_type: answer.media_type, document: answer.manifest.into() })
    }

    async fn blob(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, PeerError>>, PeerError> {
        let request = pb::ShareBlobRequest { digest: digest.to_string(), offset };
        let mut client = ImageShareClient::new(self.channel.clone()).max_decoding_message_size(MAX_CHUNK);
        let (node, what) = (self.node, digest.to_string());
        let chunks = client.blob(request).await.map_err(|status| self.refused(what.clone(), &status))?;
        let chunks = chunks.into_inner().map(move |chunk| match chunk {
            Ok(chunk) => Ok(chunk.data),
            Err(status) => Err(refused(node, what.clone(), &status)),
        });
        Ok(chunks.boxed())
    }
}

fn refused(node: NodeId, what: String, status: &Status) -> PeerError {
    let peer = node.to_string();
    match status.code() {
        Code::NotFound => PeerError::NotFound { peer, what },
        _ => PeerError::Broken { peer, what, reason: status.message().to_owned() },
    }
}
