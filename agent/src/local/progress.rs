//! Progress of images on the wire.

use std::collections::HashMap;

use berth_image::{Digest, LayerState, ProgressEvent};
use berth_proto::pb;
use pb::image_progress::layer::Phase;
use pb::image_progress::{Done, Event, Layer};

/// Turns the store's events into messages; remembers sizes that only the first event tells.
#[derive(Debug, Default)]
pub struct Translator {
    sizes: HashMap<Digest, u64>,
}

impl Translator {
    /// The messages for one event.
    pub fn translate(&mut self, event: ProgressEvent) -> Vec<pb::ImageProgress> {
        match event {
            ProgressEvent::Resolved { layers, .. } => {
                let waiting = |(digest, size): (Digest, u64)| {
                    self.sizes.insert(digest, size);
                    layer(&digest, Phase::Waiting, 0, size)
                };
                layers.into_iter().map(waiting).collect()
            }
            ProgressEvent::Layer { layer, state } => vec![self.layer(layer, &state)],
            ProgressEvent::Retrying { layer, attempt, reason } => {
                let what = layer.map_or_else(|| "the manifest".to_owned(), |layer| layer.short());
                vec![text(format!("{what}: attempt {attempt} failed ({reason}), trying again"))]
            }
            // The caller sends the end itself, once it is the end.
            ProgressEvent::Done { .. } => Vec::new(),
        }
    }

    fn layer(&self, digest: Digest, state: &LayerState) -> pb::ImageProgress {
        let size = self.sizes.get(&digest).copied().unwrap_or(0);
        match *state {
            LayerState::Waiting => layer(&digest, Phase::Waiting, 0, size),
            LayerState::Downloading { done, total } => layer(&digest, Phase::Downloading, done, total),
            LayerState::Verifying => layer(&digest, Phase::Verifying, size, size),
            LayerState::Unpacking { done, total } => layer(&digest, Phase::Unpacking, done, total),
            LayerState::Done => layer(&digest, Phase::Done, size, size),
            LayerState::Exists => layer(&digest, Phase::Exists, size, size),
        }
    }
}

fn layer(digest: &Digest, phase: Phase, current: u64, total: u64) -> pb::ImageProgress {
    let layer = Layer { digest: digest.to_string(), phase: phase.into(), current, total };
    pb::ImageProgress { event: Some(Event::Layer(layer)) }
}

/// A message for people.
pub fn text(message: String) -> pb::ImageProgress {
    pb::ImageProgress { event: Some(Event::Message(message)) }
}

/// The end.
pub fn done(done: Done) -> pb::ImageProgress {
    pb::ImageProgress { event: Some(Event::Done(done)) }
}
