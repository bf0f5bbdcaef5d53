//! Where a blob comes from: a registry or another store. What both have in common, so that a download goes on at one where the
//! other broke.

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use std::time::Duration;

use super::peers::PeerError;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::registry::error::RegistryError;
use crate::registry::retry::Retry;
use crate::registry::session::Session;

/// A blob's bytes as they come.
pub(super) type Bytestream = BoxStream<'static, Result<Bytes, SourceError>>;

/// Gives blobs by digest. Nobody believes it: the bytes are counted and hashed.
pub(super) trait Source: Send + Sync {
    /// Begins to give a blob from `offset`. Says where the answer really begins: at `offset`, or at 0.
    fn blob<'a>(&'a self, digest: &'a Digest, offset: u64) -> BoxFuture<'a, Result<(u64, Bytestream), SourceError>>;

    /// An answer that ended too early.
    fn broken(&self, digest: &Digest, reason: String) -> SourceError;

    /// An answer that is not what was asked for.
    fn wrong(&self, digest: &Digest, reason: String) -> SourceError;
}

/// Why a source did not give a blob.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Peer(#[from] PeerError),
}

impl From<SourceError> for ImageError {
    fn from(error: SourceError) -> ImageError {
        match error {
            SourceError::Registry(error) => error.into(),
            SourceError::Peer(error) => error.into(),
        }
    }
}

impl Retry for SourceError {
    fn is_transient(&self) -> bool {
        match self {
            SourceError::Registry(error) => error.is_transient(),
            SourceError::Peer(error) => error.is_transient(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            SourceError::Registry(error) => error.retry_after(),
            SourceError::Peer(_) => None,
        }
    }
}

impl Source for Session {
    fn blob<'a>(&'a self, digest: &'a Digest, offset: u64) -> BoxFuture<'a, Result<(u64, Bytestream), SourceError>> {
        async move {
            let (start, stream) = Session::blob(self, digest, offset).await?;
            Ok((start, stream.map(|chunk| Ok(chunk?)).boxed()))
        }
        .boxed()
    }

    fn broken(&self, digest: &Digest, reason: String) -> SourceError {
        RegistryError::Broken { what: digest.to_string(), registry: self.host().to_string(), reason }.into()
    }

    fn wrong(&self, digest: &Digest, reason: String) -> SourceError {
        RegistryError::Protocol { what: digest.to_string(), registry: self.host().to_string(), reason }.into()
    }
}
