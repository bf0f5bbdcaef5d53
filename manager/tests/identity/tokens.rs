//! Join tokens and the cluster's settings, as a manager asks for them over TLS.

use std::time::Duration;

use berth_manager::identity::{JoinToken, join};
use berth_proto::pb;
use berth_proto::state::NodeRole;
use futures::StreamExt;
use pb::control_client::ControlClient;
use tonic::Code;
use tonic::transport::Channel;

use crate::support::{Door, PATIENCE, now};

fn control(door: &Door) -> ControlClient<Channel> {
    ControlClient::new(door.credentials.channel_to_manager(&door.address.to_string()).unwrap())
}

fn ask(role: pb::NodeRole, rotate: bool, lifetime: Option<Duration>) -> pb::ClusterTokenRequest {
    let lifetime = lifetime.map(|lifetime| u64::try_from(lifetime.as_nanos()).unwrap());
    pb::ClusterTokenRequest { role: role.into(), rotate, lifetime }
}

async fn joins(door: &Door, token: &str) -> Result<NodeRole, String> {
    let token: JoinToken = token.parse().unwrap();
    join::join(&door.addresses(), &token).await.map(|it| it.identity.role).map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_printed_made_anew_and_given_a_lifetime() {
    let door = Door::open().await;
    let mut control = control(&door);
    let first = control.cluster_token(ask(pb::NodeRole::Worker, false, None)).await.unwrap().into_inner();
    assert_eq!((first.token.len(), first.expires_at, first.managers.len()), (84, None, 1));
    let again = control.cluster_token(ask(pb::NodeRole::Worker, false, None)).await.unwrap().into_inner();
    assert_eq!(first, again, "asking changes nothing");
    assert_eq!(joins(&door, &first.token).await, Ok(NodeRole::Worker));
    let manager = control.cluster_token(ask(pb::NodeRole::Manager, false, None)).await.unwrap().into_inner();
    assert_eq!(joins(&door, &manager.token).await, Ok(NodeRole::Manager));

    let hour = Duration::from_secs(3600);
    let second = control.cluster_token(ask(pb::NodeRole::Worker, true, Some(hour))).await.unwrap().into_inner();
    let left = second.expires_at.unwrap() - now().0;
    assert!(left > 0 && left <= 3600 * 1_000_000_000, "{left}");
    assert!(joins(&door, &first.token).await.unwrap_err().contains("is not valid"));
    assert_eq!(joins(&door, &second.token).await, Ok(NodeRole::Worker));
    assert_eq!(joins(&door, &manager.token).await, Ok(NodeRole::Manager), "the other one stays");

    let short = |lifetime| ask(pb::NodeRole::Worker, true, Some(lifetime));
    let refused = control.cluster_token(short(Duration::from_millis(999))).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "it would be good for nothing when it is read");
    let third = control.cluster_token(short(Duration::from_secs(1))).await.unwrap().into_inner();
    let end = async {
        loop {
            if let Err(refused) = joins(&door, &third.token).await {
                return refused;
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(60), end).await.unwrap();
    assert!(refused.contains("has expired"), "{refused}");
    let refused = control.cluster_token(ask(pb::NodeRole::Worker, false, Some(hour))).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lets_somebody_in_is_never_among_what_is_shown() {
    let door = Door::open().await;
    let mut control = control(&door);
    let mut events = control.watch(pb::WatchRequest::default()).await.unwrap().into_inner();
    control.cluster_token(ask(pb::NodeRole::Worker, true, None)).await.unwrap();
    let authority = door.cluster().authority.clone().unwrap();
    let mut shown = String::new();
    while !shown.contains("certificate_lifetime") {
        let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("an event in time").unwrap().unwrap();
        shown += &format!("{event:?}");
    }
    shown += &format!("{:?}", control.list(pb::ListRequest::default()).await.unwrap());
    let get = pb::GetRequest { kind: pb::ObjectKind::Cluster.into(), ..pb::GetRequest::default() };
    shown += &format!("{:?}", control.get(get).await.unwrap());
    shown += &format!("{:?}", control.cluster_info(pb::ClusterInfoRequest::default()).await.unwrap());
    let spec = pb::ClusterSpec { name: "mine".into(), ..(&door.cluster().spec).into() };
    let update = pb::ClusterUpdateRequest { version: 0, spec: Some(spec) };
    shown += &format!("{:?}", control.cluster_update(update).await.unwrap());
    assert!(shown.contains("mine") && shown.contains("authority: None"), "{shown}");
    for secret in [&authority.worker.secret, &authority.manager.secret, &format!("{:?}", authority.root.key.0)] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert_eq!(door.cluster().authority.as_ref(), Some(&authority), "and it is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_cluster_have_limits_and_versions() {
    let door = Door::open().await;
    let mut control = control(&door);
    let cluster = door.cluster();
    let hour = 3600 * 1_000_000_000;
    let spec = |lifetime| pb::ClusterSpec { certificate_lifetime: lifetime, ..(&cluster.spec).into() };
    let refused = control.cluster_update(pb::ClusterUpdateRequest { version: 0, spec: Some(spec(hour - 1)) }).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let version = cluster.meta.version;
    let update = pb::ClusterUpdateRequest { version, spec: Some(spec(hour)) };
    let updated = control.cluster_update(update.clone()).await.unwrap().into_inner();
    assert_eq!(updated.spec.unwrap().certificate_lifetime, hour);
    let refused = control.cluster_update(update).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted, "{refused}");
    let identity = door.join(NodeRole::Worker).await.identity;
    let life = identity.not_after.since(identity.not_before);
    assert!(life > Duration::from_secs(3600) && life < Duration::from_secs(2 * 3600), "{life:?}");
}
