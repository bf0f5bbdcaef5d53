//! What a node serves that is no manager: `/healthz`, `/readyz` (it has a session with a manager), and what is to be known of the
//! machine, for viewers.
//!
//! The tokens are those of the cluster. A worker has none of them: a manager is asked, by digest, and its word counts for a little
//! while. So one token reads the metrics of all nodes, and one that was taken away is refused everywhere soon after. Whatever
//! comes over TLS or from this machine is asked for a token all the same.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, http::HeaderMap};
use berth_manager::identity::throttle::Throttle;
use berth_proto::state::ApiRole;
use berth_proto::time::Timestamp;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::access::{self, Caller, Claim, ClientCertificate, Login, Shown};
use crate::health::{ALIVE, READY, not_ready};
use crate::problem::Problem;

/// For how long a manager's word about a token counts.
const TRUSTED: Duration = Duration::from_secs(15);

/// A name and what it may do.
pub type Known = (Arc<str>, ApiRole);

/// The way to who knows the tokens.
pub trait Tokens: Send + Sync + 'static {
    /// The token with this digest (SHA-256), if there is one that is good. The error says why nobody could be asked.
    fn find(&self, digest: [u8; 32]) -> BoxFuture<'static, Result<Option<Known>, String>>;

    /// Whether this node has a session with a manager.
    fn has_session(&self) -> bool;
}

/// Tokens that a manager knew, by digest, and when it said so.
type Knowledge = HashMap<[u8; 32], (Known, Instant)>;

/// What the handlers of a worker have at hand. Clones share everything.
#[derive(Clone)]
pub struct Worker {
    tokens: Arc<dyn Tokens>,
    /// There are no more of them than of tokens.
    known: Arc<Mutex<Knowledge>>,
    throttle: Arc<Mutex<Throttle>>,
}

impl Worker {
    /// A worker that asks there.
    pub fn new(tokens: Arc<dyn Tokens>) -> Self {
        Self { tokens, known: Arc::default(), throttle: Arc::default() }
    }

    /// Everything that it serves. `for_viewers` is what takes a token of any role.
    pub fn router(self, for_viewers: Router<Self>) -> Router {
        let viewers =
            middleware::from_fn(|request, next| access::require(ApiRole::Viewer, Login::Refuse, request, next));
        Router::new()
            .merge(for_viewers.layer(viewers).layer(middleware::from_fn_with_state(self.clone(), authenticate)))
            .route("/healthz", get(|| async { ALIVE }))
            .route("/readyz", get(ready))
            .fallback(nothing_here)
            .layer(middleware::from_fn(access::headers))
            .with_state(self)
    }

    async fn identify(
        &self,
        headers: &HeaderMap,
        certificate: Option<&ClientCertificate>,
        from: Option<SocketAddr>,
    ) -> Result<Option<Caller>, Problem> {
        let claim = Claim::read(headers, certificate);
        let now: Timestamp = SystemTime::now().into();
        if claim == Claim::None {
            return Ok(None);
        }
        let from = from.map(|from| from.ip());
        if from.is_some_and(|from| !self.throttle().allows(from, now)) {
            return Err(access::too_many());
        }
        let found = match claim.digest() {
            None => None,
            Some((digest, shown)) => self.find(digest).await?.map(|(name, role)| Caller { name, role, shown, digest }),
        };
        match (found, claim) {
            (Some(caller), _) => Ok(Some(caller)),
            (None, Claim::Token(_, Shown::Header) | Claim::Malformed) => {
                from.into_iter().for_each(|from| self.throttle().failed(from, now));
                Err(access::not_valid())
            }
            (None, _) => {
                from.into_iter().for_each(|from| self.throttle().failed(from, now));
                Ok(None)
            }
        }
    }

    async fn find(&self, digest: [u8; 32]) -> Result<Option<Known>, Problem> {
        {
            let mut known = self.known();
            known.retain(|_, (_, at)| at.elapsed() < TRUSTED);
            if let Some((known, _)) = known.get(&digest) {
                return Ok(Some(known.clone()));
            }
        }
        let unsaid =
            |why: String| not_ready(format!("no manager says whose token this is: {why}")).hint("ask a manager itself");
        let found = self.tokens.find(digest).await.map_err(unsaid)?;
        if let Some(found) = &found {
            self.known().insert(digest, (found.clone(), Instant::now()));
        }
        Ok(found)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<[u8; 32], (Known, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn authenticate(State(worker): State<Worker>, mut request: Request, next: Next) -> Response {
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let certificate = request.extensions().get::<ClientCertificate>().cloned();
    match worker.identify(request.headers(), certificate.as_ref(), from).await {
        Ok(Some(caller)) => drop(request.extensions_mut().insert(Arc::new(caller))),
        Ok(None) => {}
        Err(problem) => return problem.into_response(),
    }
    next.run(request).await
}

async fn ready(State(worker): State<Worker>) -> Result<&'static str, Problem> {
    if worker.tokens.has_session() { Ok(READY) } else { Err(not_ready("this node has no session with a manager")) }
}

async fn nothing_here(request: Request) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("nothing is served at {} on a worker", request.uri().path()))
        .hint("the API and the dashboard are on the managers: berth node ls")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::Body;
    use berth_manager::api::token::digest_of_text;
    use futures::FutureExt;
    use futures::future::ready;
    use tower::ServiceExt;

    use super::*;

    const GOOD: &str = "berth_api_aaaaaaaaaaaaaaaaaaaaaaaaa";

    /// Knows one token, and counts how often it is asked.
    #[derive(Default)]
    struct Managers {
        asked: AtomicUsize,
        is_away: bool,
    }

    impl Tokens for Managers {
        fn find(&self, digest: [u8; 32]) -> BoxFuture<'static, Result<Option<Known>, String>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let known = (digest_of_text(GOOD) == Some(digest)).then(|| ("prometheus".into(), ApiRole::Viewer));
            ready(if self.is_away { Err("none answers".to_owned()) } else { Ok(known) }).boxed()
        }

        fn has_session(&self) -> bool {
            !self.is_away
        }
    }

    fn router(managers: &Arc<Managers>) -> Router {
        let more = Router::new().route("/figures", get(|| async { "figures" }));
        Worker::new(Arc::<Managers>::clone(managers)).router(more)
    }

    async fn ask(router: &Router, path: &str, token: Option<&str>) -> u16 {
        let mut request = Request::get(path).extension(ConnectInfo(SocketAddr::from(([10, 0, 0, 1], 5))));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn a_manager_is_asked_once_about_a_token_and_every_time_about_none() {
        let managers = Arc::new(Managers::default());
        let router = router(&managers);
        for (path, token, status) in [
            ("/healthz", None, 200),
            ("/readyz", None, 200),
            ("/figures", None, 401),
            ("/figures", Some(GOOD), 200),
            ("/figures", Some(GOOD), 200),
            ("/figures", Some("berth_api_b"), 401),
            ("/figures", Some("anything"), 401),
            ("/", Some(GOOD), 404),
            ("/api/v1/nodes", Some(GOOD), 404),
        ] {
            assert_eq!(ask(&router, path, token).await, status, "{path} {token:?}");
        }
        assert_eq!(managers.asked.load(Ordering::Relaxed), 2, "once about each that has the form of a token");
    }

    #[tokio::test]
    async fn without_a_manager_nobody_is_let_in_and_it_is_not_ready() {
        let router = router(&Arc::new(Managers { is_away: true, ..Managers::default() }));
        assert_eq!(ask(&router, "/figures", Some(GOOD)).await, 503);
        assert_eq!((ask(&router, "/readyz", None).await, ask(&router, "/healthz", None).await), (503, 200));
    }

    #[tokio::test]
    async fn who_tries_too_many_has_to_wait() {
        let managers = Arc::new(Managers::default());
        let router = router(&managers);
        for number in 0..10 {
            assert_eq!(ask(&router, "/figures", Some(&format!("berth_api_{number}"))).await, 401);
        }
        assert_eq!(ask(&router, "/figures", Some("berth_api_x")).await, 429);
        assert_eq!(managers.asked.load(Ordering::Relaxed), 10, "the managers are spared");
    }
}
