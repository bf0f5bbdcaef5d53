//! Images in tar files: docker-archive and OCI layout, in and out.
//!
//! `spool` takes an archive apart, `contents` finds the images in it, `load` brings them into the store,
//! `save` writes them.

mod contents;
pub(crate) mod load;
pub(crate) mod save;
mod spool;

use serde::{Deserialize, Serialize};

/// Names of the fixed files.
const OCI_LAYOUT_FILE: &str = "oci-layout";
const INDEX_FILE: &str = "index.json";
const DOCKER_MANIFEST_FILE: &str = "manifest.json";

/// The annotation with an image's full name, containerd's and Docker's.
const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// OCI's annotation: a tag or a full name, as the writer likes.
const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// One image in a docker-archive's `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}
