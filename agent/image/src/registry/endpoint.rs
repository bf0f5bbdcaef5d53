//! From the registry in a reference to the address and the protocols to speak. Pure.

use std::net::IpAddr;

/// How one registry is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `host[:port]`.
    pub host: String,
    /// Plain HTTP and unverified certificates are allowed.
    pub insecure: bool,
    /// It is this very machine: never through a proxy.
    pub loopback: bool,
}

/// Docker's rules: Docker Hub has another host name than its registry name; loopback addresses and
/// `localhost` are insecure, as are those on the list.
pub(crate) fn endpoint(registry: &str, insecure: &[String]) -> Endpoint {
    let host = match registry {
        "docker.io" => "registry-1.docker.io",
        other => other,
    };
    let loopback = is_loopback(host);
    let listed = insecure.iter().any(|entry| entry == registry || entry == bare(registry));
    Endpoint { host: host.to_string(), insecure: loopback || listed, loopback }
}

fn is_loopback(host: &str) -> bool {
    let bare = bare(host);
    bare == "localhost" || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// Without port and brackets.
fn bare(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.split(':').next().unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_rules() {
        let insecure = ["reg.lan".to_string(), "other.lan:5000".to_string()];
        let table = [
            ("docker.io", "registry-1.docker.io", false, false),
            ("ghcr.io", "ghcr.io", false, false),
            ("localhost", "localhost", true, true),
            ("localhost:5000", "localhost:5000", true, true),
            ("127.1.2.3:80", "127.1.2.3:80", true, true),
            ("[::1]:5000", "[::1]:5000", true, true),
            ("10.0.0.1:5000", "10.0.0.1:5000", false, false),
            ("reg.lan:444", "reg.lan:444", true, false),
            ("other.lan:5000", "other.lan:5000", true, false),
            ("other.lan:5001", "other.lan:5001", false, false),
            ("127.0.0.1.evil.io", "127.0.0.1.evil.io", false, false),
        ];
        for (registry, host, allowed, loopback) in table {
            let expected = Endpoint { host: host.into(), insecure: allowed, loopback };
            assert_eq!(endpoint(registry, &insecure), expected, "{registry}");
        }
    }
}
