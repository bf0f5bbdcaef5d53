//! Volumes, by name. Their files are on the nodes.

use axum::extract::{RawQuery, State};
use axum::http::Method;
use berth_manager::api::find;
use berth_proto::filter;
use berth_proto::object::{self, ObjectKind};
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::spec::VolumeSpec;
use berth_proto::state::ApiRole;

use super::answer::{Answer, By, created, shown, tagged};
use super::describe::{Api, Op};
use super::input::{Condition, Json, Word};
use super::model::Volume;
use super::{list, removal};
use crate::problem::refused;
use crate::site::Site;

const TAG: &str = "volumes";
const PLACE: &str = "/api/v1/volumes";

/// Volumes. What they are is for life.
pub fn api() -> Api {
    let one = |id: &str, summary: &str| Op::new(TAG, id, summary).word("volume");
    Api::default()
        .add(
            Method::GET,
            PLACE,
            ApiRole::Viewer,
            list_volumes,
            Op::new(TAG, "list_volumes", "Volumes").pages::<Volume>(&filter::VOLUME),
        )
        .add(
            Method::POST,
            PLACE,
            ApiRole::Operator,
            create,
            Op::new(TAG, "create_volume", "Make a volume").takes::<VolumeSpec>(true).creates::<Volume>("The volume"),
        )
        .add(
            Method::GET,
            "/api/v1/volumes/{volume}",
            ApiRole::Viewer,
            get,
            one("get_volume", "One volume").stale().answers_tagged::<Volume>("The volume"),
        )
        .add(
            Method::DELETE,
            "/api/v1/volumes/{volume}",
            ApiRole::Operator,
            remove,
            one("remove_volume", "Remove a volume that nothing uses")
                .if_match(false)
                .writes()
                .answers_nothing("It is gone"),
        )
}

async fn list_volumes(State(site): State<Site>, RawQuery(query): RawQuery) -> Answer {
    let asked = list::read(query.as_deref(), &filter::VOLUME)?;
    let state = site.state(asked.stale).await?;
    let wants = |volume: &&object::Volume| {
        let spec = &volume.spec;
        asked.filters.volume(&spec.name, &spec.driver, spec.stack.as_deref(), &spec.labels)
    };
    let all = state.volumes().map(|volume| &**volume);
    Ok(shown(&asked.page(state.index(), all, |volume| volume.id, wants, Volume::new)?))
}

async fn get(State(site): State<Site>, Word(word): Word, RawQuery(query): RawQuery) -> Answer {
    let state = site.state_for(query.as_deref()).await?;
    let volume = find::volume(&state, &word).map_err(refused)?;
    Ok(tagged(volume.meta.version, &Volume::new(volume)))
}

async fn create(State(site): State<Site>, by: By, Json(spec): Json<VolumeSpec>) -> Answer {
    let request = pb::VolumeCreateRequest { spec: Some((&spec).into()) };
    let id = site.control.volume_create(by.asks(request)).await?.into_inner().id;
    let state = site.manager.hub.snapshot();
    let volume = find::volume(&state, &id).map_err(refused)?;
    created(PLACE, volume.id, volume.meta.version, &Volume::new(volume))
}

async fn remove(State(site): State<Site>, Word(word): Word, condition: Condition, by: By) -> Answer {
    let state = site.state(false).await?;
    let volume = find::volume(&state, &word).map_err(refused)?;
    removal::remove(&site, &by, ObjectKind::Volume, volume.id.into(), condition.version(volume.meta.version)?).await
}
