//! Rows of `image ls` and `image history`. Pure.

use berth_proto::pb;
use berth_proto::time::Timestamp;
use serde::Serialize;

use crate::ui::Row;
use crate::ui::human::{ago, ellipsis, size};

/// A line of `image ls`: one for each reference, or one for an image without any.
#[derive(Debug, Clone, Serialize)]
pub struct ImageRow {
    /// `sha256:…` of the image's configuration.
    pub id: String,
    /// Repository, `<none>` without one.
    pub repository: String,
    /// Tag, `<none>` without one.
    pub tag: String,
    /// The whole reference; null without one.
    pub reference: Option<String>,
    /// Manifest digests.
    pub digests: Vec<String>,
    /// When the image was built.
    pub created_at: Timestamp,
    /// Bytes on this node.
    pub size: u64,
    /// Tasks of this node that use it.
    pub in_use: u32,
    #[serde(skip)]
    now: Timestamp,
}

/// The rows of one image.
pub fn rows(image: &pb::ImageSummary, now: Timestamp) -> Vec<ImageRow> {
    let row = |reference: Option<&String>| {
        let (repository, tag) = reference.map_or(("<none>", "<none>"), |reference| split_tag(reference));
        ImageRow {
            id: image.id.clone(),
            repository: repository.to_owned(),
            tag: tag.to_owned(),
            reference: reference.cloned(),
            digests: image.digests.clone(),
            created_at: Timestamp(image.created_at),
            size: image.size,
            in_use: image.in_use,
            now,
        }
    };
    if image.references.is_empty() {
        return vec![row(None)];
    }
    image.references.iter().map(|reference| row(Some(reference))).collect()
}

/// Repository and tag of a reference; the familiar short form of Docker Hub's names.
fn split_tag(reference: &str) -> (&str, &str) {
    let name = reference.strip_prefix("docker.io/").unwrap_or(reference);
    let name = name.strip_prefix("library/").unwrap_or(name);
    if let Some((repository, _digest)) = name.split_once('@') {
        return (repository, "<none>");
    }
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "latest"),
    }
}

/// `sha256:` off, 12 characters.
pub fn short_digest(digest: &str, no_trunc: bool) -> String {
    if no_trunc {
        return digest.to_owned();
    }
    digest.strip_prefix("sha256:").unwrap_or(digest).chars().take(12).collect()
}

impl Row for ImageRow {
    const HEADS: &'static [&'static str] = &["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];

    fn cells(&self, no_trunc: bool) -> Vec<String> {
        let created = if self.created_at.0 <= 0 { "N/A".to_owned() } else { ago(self.now.since(self.created_at)) };
        vec![self.repository.clone(), self.tag.clone(), short_digest(&self.id, no_trunc), created, size(self.size)]
    }

    fn key(&self, no_trunc: bool) -> String {
        short_digest(&self.id, no_trunc)
    }
}

/// A line of `image history`.
#[derive(Debug, Clone, Serialize)]
pub struct HistoryRow {
    /// When the layer was made.
    pub created_at: Timestamp,
    /// By which command.
    pub created_by: String,
    /// Bytes.
    pub size: u64,
    /// Comment.
    pub comment: String,
    #[serde(skip)]
    now: Timestamp,
}

impl HistoryRow {
    /// The row of one layer.
    pub fn new(layer: pb::image_history_response::Layer, now: Timestamp) -> Self {
        let created_at = Timestamp(layer.created_at);
        Self { created_at, created_by: layer.created_by, size: layer.size, comment: layer.comment, now }
    }
}

impl Row for HistoryRow {
    const HEADS: &'static [&'static str] = &["CREATED", "CREATED BY", "SIZE", "COMMENT"];

    fn cells(&self, no_trunc: bool) -> Vec<String> {
        let created = if self.created_at.0 <= 0 { "N/A".to_owned() } else { ago(self.now.since(self.created_at)) };
        let by = self.created_by.replace(['\n', '\t'], " ");
        let by = if no_trunc { by } else { ellipsis(&by, 45) };
        vec![created, by, size(self.size), self.comment.clone()]
    }

    fn key(&self, _no_trunc: bool) -> String {
        self.created_by.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::split_tag;

    #[test]
    fn references_are_shown_in_their_familiar_form() {
        for (reference, shown) in [
            ("docker.io/library/nginx:1.25", ("nginx", "1.25")),
            ("docker.io/grafana/loki:3", ("grafana/loki", "3")),
            ("localhost:5000/app", ("localhost:5000/app", "latest")),
            ("localhost:5000/app:v1", ("localhost:5000/app", "v1")),
            ("app@sha256:aa", ("app", "<none>")),
        ] {
            assert_eq!(split_tag(reference), shown);
        }
    }
}
