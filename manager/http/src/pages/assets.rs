//! Style, scripts and icon: embedded in the binary, kept by browsers for ever under a path that changes with them.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::problem::Problem;
use crate::routes::{Needs, Routes};

/// One file.
struct Asset {
    name: &'static str,
    media_type: &'static str,
    content: &'static [u8],
}

macro_rules! assets {
    ($($name:literal: $media_type:literal),* $(,)?) => {
        &[$(Asset { name: $name, media_type: $media_type, content: include_bytes!(concat!("../../assets/", $name)) }),*]
    };
}

/// All files.
const ASSETS: &[Asset] = assets! {
    "ansi.js": "text/javascript; charset=utf-8",
    "apply.js": "text/javascript; charset=utf-8",
    "berth.css": "text/css; charset=utf-8",
    "detail.css": "text/css; charset=utf-8",
    "frames.js": "text/javascript; charset=utf-8",
    "htmx.min.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "keys.js": "text/javascript; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "log_lines.js": "text/javascript; charset=utf-8",
    "logs.js": "text/javascript; charset=utf-8",
    "pure.js": "text/javascript; charset=utf-8",
    "sheets.js": "text/javascript; charset=utf-8",
    "terminal.js": "text/javascript; charset=utf-8",
    "theme.js": "text/javascript; charset=utf-8",
    "xterm-addon-fit.mjs": "text/javascript; charset=utf-8",
    "xterm.css": "text/css; charset=utf-8",
    "xterm.mjs": "text/javascript; charset=utf-8",
};

/// How many characters of the digest are in the path.
const DIGEST_LEN: usize = 16;

/// The digest of all files: one for all, so that a script finds the modules that it was made with beside it.
static DIGEST: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for asset in ASSETS {
        hash.update(asset.name);
        hash.update(asset.content);
    }
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    digest[..DIGEST_LEN].to_owned()
});

/// Path of a file, as pages name it.
pub fn path(name: &str) -> String {
    debug_assert!(ASSETS.iter().any(|asset| asset.name == name), "no asset {name}");
    format!("/assets/{}/{name}", *DIGEST)
}

/// The files. Anybody may have them: the login page needs some.
pub fn routes() -> Routes {
    Routes::default().add(Method::GET, "/assets/{digest}/{name}", Needs::Nothing, file)
}

async fn file(Path((digest, name)): Path<(String, String)>) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return Problem::new(StatusCode::NOT_FOUND, format!("there is no file {name}")).into_response();
    };
    // A page of another version of this manager: it gets what there is, but not for long.
    let kept = if digest == *DIGEST { "public, max-age=31536000, immutable" } else { "no-cache" };
    ([(header::CONTENT_TYPE, asset.media_type), (header::CACHE_CONTROL, kept)], asset.content).into_response()
}
