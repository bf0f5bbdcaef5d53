//! Credentials for a registry from Docker's `config.json`, so that a `docker login` of yesterday still counts.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use berth_proto::pb::RegistryAuth;
use serde_json::Value;

use crate::ui::{Failure, OrFail};

/// What the user's configuration holds for the image's registry, if anything.
pub fn for_image(image: &str) -> Result<Option<RegistryAuth>, Failure> {
    let Some(path) = config_path() else { return Ok(None) };
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
    let config: Value = serde_json::from_str(&text).or_fail(|| format!("cannot read {}", path.display()))?;
    Ok(lookup(&config, registry(image)))
}

fn config_path() -> Option<PathBuf> {
    let dir = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let dir = dir.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")))?;
    Some(dir.join("config.json"))
}

/// The host part of a reference: present when the first component has a dot, a colon, or is `localhost`.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

fn lookup(config: &Value, registry: &str) -> Option<RegistryAuth> {
    let auths = config.get("auths")?.as_object()?;
    let names: &[&str] = match registry {
        "docker.io" => &["https://index.docker.io/v1/", "index.docker.io", "docker.io"],
        other => &[other],
    };
    let entry = names.iter().find_map(|name| auths.get(*name).or_else(|| auths.get(&format!("https://{name}"))))?;
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (mut username, mut password) = (text("username"), text("password"));
    if let Some((user, pass)) = STANDARD
        .decode(text("auth"))
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|pair| pair.split_once(':').map(|(user, pass)| (user.to_owned(), pass.to_owned())))
    {
        (username, password) = (user, pass);
    }
    let auth = RegistryAuth { username, password, identity_token: text("identitytoken") };
    (auth != RegistryAuth::default()).then_some(auth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_told_from_a_path() {
        for (image, host) in [
            ("nginx", "docker.io"),
            ("grafana/loki:3", "docker.io"),
            ("localhost/x", "localhost"),
            ("r.example:5000/x", "r.example:5000"),
        ] {
            assert_eq!(registry(image), host);
        }
    }

    #[test]
    fn a_login_is_found() {
        let config =
            serde_json::json!({ "auths": { "https://index.docker.io/v1/": { "auth": STANDARD.encode("me:pw:1") } } });
        let auth = lookup(&config, "docker.io").expect("is there");
        assert_eq!((auth.username.as_str(), auth.password.as_str()), ("me", "pw:1"));
        assert_eq!(lookup(&config, "r.example"), None);
    }
}
