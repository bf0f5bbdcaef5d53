//! Short names for layers of images with very many of them: the options of `mount(2)` must fit into
//! one page, which 40 layer paths fill. `l/N` are symlinks to layers, made when needed; a layer's link
//! goes when the layer does.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::layout::{Layout, list, remove_any};
use crate::error::{ImageError, IoContext};

/// Paths that together are longer than this are shortened: it leaves a quarter of the page for the
/// upper and work directories.
const ROOM: usize = 3072;

impl Layout {
    fn links(&self) -> PathBuf {
        self.root().join("l")
    }

    /// The same directories by names that fit into the options of one mount, if they do not already.
    pub(crate) fn shorten(&self, layers: Vec<PathBuf>) -> Result<Vec<PathBuf>, ImageError> {
        let length: usize = layers.iter().map(|path| path.as_os_str().len() + 1).sum();
        if length <= ROOM {
            return Ok(layers);
        }
        let dir = self.links();
        std::fs::create_dir_all(&dir).doing(|| format!("make directory {}", dir.display()))?;
        let mut known = self.read_links()?;
        let mut next = 0u64;
        layers.iter().map(|layer| link_to(&dir, layer, &mut known, &mut next)).collect()
    }

    /// Removes links whose layers are gone.
    pub(crate) fn sweep_links(&self) -> Result<(), ImageError> {
        for (target, link) in self.read_links()? {
            if !target.exists() {
                remove_any(&link)?;
            }
        }
        Ok(())
    }

    fn read_links(&self) -> Result<HashMap<PathBuf, PathBuf>, ImageError> {
        let dir = self.links();
        if !dir.exists() {
            return Ok(HashMap::new());
        }
        let links = list(&dir)?.into_iter();
        Ok(links.filter_map(|link| std::fs::read_link(&link).ok().map(|target| (target, link))).collect())
    }
}

/// The link to a layer, made under the first free number if there is none.
fn link_to(
    dir: &Path,
    layer: &Path,
    known: &mut HashMap<PathBuf, PathBuf>,
    next: &mut u64,
) -> Result<PathBuf, ImageError> {
    if let Some(link) = known.get(layer) {
        return Ok(link.clone());
    }
    loop {
        let link = dir.join(next.to_string());
        *next += 1;
        match std::os::unix::fs::symlink(layer, &link) {
            Ok(()) => {
                known.insert(layer.to_path_buf(), link.clone());
                return Ok(link);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).doing(|| format!("make the link {}", link.display())),
        }
    }
}
