//! How long a stream may go on: until its token is not good any more, or the manager stops.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::access::Caller;
use crate::problem::Problem;
use crate::site::Site;

/// Streams of all kinds that are open at once.
pub const MOST_OPEN: usize = 2_000;
/// Between two looks at whether the token is still good.
const LOOK: Duration = Duration::from_secs(2);

/// Leave to go on. Each stream holds one for as long as it is open; it is one of [`MOST_OPEN`].
pub struct Lease {
    site: Site,
    caller: Arc<Caller>,
    _place: OwnedSemaphorePermit,
}

/// Why a stream ends that could go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The manager stops; another one goes on.
    Stopping,
    /// The token has expired, or was removed.
    NotGood,
}

impl From<Over> for Problem {
    fn from(over: Over) -> Self {
        match over {
            Over::Stopping => Self::new(StatusCode::SERVICE_UNAVAILABLE, "this manager is stopping")
                .hint("ask again, or ask another manager"),
            Over::NotGood => Self::new(StatusCode::UNAUTHORIZED, "this token is not valid any more")
                .hint("make one on a manager: berth token create NAME --role viewer|operator|admin"),
        }
    }
}

impl Lease {
    /// Returns once the stream has to end, and why. Owns what it needs.
    pub fn over(&self) -> impl Future<Output = Over> + Send + use<> {
        let (site, caller) = (self.site.clone(), Arc::clone(&self.caller));
        async move {
            loop {
                if !caller.is_good(&site.manager.hub.snapshot(), SystemTime::now().into()) {
                    return Over::NotGood;
                }
                tokio::select! {
                    biased;
                    // Cancel-safe, both: a token stays cancelled, and nothing is lost but time.
                    () = site.stop.cancelled() => return Over::Stopping,
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        }
    }
}

impl FromRequestParts<Site> for Lease {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, Problem> {
        let nobody = || Problem::new(StatusCode::UNAUTHORIZED, "this takes a token");
        let caller = Arc::clone(parts.extensions.get::<Arc<Caller>>().ok_or_else(nobody)?);
        let full = |_| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{MOST_OPEN} streams are open at this manager already"),
            )
            .hint("close some, or ask another manager")
        };
        let place = Arc::clone(site.streams.places()).try_acquire_owned().map_err(full)?;
        Ok(Self { site: site.clone(), caller, _place: place })
    }
}

/// As many as may be open.
pub fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MOST_OPEN))
}
