//! Networks.

use axum::extract::{RawQuery, State};
use axum::http::Method;
use berth_manager::api::find;
use berth_proto::filter;
use berth_proto::object::{self, ObjectKind};
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::spec::NetworkSpec;
use berth_proto::state::ApiRole;

use super::answer::{Answer, By, created, shown, tagged};
use super::describe::{Api, Op};
use super::input::{Condition, Json, Word};
use super::model::Network;
use super::{list, removal};
use crate::problem::refused;
use crate::site::Site;

const TAG: &str = "networks";
const PLACE: &str = "/api/v1/networks";

/// Networks. What they are is for life: the tasks on them hold on to it.
pub fn api() -> Api {
    let one = |id: &str, summary: &str| Op::new(TAG, id, summary).word("network");
    Api::default()
        .add(
            Method::GET,
            PLACE,
            ApiRole::Viewer,
            list_networks,
            Op::new(TAG, "list_networks", "Networks").pages::<Network>(&filter::NETWORK),
        )
        .add(
            Method::POST,
            PLACE,
            ApiRole::Operator,
            create,
            Op::new(TAG, "create_network", "Make a network")
                .takes::<NetworkSpec>(true)
                .creates::<Network>("The network"),
        )
        .add(
            Method::GET,
            "/api/v1/networks/{network}",
            ApiRole::Viewer,
            get,
            one("get_network", "One network, and who is on it").stale().answers_tagged::<Network>("The network"),
        )
        .add(
            Method::DELETE,
            "/api/v1/networks/{network}",
            ApiRole::Operator,
            remove,
            one("remove_network", "Remove a network that nothing uses")
                .if_match(false)
                .writes()
                .answers_nothing("It is gone"),
        )
}

async fn list_networks(State(site): State<Site>, RawQuery(query): RawQuery) -> Answer {
    let asked = list::read(query.as_deref(), &filter::NETWORK)?;
    let state = site.state(asked.stale).await?;
    let wants = |network: &&object::Network| asked.filters.network(network);
    let all = state.networks().map(|network| &**network);
    Ok(shown(&asked.page(state.index(), all, |network| network.id, wants, Network::new)?))
}

async fn get(State(site): State<Site>, Word(word): Word, RawQuery(query): RawQuery) -> Answer {
    let state = site.state_for(query.as_deref()).await?;
    let network = find::network(&state, &word).map_err(refused)?;
    Ok(tagged(network.meta.version, &Network::new(network).with_attached(&state)))
}

async fn create(State(site): State<Site>, by: By, Json(spec): Json<NetworkSpec>) -> Answer {
    let request = pb::NetworkCreateRequest { spec: Some((&spec).into()) };
    let id = site.control.network_create(by.asks(request)).await?.into_inner().id;
    let state = site.manager.hub.snapshot();
    let network = find::network(&state, &id).map_err(refused)?;
    created(PLACE, network.id, network.meta.version, &Network::new(network))
}

async fn remove(State(site): State<Site>, Word(word): Word, condition: Condition, by: By) -> Answer {
    let state = site.state(false).await?;
    let network = find::network(&state, &word).map_err(refused)?;
    removal::remove(&site, &by, ObjectKind::Network, network.id.into(), condition.version(network.meta.version)?).await
}
