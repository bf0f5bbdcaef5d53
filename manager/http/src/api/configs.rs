//! Configs.

use axum::extract::{RawQuery, State};
use axum::http::{Method, StatusCode};
use berth_manager::api::find;
use berth_proto::filter;
use berth_proto::object::{self, ObjectKind};
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::spec::ConfigSpec;
use berth_proto::state::ApiRole;

use super::answer::{Answer, By, created, declined, shown, tagged};
use super::describe::{Api, Op};
use super::input::{Condition, Json, Word};
use super::model::Config;
use super::{list, removal};
use crate::problem::{Problem, refused};
use crate::site::Site;

const TAG: &str = "configs";
const PLACE: &str = "/api/v1/configs";

/// Configs.
pub fn api() -> Api {
    let one = |id: &str, summary: &str| Op::new(TAG, id, summary).word("config");
    Api::default()
        .add(
            Method::GET,
            PLACE,
            ApiRole::Viewer,
            list_configs,
            Op::new(TAG, "list_configs", "Configs").pages::<Config>(&filter::FILE),
        )
        .add(
            Method::POST,
            PLACE,
            ApiRole::Operator,
            create,
            Op::new(TAG, "create_config", "Make a config").takes::<ConfigSpec>(true).creates::<Config>("The config"),
        )
        .add(
            Method::GET,
            "/api/v1/configs/{config}",
            ApiRole::Viewer,
            get,
            one("get_config", "One config, with its content").stale().answers_tagged::<Config>("The config"),
        )
        .add(
            Method::PUT,
            "/api/v1/configs/{config}",
            ApiRole::Operator,
            replace,
            one("replace_config", "Give a config another content")
                .about("Services that show it are updated to it, by their own rules.")
                .takes::<ConfigSpec>(true)
                .if_match(true)
                .writes()
                .answers_tagged::<Config>("The config"),
        )
        .add(
            Method::DELETE,
            "/api/v1/configs/{config}",
            ApiRole::Operator,
            remove,
            one("remove_config", "Remove a config that nothing uses")
                .if_match(false)
                .writes()
                .answers_nothing("It is gone"),
        )
}

async fn list_configs(State(site): State<Site>, RawQuery(query): RawQuery) -> Answer {
    let asked = list::read(query.as_deref(), &filter::FILE)?;
    let state = site.state(asked.stale).await?;
    let wants = |config: &&object::Config| {
        let spec = &config.spec;
        asked.filters.file(config.id, &spec.name, spec.stack.as_deref(), &spec.labels)
    };
    let all = state.configs().map(|config| &**config);
    Ok(shown(&asked.page(state.index(), all, |config| config.id, wants, Config::new)?))
}

async fn get(State(site): State<Site>, Word(word): Word, RawQuery(query): RawQuery) -> Answer {
    let state = site.state_for(query.as_deref()).await?;
    let config = find::config(&state, &word).map_err(refused)?;
    Ok(tagged(config.meta.version, &Config::with_data(config)))
}

async fn create(State(site): State<Site>, by: By, Json(spec): Json<ConfigSpec>) -> Answer {
    let request = pb::ConfigCreateRequest { spec: Some((&spec).into()) };
    let id = site.control.config_create(by.asks(request)).await?.into_inner().id;
    let state = site.manager.hub.snapshot();
    let config = find::config(&state, &id).map_err(refused)?;
    created(PLACE, config.id, config.meta.version, &Config::new(config))
}

async fn replace(
    State(site): State<Site>,
    Word(word): Word,
    condition: Condition,
    by: By,
    Json(spec): Json<ConfigSpec>,
) -> Answer {
    let state = site.state(false).await?;
    let config = find::config(&state, &word).map_err(refused)?;
    let (id, version) = (config.id, condition.required(config.meta.version)?);
    if spec.name != config.spec.name {
        let detail = format!("config {} cannot be renamed to {}", config.spec.name, spec.name);
        return Err(Problem::of_field(StatusCode::UNPROCESSABLE_ENTITY, "name", detail));
    }
    let request = pb::ConfigUpdateRequest { id: id.to_string(), version, spec: Some((&spec).into()) };
    let done = site.control.config_update(by.asks(request)).await;
    done.map_err(|status| declined(status, || site.manager.hub.snapshot().config(id).map(|one| one.meta.version)))?;
    let state = site.manager.hub.snapshot();
    let config = find::config(&state, &id.to_string()).map_err(refused)?;
    Ok(tagged(config.meta.version, &Config::new(config)))
}

async fn remove(State(site): State<Site>, Word(word): Word, condition: Condition, by: By) -> Answer {
    let state = site.state(false).await?;
    let config = find::config(&state, &word).map_err(refused)?;
    removal::remove(&site, &by, ObjectKind::Config, config.id.into(), condition.version(config.meta.version)?).await
}
