//! The place in a trace that the work at hand belongs to, along one task of tokio: what it spawns starts without one.

use berth_proto::trace::TraceContext;

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// Where the caller's work belongs; `None` when it is not traced.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|context| *context).ok()
}

/// Does `work` as part of a trace, or as part of none.
pub async fn within<F: Future>(context: Option<TraceContext>, work: F) -> F::Output {
    match context {
        Some(context) => CURRENT.scope(context, work).await,
        None => work.await,
    }
}
