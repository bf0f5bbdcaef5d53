//! `/metrics`: what Prometheus scrapes. And what is counted of HTTP itself.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use berth_metrics::{Counters, Family, Format, Gauge, Registry, Scrape, Timings, Words, buckets, counters};
use berth_proto::state::ApiRole;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::routes::{Needs, Routes};
use crate::site::Site;
use crate::worker::Worker;

/// What stands for the path of a request that fits no route.
const NO_ROUTE: &str = "none";

/// `GET /metrics`, in the text format that is asked for.
pub fn routes() -> Routes {
    Routes::default().add(Method::GET, "/metrics", Needs::Role(ApiRole::Viewer), scrape)
}

async fn scrape(State(site): State<Site>, headers: HeaderMap) -> Response {
    answer(&site.metrics, &headers).await
}

/// The same on a worker, for whoever it lets in.
pub fn of_worker(scrape: Scrape) -> Router<Worker> {
    let scrape = Arc::new(scrape);
    Router::new().route("/metrics", get(move |headers: HeaderMap| async move { answer(&scrape, &headers).await }))
}

/// The answer to a scrape.
async fn answer(scrape: &Scrape, headers: &HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::accepted(&accept.collect::<Vec<_>>().join(","));
    ([(header::CONTENT_TYPE, format.media_type())], scrape.text(format).await).into_response()
}

/// What is counted of HTTP; clones count together.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    requests: Counters<3>,
    seconds: Timings<1>,
    open: Family<Words<1>, Gauge>,
    refused: Counters<1>,
}

/// Why somebody was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginFailure {
    /// A token that is none, or is none any more.
    WrongToken,
    /// Too many wrong ones from one address.
    TooMany,
}

impl LoginFailure {
    fn as_str(self) -> &'static str {
        match self {
            Self::WrongToken => "wrong_token",
            Self::TooMany => "too_many",
        }
    }
}

impl HttpMetrics {
    /// Counts nothing yet.
    pub fn register(registry: &mut Registry) -> Self {
        let reasons = [LoginFailure::WrongToken, LoginFailure::TooMany].map(LoginFailure::as_str);
        let metrics = Self {
            requests: Counters::default(),
            seconds: Timings::new_with_constructor(buckets::fast),
            open: Family::default(),
            refused: counters("reason", reasons),
        };
        let help = "Requests by HTTP that were answered, by route, method and class of the status";
        registry.register("berth_http_requests", help, metrics.requests.clone());
        let help = "Time until the answer to a request by HTTP begins";
        registry.register("berth_http_request_seconds", help, metrics.seconds.clone());
        let help = "Answers by HTTP under way; watches and logs are answers for as long as they are followed";
        registry.register("berth_http_open_answers", help, metrics.open.clone());
        registry.register("berth_http_login_failures", "Who was not let in, by reason", metrics.refused.clone());
        metrics
    }

    /// Somebody was not let in.
    pub fn login_failed(&self, why: LoginFailure) {
        self.refused.get_or_create(&[("reason", why.as_str())]).inc();
    }

    fn opened(&self, route: &'static str) -> Open {
        let open = self.open.get_or_create_owned(&[("route", route)]);
        open.inc();
        Open(open)
    }

    fn answered(&self, route: &'static str, method: &'static str, status: StatusCode, began: Instant) {
        let class = match status.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        };
        self.requests.get_or_create(&[("route", route), ("method", method), ("status", class)]).inc();
        self.seconds.get_or_create(&[("route", route)]).observe(began.elapsed().as_secs_f64());
    }
}

/// Counts by routes of the table.
#[derive(Clone)]
pub(crate) struct Counting {
    metrics: HttpMetrics,
    paths: Arc<HashSet<&'static str>>,
}

impl Counting {
    /// By these routes; what fits none of them is counted together.
    pub fn new(metrics: HttpMetrics, paths: impl Iterator<Item = &'static str>) -> Self {
        Self { metrics, paths: Arc::new(paths.collect()) }
    }

    fn route(&self, request: &Request) -> &'static str {
        let path = request.extensions().get::<MatchedPath>();
        path.and_then(|path| self.paths.get(path.as_str())).copied().unwrap_or(NO_ROUTE)
    }
}

/// Counts a request and its answer, until that has come to its end.
pub(crate) async fn count(State(counting): State<Counting>, request: Request, next: Next) -> Response {
    let (route, method, began) = (counting.route(&request), word(request.method()), Instant::now());
    let open = counting.metrics.opened(route);
    let response = next.run(request).await;
    counting.metrics.answered(route, method, response.status(), began);
    response.map(|body| Body::new(Held { body, _open: open }))
}

/// Methods that have routes; whatever else a client makes up is counted together.
fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// An answer under way.
struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A body that counts as open until it is dropped.
struct Held {
    body: Body,
    _open: Open,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
