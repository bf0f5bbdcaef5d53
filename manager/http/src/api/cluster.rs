//! The cluster: its settings, its join tokens, its root certificate.

use axum::extract::{RawQuery, State};
use axum::http::Method;
use berth_manager::api::cluster as control;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::spec::ClusterSpec;
use berth_proto::state::{ApiRole, NodeRole};
use berth_proto::time::Timestamp;

use super::answer::{Answer, By, declined, shown, tagged};
use super::describe::{Api, Op};
use super::input::{Condition, Json, MaybeJson, Word};
use super::model::{CertificateRotation, Cluster, JoinToken, NewJoinToken};
use super::query::Query;
use crate::problem::{Problem, refused};
use crate::site::Site;

const TAG: &str = "cluster";

/// The cluster.
pub fn api() -> Api {
    let (viewer, admin) = (ApiRole::Viewer, ApiRole::Admin);
    let role = |id: &str, summary: &str| {
        let op = Op::new(TAG, id, summary).path("role", "worker or manager").problems(&[404]);
        op.answers::<JoinToken>(200, "The token, and where to join with it")
    };
    let certificates = |id: &str, summary: &str| {
        Op::new(TAG, id, summary).answers::<CertificateRotation>(200, "How the replacement of the root goes")
    };
    Api::default()
        .add(
            Method::GET,
            "/api/v1/cluster",
            viewer,
            get,
            Op::new(TAG, "get_cluster", "The cluster").stale().answers_tagged::<Cluster>("The cluster"),
        )
        .add(
            Method::PUT,
            "/api/v1/cluster",
            admin,
            replace,
            Op::new(TAG, "replace_cluster", "Change its settings")
                .takes::<ClusterSpec>(true)
                .if_match(true)
                .writes()
                .answers_tagged::<Cluster>("The cluster"),
        )
        .add(
            Method::GET,
            "/api/v1/cluster/join-tokens/{role}",
            admin,
            join_token,
            role("get_join_token", "What a machine joins with"),
        )
        .add(
            Method::POST,
            "/api/v1/cluster/join-tokens/{role}",
            admin,
            rotate_join_token,
            role("rotate_join_token", "Make another one; the one before is refused from then on")
                .takes::<NewJoinToken>(false)
                .writes(),
        )
        .add(
            Method::GET,
            "/api/v1/cluster/ca",
            admin,
            rotation,
            certificates("get_ca_rotation", "How the replacement of the root certificate goes"),
        )
        .add(
            Method::POST,
            "/api/v1/cluster/ca/rotate",
            admin,
            rotate,
            certificates("rotate_ca", "Begin to replace the root certificate").writes(),
        )
}

async fn get(State(site): State<Site>, RawQuery(query): RawQuery) -> Answer {
    let state = site.state_for(query.as_deref()).await?;
    let cluster = control::the(&state).map_err(refused)?;
    Ok(tagged(cluster.meta.version, &Cluster::new(cluster, &state)))
}

async fn replace(State(site): State<Site>, condition: Condition, by: By, Json(spec): Json<ClusterSpec>) -> Answer {
    let state = site.state(false).await?;
    let version = condition.required(control::the(&state).map_err(refused)?.meta.version)?;
    let done = site.control.cluster_update(by.asks(pb::ClusterUpdateRequest { version, spec: Some((&spec).into()) }));
    let current = || site.manager.hub.snapshot().cluster().map(|cluster| cluster.meta.version);
    done.await.map_err(|status| declined(status, current))?;
    let state = site.manager.hub.snapshot();
    let cluster = control::the(&state).map_err(refused)?;
    Ok(tagged(cluster.meta.version, &Cluster::new(cluster, &state)))
}

fn role_of(word: &str) -> Result<NodeRole, Problem> {
    word.parse().map_err(|error| Problem::new(axum::http::StatusCode::NOT_FOUND, format!("{error}")))
}

fn shape(token: pb::ClusterTokenResponse) -> JoinToken {
    let pb::ClusterTokenResponse { token, expires_at, managers } = token;
    JoinToken { token, expires_at: expires_at.map(Timestamp), managers }
}

async fn join_token(State(site): State<Site>, Word(word): Word, RawQuery(query): RawQuery) -> Answer {
    Query::parse(query.as_deref(), &[])?;
    let role = role_of(&word)?;
    let state = site.state(false).await?;
    Ok(shown(&shape(control::token(&state, role).map_err(refused)?)))
}

async fn rotate_join_token(
    State(site): State<Site>,
    Word(word): Word,
    by: By,
    MaybeJson(wanted): MaybeJson<NewJoinToken>,
) -> Answer {
    let role = pb::NodeRole::from(role_of(&word)?).into();
    let lifetime = wanted.lifetime.map(|lifetime| u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX));
    let done = site.control.cluster_token(by.asks(pb::ClusterTokenRequest { role, rotate: true, lifetime })).await?;
    Ok(shown(&shape(done.into_inner())))
}

fn progress(rotation: pb::ClusterRotateCaResponse) -> CertificateRotation {
    CertificateRotation { waiting: rotation.waiting, root: rotation.root }
}

async fn rotation(State(site): State<Site>, RawQuery(query): RawQuery) -> Answer {
    Query::parse(query.as_deref(), &[])?;
    let state = site.state(false).await?;
    Ok(shown(&progress(control::rotation(&state).map_err(refused)?)))
}

async fn rotate(State(site): State<Site>, by: By) -> Answer {
    let done = site.control.cluster_rotate_ca(by.asks(pb::ClusterRotateCaRequest { progress: false })).await?;
    Ok(shown(&progress(done.into_inner())))
}
