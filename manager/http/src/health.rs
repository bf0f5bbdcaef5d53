//! `/healthz`: the process answers. `/readyz`: this manager knows a leader, and what it shows is what was committed.

use std::time::Duration;

use axum::extract::State;
use axum::http::{Method, StatusCode};
use berth_manager::manager::ControlHandle;

use crate::problem::Problem;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// How long the leader may take to say what is committed, and that to come here.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is answered when all is well.
pub(crate) const ALIVE: &str = "ok\n";
/// The same of `/readyz`.
pub(crate) const READY: &str = "ready\n";

/// Both, for everybody.
pub fn routes() -> Routes {
    Routes::default().add(Method::GET, "/healthz", Needs::Nothing, || async { ALIVE }).add(
        Method::GET,
        "/readyz",
        Needs::Nothing,
        ready,
    )
}

async fn ready(State(site): State<Site>) -> Result<&'static str, Problem> {
    is_ready(&site.manager).await.map(|()| READY)
}

async fn is_ready(manager: &ControlHandle) -> Result<(), Problem> {
    if manager.members.view().leader.is_none() {
        return Err(not_ready("this manager knows no leader"));
    }
    match tokio::time::timeout(PATIENCE, manager.forward.linearizable()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(not_ready(format!("this manager cannot tell what is committed: {error}"))),
        Err(_) => Err(not_ready("this manager has not caught up with the leader")),
    }
}

/// It lives, and is not to be sent to yet.
pub(crate) fn not_ready(why: impl Into<String>) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)
}
