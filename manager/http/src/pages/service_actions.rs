//! What is done with a service from its page. Each goes to the control API under the visitor's name.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::Method;
use berth_manager::api::find;
use berth_proto::object::Service;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::spec::{FailureAction, ServiceSpec, UpdateOrder};
use berth_proto::state::ApiRole;
use berth_proto::time::duration;
use serde::Deserialize;

use super::answer::{Answer, done, go_to, newest};
use super::fields::{Fields, wrong};
use super::links::found;
use super::services::scale as replicas_of;
use super::visitor::Visitor;
use crate::problem::Problem;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// The actions.
pub fn routes() -> Routes {
    let needs = Needs::Role(ApiRole::Operator);
    Routes::default()
        .add(Method::POST, "/services/{id}/scale", needs, scale)
        .add(Method::POST, "/services/{id}/update", needs, update)
        .add(Method::POST, "/services/{id}/rollback", needs, roll_back)
        .add(Method::POST, "/services/{id}/restart", needs, restart)
        .add(Method::POST, "/services/{id}/remove", needs, remove)
}

/// How many replicas: so many, or so many more.
#[derive(Deserialize)]
struct Scale {
    replicas: Option<u64>,
    /// Of the buttons beside the number: they count from what is, not from what the page shows.
    by: Option<i64>,
}

async fn scale(
    State(site): State<Site>,
    visitor: Visitor,
    Path(word): Path<String>,
    Fields(Scale { replicas, by }): Fields<Scale>,
) -> Answer {
    let service = service(&site, &word).await?;
    let replicas = match (by, replicas) {
        (Some(by), _) => replicas_of(&service).unwrap_or_default().saturating_add_signed(by),
        (None, Some(replicas)) => replicas,
        (None, None) => return Err(wrong("replicas", "say how many")),
    };
    let target = pb::service_scale_request::Target { service: service.id.to_string(), replicas };
    site.control.service_scale(visitor.ask(pb::ServiceScaleRequest { targets: vec![target] })).await?;
    let name = &service.spec.name;
    done(
        &visitor,
        &path(&service),
        &format!("{name} is to have {}.", super::human::count(replicas as usize, "replica")),
    )
}

/// Another image, and how it is rolled out.
#[derive(Deserialize)]
struct Update {
    version: u64,
    image: String,
    parallelism: u64,
    delay: String,
    monitor: String,
    order: String,
    failure: String,
}

impl Update {
    /// The spec as the form wants it.
    fn of(&self, spec: &ServiceSpec) -> Result<ServiceSpec, Problem> {
        let time = |path: &str, text: &str| {
            duration::parse(text.trim()).ok_or_else(|| wrong(path, format!("{text:?} is no time such as 10s or 1m30s")))
        };
        let mut spec = spec.clone();
        self.image.trim().clone_into(&mut spec.task.container.image);
        spec.update.parallelism = self.parallelism;
        spec.update.delay = time("delay", &self.delay)?;
        spec.update.monitor = time("monitor", &self.monitor)?;
        spec.update.order = match self.order.as_str() {
            "stop-first" => UpdateOrder::StopFirst,
            "start-first" => UpdateOrder::StartFirst,
            other => return Err(wrong("order", format!("{other:?} is neither stop-first nor start-first"))),
        };
        spec.update.failure_action = match self.failure.as_str() {
            "pause" => FailureAction::Pause,
            "rollback" => FailureAction::Rollback,
            "continue" => FailureAction::Continue,
            other => return Err(wrong("failure", format!("{other:?} is none of pause, rollback, continue"))),
        };
        Ok(spec)
    }
}

async fn update(
    State(site): State<Site>,
    visitor: Visitor,
    Path(word): Path<String>,
    Fields(wanted): Fields<Update>,
) -> Answer {
    let service = service(&site, &word).await?;
    let spec = wanted.of(&service.spec)?;
    write(&site, &visitor, &service, wanted.version, &spec, false).await?;
    let name = &service.spec.name;
    done(&visitor, &path(&service), &format!("{name} is to run {}.", spec.task.container.image))
}

/// Which version the page has shown.
#[derive(Deserialize)]
struct Seen {
    version: u64,
}

async fn restart(
    State(site): State<Site>,
    visitor: Visitor,
    Path(word): Path<String>,
    Fields(seen): Fields<Seen>,
) -> Answer {
    let service = service(&site, &word).await?;
    write(&site, &visitor, &service, seen.version, &service.spec, true).await?;
    done(&visitor, &path(&service), &format!("The tasks of {} are replaced.", service.spec.name))
}

async fn roll_back(State(site): State<Site>, visitor: Visitor, Path(word): Path<String>) -> Answer {
    let service = service(&site, &word).await?;
    site.control.service_rollback(visitor.ask(pb::ServiceRollbackRequest { id: service.id.to_string() })).await?;
    done(&visitor, &path(&service), &format!("{} goes back to the spec before.", service.spec.name))
}

async fn remove(State(site): State<Site>, visitor: Visitor, Path(word): Path<String>) -> Answer {
    let service = service(&site, &word).await?;
    let ids = vec![service.id.to_string()];
    site.control.service_remove(visitor.ask(pb::ServiceRemoveRequest { ids, version: 0 })).await?;
    go_to(&visitor, "/services")
}

/// Writes a spec that was made from the version that the page has shown: another one is refused.
async fn write(
    site: &Site,
    visitor: &Visitor,
    service: &Service,
    version: u64,
    spec: &ServiceSpec,
    force: bool,
) -> Result<(), Problem> {
    let request = pb::ServiceUpdateRequest { id: service.id.to_string(), version, spec: Some(spec.into()), force };
    site.control.service_update(visitor.ask(request)).await?;
    Ok(())
}

async fn service(site: &Site, word: &str) -> Result<Arc<Service>, Problem> {
    let state = newest(site).await?;
    Ok(Arc::clone(found(find::service(&state, word))?))
}

fn path(service: &Service) -> String {
    format!("/services/{}", service.id)
}

#[cfg(test)]
mod tests {
    use berth_proto::spec::ContainerSpec;

    use super::*;

    #[test]
    fn a_form_changes_what_it_shows_and_nothing_else() {
        let mut spec = ServiceSpec::new("web".parse().expect("a name"), ContainerSpec::default());
        spec.priority = 7;
        let form = |delay: &str, order: &str| Update {
            version: 1,
            image: " app:2 ".to_owned(),
            parallelism: 2,
            delay: delay.to_owned(),
            monitor: "3s".to_owned(),
            order: order.to_owned(),
            failure: "rollback".to_owned(),
        };
        let made = form("1m30s", "start-first").of(&spec).expect("a good form");
        assert_eq!((made.task.container.image.as_str(), made.priority), ("app:2", 7));
        assert_eq!((made.update.delay.as_secs(), made.update.order), (90, UpdateOrder::StartFirst));
        let refused = form("soon", "start-first").of(&spec).expect_err("no time");
        assert_eq!((refused.status, refused.errors[0].path.as_str()), (422, "delay"));
        assert!(form("1s", "both").of(&spec).is_err());
    }
}
