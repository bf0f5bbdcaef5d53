//! Services: lists, specs, and what is done with them.

use axum::extract::{RawQuery, State};
use axum::http::Method;
use berth_manager::api::find;
use berth_manager::store;
use berth_proto::filter;
use berth_proto::id::ServiceId;
use berth_proto::object;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::pb::service_scale_request::Target;
use berth_proto::spec::ServiceSpec;
use berth_proto::state::ApiRole;

use super::answer::{Answer, By, created, declined, internal, nothing, shown, tagged};
use super::describe::{Api, Op};
use super::input::{Condition, Json, Word};
use super::list;
use super::model::{Scale, Service};
use crate::problem::{Problem, refused};
use crate::site::Site;

const TAG: &str = "services";
const PLACE: &str = "/api/v1/services";

/// Services.
pub fn api() -> Api {
    let (viewer, operator) = (ApiRole::Viewer, ApiRole::Operator);
    let one = |id: &str, summary: &str| Op::new(TAG, id, summary).word("service");
    let act = |id: &str, summary: &str| one(id, summary).writes().answers_tagged::<Service>("The service");
    let again = "Its tasks are replaced by new ones of the same spec, by the rules of an update.";
    Api::default()
        .add(
            Method::GET,
            PLACE,
            viewer,
            list_services,
            Op::new(TAG, "list_services", "Services").pages::<Service>(&filter::SERVICE),
        )
        .add(
            Method::POST,
            PLACE,
            operator,
            create,
            Op::new(TAG, "create_service", "Make a service")
                .takes::<ServiceSpec>(true)
                .creates::<Service>("The service"),
        )
        .add(
            Method::GET,
            "/api/v1/services/{service}",
            viewer,
            get,
            one("get_service", "One service").stale().answers_tagged::<Service>("The service"),
        )
        .add(
            Method::PUT,
            "/api/v1/services/{service}",
            operator,
            replace,
            act("replace_service", "Give a service another spec").takes::<ServiceSpec>(true).if_match(true),
        )
        .add(
            Method::DELETE,
            "/api/v1/services/{service}",
            operator,
            remove,
            one("remove_service", "Remove a service")
                .about("Its tasks are stopped; it is gone when they are.")
                .if_match(false)
                .writes()
                .answers_nothing("It is being removed"),
        )
        .add(
            Method::POST,
            "/api/v1/services/{service}/scale",
            operator,
            scale,
            act("scale_service", "Change how many tasks it has").takes::<Scale>(true),
        )
        .add(
            Method::POST,
            "/api/v1/services/{service}/rollback",
            operator,
            roll_back,
            act("roll_back_service", "Go back to the spec before"),
        )
        .add(
            Method::POST,
            "/api/v1/services/{service}/restart",
            operator,
            restart,
            act("restart_service", "Replace all its tasks").about(again),
        )
}

async fn list_services(State(site): State<Site>, RawQuery(query): RawQuery) -> Answer {
    let asked = list::read(query.as_deref(), &filter::SERVICE)?;
    let state = site.state(asked.stale).await?;
    let wants = |service: &&object::Service| asked.filters.service(service);
    let all = state.services().map(|service| &**service);
    Ok(shown(&asked.page(state.index(), all, |service| service.id, wants, |service| Service::new(service, &state))?))
}

async fn get(State(site): State<Site>, Word(word): Word, RawQuery(query): RawQuery) -> Answer {
    let state = site.state_for(query.as_deref()).await?;
    answer(&state, find::service(&state, &word).map_err(refused)?)
}

fn answer(state: &store::State, service: &object::Service) -> Answer {
    Ok(tagged(service.meta.version, &Service::new(service, state)))
}

/// The service as it is after a write.
fn after(site: &Site, id: &str) -> Answer {
    let state = site.manager.hub.snapshot();
    answer(&state, find::service(&state, id).map_err(refused)?)
}

async fn create(State(site): State<Site>, by: By, Json(spec): Json<ServiceSpec>) -> Answer {
    let request = pb::ServiceCreateRequest { spec: Some((&spec).into()) };
    let id = site.control.service_create(by.asks(request)).await?.into_inner().id;
    let state = site.manager.hub.snapshot();
    let service = find::service(&state, &id).map_err(refused)?;
    created(PLACE, service.id, service.meta.version, &Service::new(service, &state))
}

async fn replace(
    State(site): State<Site>,
    Word(word): Word,
    condition: Condition,
    by: By,
    Json(spec): Json<ServiceSpec>,
) -> Answer {
    let (id, version, _) = found(&site, &word, |current| condition.required(current)).await?;
    write(&site, &by, id, version, &spec, false).await
}

/// Id and expected version of a service, and the service.
async fn found(
    site: &Site,
    word: &str,
    version: impl FnOnce(u64) -> Result<u64, Problem>,
) -> Result<(ServiceId, u64, std::sync::Arc<object::Service>), Problem> {
    let state = site.state(false).await?;
    let service = find::service(&state, word).map_err(refused)?;
    Ok((service.id, version(service.meta.version)?, std::sync::Arc::clone(service)))
}

async fn write(site: &Site, by: &By, id: ServiceId, version: u64, spec: &ServiceSpec, force: bool) -> Answer {
    let request = pb::ServiceUpdateRequest { id: id.to_string(), version, spec: Some(spec.into()), force };
    let done = site.control.service_update(by.asks(request)).await;
    done.map_err(|status| declined(status, || current(site, id)))?;
    after(site, &id.to_string())
}

fn current(site: &Site, id: ServiceId) -> Option<u64> {
    site.manager.hub.snapshot().service(id).map(|service| service.meta.version)
}

async fn remove(State(site): State<Site>, Word(word): Word, condition: Condition, by: By) -> Answer {
    let (id, version, _) = found(&site, &word, |current| condition.version(current)).await?;
    let request = pb::ServiceRemoveRequest { ids: vec![id.to_string()], version };
    let done = site.control.service_remove(by.asks(request)).await;
    done.map_err(|status| declined(status, || current(&site, id)))?;
    Ok(nothing())
}

async fn scale(State(site): State<Site>, Word(word): Word, by: By, Json(scale): Json<Scale>) -> Answer {
    let target = Target { service: word, replicas: scale.replicas };
    let done = site.control.service_scale(by.asks(pb::ServiceScaleRequest { targets: vec![target] })).await?;
    let scaled = done.into_inner().services.pop().ok_or_else(|| internal("the service was removed meanwhile"))?;
    after(&site, &scaled.id)
}

async fn roll_back(State(site): State<Site>, Word(word): Word, by: By) -> Answer {
    let done = site.control.service_rollback(by.asks(pb::ServiceRollbackRequest { id: word })).await?;
    after(&site, &done.into_inner().id)
}

/// How often a restart is tried again when the service changes under it.
const ATTEMPTS: usize = 5;

async fn restart(State(site): State<Site>, Word(word): Word, by: By) -> Answer {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let (id, version, service) = found(&site, &word, Ok).await?;
        match write(&site, &by, id, version, &service.spec, true).await {
            Err(problem) if problem.status == 412 && attempts < ATTEMPTS => {}
            done => return done,
        }
    }
}
