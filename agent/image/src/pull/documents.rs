//! What a reference means: the manifest, by an index or not, and the configuration.
//!
//! The documents become blobs of the store, so that it can show others that a digest leads to what it has. What a name means is
//! the registry's word, or that of most of the stores that have it; what a digest means is checked.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::origins::Origins;
use super::peers::{Holder, Holders, PeerError, SharedManifest};
use super::{Authority, Puller, blob};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::progress::{Progress, ProgressEvent};
use crate::registry::endpoint::endpoint;
use crate::registry::error::RegistryError;
use crate::registry::retry::Backoff;
use crate::registry::session::{RawManifest, Session};
use crate::spec::manifest::{Descriptor, Document, DocumentError, Index, Manifest};
use crate::spec::platform;
use crate::store::pins::PinGuard;
use crate::store::{MAX_DOCUMENT, blocking};

/// Stores that have not said what a name means by this time after the first of them are not waited for.
const LAGGARDS: Duration = Duration::from_secs(1);
/// Attempts to ask a registry when others may be asked instead.
const FEW_ATTEMPTS: u32 = 2;

/// The documents of one image, on disk and pinned.
pub(super) struct Documents {
    /// Digest of what the reference means: the manifest, or the index that leads to it.
    pub top: Digest,
    pub manifest_digest: Digest,
    pub manifest_size: u64,
    pub manifest: Manifest,
    _pinned: PinGuard,
}

impl Puller {
    pub(super) async fn connect(&self) -> Result<Session, ImageError> {
        let endpoint = endpoint(self.reference.registry(), &self.inner.options.insecure_registries);
        let client = {
            let (inner, endpoint) = (Arc::clone(&self.inner), endpoint.clone());
            // Reading the system's certificates takes milliseconds of disk and CPU.
            blocking(move || Ok(inner.http.client(&endpoint)?)).await?
        };
        self.retrying(|| {
            Session::connect(client.clone(), endpoint.clone(), self.reference.repository(), self.auth.clone())
        })
        .await
    }

    /// As the registry has them: by digest if the reference has one, else by tag.
    pub(super) async fn documents_of_registry(&self, session: &Session) -> Result<Documents, ImageError> {
        let wanted = self.reference.digest();
        let name = match (wanted, self.reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_string(),
        };
        let top = self.retrying(|| session.manifest(&name, MAX_DOCUMENT)).await?;
        self.expect(wanted, &top)?;
        let index = match self.parse(&top)? {
            Document::Manifest(manifest) => return self.store(&[&top], *manifest).await,
            Document::Index(index) => index,
        };
        let chosen = self.choose(&index)?.digest;
        let name = chosen.to_string();
        let raw = self.retrying(|| session.manifest(&name, MAX_DOCUMENT)).await?;
        self.expect(Some(chosen), &raw)?;
        let manifest = self.parse_manifest(&raw)?;
        self.store(&[&top, &raw], manifest).await
    }

    /// As most of the stores that have the image say.
    pub(super) async fn documents_of_nodes(
        &self,
        holders: &Holders,
        origins: &Arc<Origins>,
    ) -> Result<Documents, ImageError> {
        let top = self.ask(holders).await?;
        let index = match self.parse(&top)? {
            Document::Manifest(manifest) => return self.store(&[&top], *manifest).await,
            Document::Index(index) => index,
        };
        let chosen = self.choose(&index)?.clone();
        if chosen.size > MAX_DOCUMENT {
            return Err(self.malformed(format!("its manifest is {} bytes long", chosen.size)));
        }
        let _pinned = self.inner.pins.pin([chosen.digest]);
        let bytes = self.fetch_document(chosen.clone(), origins).await?;
        let raw = RawManifest { bytes, digest: chosen.digest, media_type: chosen.media_type };
        let manifest = self.parse_manifest(&raw)?;
        self.store(&[&top, &raw], manifest).await
    }

    /// Asks all. Of a digest the first right answer counts, of a name what most say.
    async fn ask(&self, holders: &Holders) -> Result<RawManifest, ImageError> {
        let platform = &self.inner.options.platform;
        let ask = |(number, holder): (usize, _)| async move {
            (number, Holder::resolve(holder, &self.reference, platform).await)
        };
        let mut asked: FuturesUnordered<_> = holders.all().map(ask).collect();
        let mut answers: BTreeMap<Digest, (usize, RawManifest)> = BTreeMap::new();
        let mut refusal = PeerError::Nobody { what: self.reference.familiar() };
        let mut deadline = None;
        loop {
            let answer = match deadline {
                None => asked.next().await,
                Some(deadline) => tokio::time::timeout_at(deadline, asked.next()).await.ok().flatten(),
            };
            let Some((number, answer)) = answer else { break };
            match answer.and_then(|shared| self.check(holders, number, shared)) {
                Ok(raw) if self.reference.digest().is_some() => return Ok(raw),
                Ok(raw) => {
                    deadline.get_or_insert_with(|| Instant::now() + LAGGARDS);
                    answers.entry(raw.digest).or_insert((0, raw)).0 += 1;
                }
                Err(error) => refusal = error,
            }
        }
        let most = answers.into_values().max_by_key(|(count, raw)| (*count, raw.digest));
        most.map(|(_, raw)| raw).ok_or_else(|| refusal.into())
    }

    /// What a store says a reference means, when it can be that.
    fn check(&self, holders: &Holders, number: usize, shared: SharedManifest) -> Result<RawManifest, PeerError> {
        let what = self.reference.familiar();
        let digest = Digest::of(&shared.document);
        if self.reference.digest().is_some_and(|expected| expected != digest) {
            return Err(holders.wrong(number, what, format!("it is {digest}")));
        }
        if shared.document.len() as u64 > MAX_DOCUMENT {
            return Err(holders.wrong(number, what, format!("its manifest is longer than {MAX_DOCUMENT} bytes")));
        }
        Ok(RawManifest { bytes: shared.document, digest, media_type: shared.media_type })
    }

    /// The configuration's bytes.
    pub(super) async fn configuration(
        &self,
        documents: &Documents,
        origins: &Arc<Origins>,
    ) -> Result<Vec<u8>, ImageError> {
        let config = documents.manifest.config.clone();
        if config.size > MAX_DOCUMENT {
            return Err(self.malformed(format!("its configuration is {} bytes long", config.size)));
        }
        self.fetch_document(config, origins).await
    }

    /// A small blob, which is pinned.
    async fn fetch_document(&self, blob: Descriptor, origins: &Arc<Origins>) -> Result<Vec<u8>, ImageError> {
        let (digest, image) = (blob.digest, self.reference.familiar());
        blob::fetch(&self.inner, origins, blob, &Progress::none()).await?;
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let document = inner.layout.read_blob(&digest, MAX_DOCUMENT)?;
            document.ok_or(ImageError::BlobMissing { digest, image })
        })
        .await
    }

    /// Pins everything that the manifest names, and stores the documents (the topmost first, the manifest last).
    async fn store(&self, documents: &[&RawManifest], manifest: Manifest) -> Result<Documents, ImageError> {
        let digests = documents.iter().map(|raw| raw.digest);
        let layers = manifest.layers.iter().map(|layer| layer.digest);
        let _pinned = self.inner.pins.pin(layers.chain([manifest.config.digest]).chain(digests));
        let (inner, bytes) = (Arc::clone(&self.inner), documents.iter().map(|raw| raw.bytes.clone()));
        let bytes: Vec<_> = bytes.collect();
        let manifest_size = bytes.last().map_or(0, Vec::len) as u64;
        blocking(move || bytes.iter().try_for_each(|bytes| inner.layout.write_blob(bytes).map(drop))).await?;
        let (top, last) = (documents[0].digest, documents[documents.len() - 1].digest);
        Ok(Documents { top, manifest_digest: last, manifest_size, manifest, _pinned })
    }

    fn choose<'a>(&self, index: &'a Index) -> Result<&'a Descriptor, ImageError> {
        let wanted = &self.inner.options.platform;
        platform::select(&index.manifests, wanted).ok_or_else(|| ImageError::NoMatchingPlatform {
            image: self.reference.familiar(),
            wanted: wanted.to_string(),
            available: platform::available(&index.manifests),
        })
    }

    fn parse(&self, raw: &RawManifest) -> Result<Document, ImageError> {
        let not_an_image = |error: DocumentError| self.malformed(error.to_string());
        Document::parse(&raw.bytes, &raw.media_type).map_err(not_an_image)
    }

    fn parse_manifest(&self, raw: &RawManifest) -> Result<Manifest, ImageError> {
        match self.parse(raw)? {
            Document::Manifest(manifest) => Ok(*manifest),
            Document::Index(_) => Err(self.malformed("its index leads to another index".to_string())),
        }
    }

    fn malformed(&self, reason: String) -> ImageError {
        ImageError::Malformed { image: self.reference.familiar(), reason }
    }

    fn expect(&self, wanted: Option<Digest>, raw: &RawManifest) -> Result<(), ImageError> {
        match wanted {
            Some(expected) if expected != raw.digest => {
                let what = format!("the manifest of {}", self.reference.familiar());
                Err(ImageError::DigestMismatch { what, expected, actual: raw.digest })
            }
            _ => Ok(()),
        }
    }

    /// Tries a request until it succeeds, fails for good, or has failed too often.
    async fn retrying<T, Fut>(&self, request: impl Fn() -> Fut) -> Result<T, ImageError>
    where
        Fut: Future<Output = Result<T, RegistryError>>,
    {
        let mut options = self.inner.options.retry;
        if self.nodes.is_some() && self.authority == Authority::RegistryFirst {
            options.attempts = options.attempts.min(FEW_ATTEMPTS);
        }
        let mut backoff = Backoff::new(options);
        loop {
            let error = match request().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let Some(delay) = backoff.next(&error, rand::random()) else {
                return Err(error.into());
            };
            self.progress.send(ProgressEvent::Retrying {
                layer: None,
                attempt: backoff.attempts(),
                reason: error.to_string(),
            });
            tokio::time::sleep(delay).await;
        }
    }
}
