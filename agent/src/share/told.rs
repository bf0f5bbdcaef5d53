//! The references that the session tells the managers, so that others find what this node has.
//!
//! Level-triggered: looks at the store after each change of it, and on a period.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_image::{ImageStore, Reference};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The first change is told at once, those that come within this time after it together.
const GATHER: Duration = Duration::from_millis(300);
/// The store is looked at so often even when nothing was seen to change: somebody may have deleted a blob.
const PERIOD: Duration = Duration::from_secs(60);

/// What is told of the images of this node.
pub struct Told {
    images: ImageStore,
    references: watch::Sender<BTreeSet<String>>,
}

impl Told {
    /// Nothing is told before the first [`Told::look`].
    pub fn new(images: ImageStore) -> Self {
        Self { images, references: watch::Sender::default() }
    }

    /// Every reference of an image that is here whole, in its familiar form (`nginx:latest`, `host:5000/a@sha256:…`).
    pub fn references(&self) -> watch::Receiver<BTreeSet<String>> {
        self.references.subscribe()
    }

    /// Looks at the store. Only a change wakes those who follow.
    pub async fn look(&self) {
        match self.images.whole().await {
            Ok(whole) => {
                let whole: BTreeSet<String> = whole.iter().map(Reference::familiar).collect();
                self.references.send_if_modified(|told| {
                    let changed = *told != whole;
                    *told = whole;
                    changed
                });
            }
            Err(error) => tracing::warn!(error = error.report(), "the node's images cannot be listed"),
        }
    }

    /// Looks again and again until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut changes = self.images.changes();
        while !stop.is_cancelled() {
            self.look().await;
            let pause = async {
                tokio::time::sleep(GATHER).await;
                // The store outlives this loop.
                let _ = tokio::time::timeout(PERIOD, changes.changed()).await;
            };
            tokio::select! {
                biased;
                // Cancel-safe: a token stays cancelled.
                () = stop.cancelled() => return,
                // Cancel-safe: a change that is not taken stays one.
                () = pause => {}
            }
        }
    }
}
