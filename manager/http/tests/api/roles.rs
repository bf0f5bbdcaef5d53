//! Every route asked by nobody, viewer, operator and admin: what is new cannot be forgotten.
#![allow(clippy::unwrap_used)]

use crate::support::Server;
use berth_http::routes::{self, Needs};
use berth_proto::state::ApiRole;

#[tokio::test(flavor = "multi_thread")]
async fn every_route_lets_in_who_has_its_role_and_nobody_else() {
    let server = Server::start().await;
    let mut asked = 0;
    for route in routes::all().table() {
        let Needs::Role(role) = route.needs else { continue };
        // Nothing has that name: what is let in finds nothing, and what is not let in is not told so.
        let path = route.path.split('/').map(|part| if part.starts_with('{') { "zz-nothing" } else { part });
        let path = path.collect::<Vec<_>>().join("/");
        let (method, place) = (route.method.clone(), format!("{} {}", route.method, route.path));
        let status = async |role: Option<ApiRole>| {
            let request = server.ask(method.clone(), &path, role).await;
            request.send().await.unwrap().status().as_u16()
        };
        let nobody = status(None).await;
        let is_page = !route.path.starts_with("/api/") && route.path != "/metrics";
        match is_page && route.method == reqwest::Method::GET {
            true => assert_eq!(nobody, 303, "{place} by nobody"),
            false => assert_eq!(nobody, 401, "{place} by nobody"),
        }
        for who in [ApiRole::Viewer, ApiRole::Operator, ApiRole::Admin] {
            let status = status(Some(who)).await;
            match who >= role {
                true => assert!(!matches!(status, 401 | 403 | 405), "{place} by {who}: {status}"),
                false => assert_eq!(status, 403, "{place} by {who}"),
            }
        }
        asked += 1;
    }
    assert!(asked > 50, "{asked} routes");
}

#[test]
fn roles_are_as_they_are_promised() {
    for route in routes::all().table().iter().filter(|route| route.path.starts_with("/api/v1/")) {
        let admin =
            ["/tokens", "/join-tokens", "/promote", "/demote", "/ca"].iter().any(|part| route.path.contains(part))
                || (route.path == "/api/v1/nodes/{node}" && route.method == reqwest::Method::DELETE)
                || (route.path == "/api/v1/cluster" && route.method == reqwest::Method::PUT);
        let reads = route.method == reqwest::Method::GET && !route.path.ends_with("/exec");
        let wanted = if admin {
            ApiRole::Admin
        } else if reads {
            ApiRole::Viewer
        } else {
            ApiRole::Operator
        };
        assert_eq!(route.needs, Needs::Role(wanted), "{} {}", route.method, route.path);
    }
}
