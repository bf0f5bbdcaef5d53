//! The table of all routes: method, path, the role that each takes. Nothing is served that is not in it.

use axum::Router;
use axum::handler::Handler;
use axum::http::{Extensions, HeaderMap, Method, StatusCode, Version, header};
use axum::middleware;
use axum::routing::{MethodFilter, MethodRouter, on};
use berth_proto::state::ApiRole;
use tower_http::compression::CompressionLayer;

use crate::access::{self, Login};
use crate::api;
use crate::health;
use crate::metrics::{self, Counting};
use crate::pages;
use crate::site::Site;

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Anybody: what the login page is made of, and whether the process lives.
    Nothing,
    /// Whoever has this role, or one that may do more.
    Role(ApiRole),
}

/// One entry of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Method.
    pub method: Method,
    /// Path, with parameters as `{name}`.
    pub path: &'static str,
    /// Who may ask.
    pub needs: Needs,
}

/// Routes, and what answers them.
#[derive(Default)]
pub struct Routes {
    table: Vec<Route>,
    router: Router<Site>,
}

impl Routes {
    /// One more. A path of a page sends who is not known to the login; one of the API answers with a problem.
    #[must_use]
    pub fn add<H, T>(mut self, method: Method, path: &'static str, needs: Needs, handler: H) -> Self
    where
        H: Handler<T, Site>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("a method of HTTP");
        let mut answer: MethodRouter<Site> = on(filter, handler);
        if let Needs::Role(role) = needs {
            let login = if path.starts_with("/api/") || path == "/metrics" { Login::Refuse } else { Login::Redirect };
            answer =
                answer.layer(middleware::from_fn(move |request, next| access::require(role, login, request, next)));
        }
        self.table.push(Route { method, path, needs });
        self.router = self.router.route(path, answer);
        self
    }

    /// Those of another part too.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.table.extend(other.table);
        self.router = self.router.merge(other.router);
        self
    }

    /// What there is.
    pub fn table(&self) -> &[Route] {
        &self.table
    }

    /// What serves them, for everybody who is let in.
    pub fn into_router(self, site: Site) -> Router {
        let counting = Counting::new(site.counts.clone(), self.table.iter().map(|route| route.path));
        self.router
            .fallback(access::nothing_here)
            .method_not_allowed_fallback(access::not_allowed)
            .layer(middleware::from_fn_with_state(site.clone(), access::trace))
            .layer(middleware::from_fn_with_state(site.clone(), access::authenticate))
            .layer(middleware::from_fn_with_state(site.clone(), pages::readable))
            .layer(middleware::from_fn(access::headers))
            .layer(CompressionLayer::new().compress_when(worth_compressing))
            .layer(middleware::from_fn_with_state(counting, metrics::count))
            .with_state(site)
    }
}

/// Pages, of which one with a thousand tiles is fetched again with every change, also by a phone. What goes on without end would
/// wait in the compressor.
fn worth_compressing(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"))
}

/// All that is served.
pub fn all() -> Routes {
    access::routes().merge(health::routes()).merge(metrics::routes()).merge(api::routes()).merge(pages::routes())
}
