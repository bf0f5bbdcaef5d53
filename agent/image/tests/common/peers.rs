//! Other stores in the same process, some of which mean harm or break.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use berth_image::{Digest, ImageStore, Peer, PeerError, Peers, Platform, Reference, SharedManifest};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

const CHUNK: usize = 64 * 1024;

/// What goes wrong at a peer.
#[derive(Clone, Default)]
pub enum Fault {
    #[default]
    None,
    /// Streams end in an error after that many bytes of their own, as often as the counter says.
    Cut { after: usize, times: Arc<AtomicUsize> },
    /// The bytes are others; the stream ends after that many.
    Lie { after: usize },
    /// One more byte than there should be.
    TooMuch,
    /// It means this by every reference.
    Manifest(Vec<u8>),
    /// Streams of big blobs begin together.
    Together(Arc<tokio::sync::Barrier>),
    /// Nothing is ever answered.
    Silent,
}

/// A peer, and what it was asked.
pub struct StorePeer {
    pub name: &'static str,
    store: ImageStore,
    fault: Fault,
    pub asked: Mutex<Vec<(Digest, u64)>>,
}

impl StorePeer {
    pub fn new(name: &'static str, store: &ImageStore, fault: Fault) -> Arc<StorePeer> {
        Arc::new(StorePeer { name, store: store.clone(), fault, asked: Mutex::default() })
    }

    /// The offsets that it was asked for this blob.
    pub fn offsets(&self, digest: &Digest) -> Vec<u64> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(blob, _)| blob == digest).map(|(_, offset)| *offset).collect()
    }

    fn broken(&self, what: &Digest) -> PeerError {
        PeerError::Broken { peer: self.name.into(), what: what.to_string(), reason: "it died".into() }
    }

    /// What it sends instead of these bytes.
    fn bend(&self, digest: &Digest, mut bytes: Vec<u8>) -> Vec<Result<Bytes, PeerError>> {
        let mut end = None;
        match &self.fault {
            Fault::Cut { after, times } if bytes.len() > *after => {
                let left = times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                if left.is_ok() {
                    bytes.truncate(*after);
                    end = Some(Err(self.broken(digest)));
                }
            }
            Fault::Lie { after } => {
                bytes.truncate(*after);
                bytes.iter_mut().for_each(|byte| *byte = !*byte);
            }
            Fault::TooMuch => bytes.push(0),
            _ => {}
        }
        bytes.chunks(CHUNK).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).chain(end).collect()
    }
}

#[async_trait]
impl Peer for StorePeer {
    fn name(&self) -> String {
        self.name.into()
    }

    async fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<SharedManifest, PeerError> {
        match &self.fault {
            Fault::Manifest(document) => {
                return Ok(SharedManifest { media_type: super::MANIFEST.into(), document: document.clone() });
            }
            Fault::Silent => std::future::pending().await,
            _ => {}
        }
        let found = self.store.shared_manifest(reference, platform).await.unwrap();
        found.ok_or_else(|| PeerError::NotFound { peer: self.name.into(), what: reference.familiar() })
    }

    async fn blob(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, PeerError>>, PeerError> {
        self.asked.lock().unwrap().push((*digest, offset));
        let Some(mut file) = self.store.open_blob(digest).await.unwrap() else {
            return Err(PeerError::NotFound { peer: self.name.into(), what: digest.to_string() });
        };
        use std::io::{Read, Seek};
        let mut bytes = Vec::new();
        file.seek(std::io::SeekFrom::Start(offset)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        if let Fault::Together(barrier) = &self.fault
            && bytes.len() > CHUNK
        {
            barrier.wait().await;
        }
        // A copy of a small document is never bent: it is a layer that is tampered with.
        let chunks = match bytes.len() {
            0..CHUNK => vec![Ok(bytes.into())],
            _ => self.bend(digest, bytes),
        };
        Ok(futures::stream::iter(chunks).boxed())
    }
}

/// Who is found, and how often anybody looked.
#[derive(Default)]
pub struct Found {
    pub peers: Vec<Arc<StorePeer>>,
    pub looks: AtomicUsize,
}

impl Found {
    pub fn new(peers: &[&Arc<StorePeer>]) -> Arc<Found> {
        Arc::new(Found { peers: peers.iter().map(|peer| Arc::clone(peer)).collect(), looks: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Peers for Found {
    async fn holders(&self, _reference: &Reference) -> Result<Vec<Arc<dyn Peer>>, PeerError> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        Ok(self.peers.iter().map(|peer| Arc::clone(peer) as Arc<dyn Peer>).collect())
    }
}
