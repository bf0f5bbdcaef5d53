//! Tests of the Control service against a real manager: a Raft group of one, its log in a temporary directory.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::pb::planned_change::Action;
use prost::Message;
use tokio_stream::StreamExt;
use tonic::{Code, Request, Status};

use super::ControlApi;
use crate::manager::{Manager, ManagerConfig};

struct Cluster {
    api: ControlApi,
    manager: Manager,
    _dir: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = ManagerConfig::new(dir.path().join("manager"));
        let manager = Manager::open(config).await.unwrap();
        let handle = manager.handle();
        Self { api: ControlApi::new(handle.hub, handle.proposer, handle.node, "test"), manager, _dir: dir }
    }

    async fn create(&self, spec: pb::ServiceSpec) -> Result<pb::Service, Status> {
        let request = pb::ServiceCreateRequest { spec: Some(spec) };
        Ok(self.api.service_create(Request::new(request)).await?.into_inner())
    }

    async fn update(&self, service: &pb::Service, spec: pb::ServiceSpec) -> Result<pb::Service, Status> {
        // Loops write the service too: version 0 goes without the check.
        let request = pb::ServiceUpdateRequest { id: service.id.clone(), version: 0, spec: Some(spec), force: false };
        Ok(self.api.service_update(Request::new(request)).await?.into_inner())
    }

    async fn get(&self, word: &str) -> pb::Service {
        let request =
            pb::GetRequest { kind: pb::ObjectKind::Service.into(), name_or_id: word.to_owned(), stale: false };
        match self.api.get(Request::new(request)).await.unwrap().into_inner().object {
            Some(pb::object::Object::Service(service)) => service,
            other => panic!("not a service: {other:?}"),
        }
    }

    async fn count(&self, kind: pb::ObjectKind) -> usize {
        let request = pb::ListRequest { kinds: vec![kind.into()], ..Default::default() };
        self.api.list(Request::new(request)).await.unwrap().into_inner().objects.len()
    }

    async fn apply(&self, request: pb::StackApplyRequest) -> Result<pb::StackApplyResponse, Status> {
        Ok(self.api.stack_apply(Request::new(request)).await?.into_inner())
    }

    /// Waits until there are `wanted` objects of the kind.
    async fn until_count(&self, kind: pb::ObjectKind, wanted: usize) {
        let mut last = 0;
        let reached = async {
            let (_, mut commits) = self.manager.handle().hub.subscribe();
            loop {
                last = self.count(kind).await;
                if last == wanted {
                    return;
                }
                commits.next().await.unwrap();
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), reached).await.is_err() {
            panic!("still {last} of {kind:?}, not {wanted}");
        }
    }
}

fn spec(name: &str) -> pb::ServiceSpec {
    let spec: berth_proto::spec::ServiceSpec = serde_json::from_value(serde_json::json!({
        "name": name,
        "task": { "container": { "image": "busybox" } },
        "mode": { "replicated": { "replicas": 0 } },
    }))
    .unwrap();
    (&spec).into()
}

fn replicas(mut spec: pb::ServiceSpec, replicas: u64) -> pb::ServiceSpec {
    let mode = pb::service_mode::Mode::Replicated(pb::service_mode::Replicated { replicas });
    spec.mode = Some(pb::ServiceMode { mode: Some(mode) });
    spec
}

fn image(mut spec: pb::ServiceSpec, image: &str) -> pb::ServiceSpec {
    spec.task.as_mut().unwrap().container.as_mut().unwrap().image = image.to_owned();
    spec
}

fn refusal(status: &Status) -> pb::Refusal {
    pb::Refusal::decode(status.details()).unwrap()
}

#[tokio::test]
async fn a_created_service_is_found_by_name_and_by_the_beginning_of_its_id() {
    let cluster = Cluster::start().await;
    let made = cluster.create(spec("web")).await.unwrap();
    assert!(made.meta.unwrap().version > 0, "it answers after the commit");
    assert_eq!(cluster.get("web").await.id, made.id);
    assert_eq!(cluster.get(&made.id[..10]).await.id, made.id);
    let taken = cluster.create(spec("web")).await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists);
    let missing = pb::GetRequest { kind: pb::ObjectKind::Service.into(), name_or_id: "wbe".to_owned(), stale: false };
    assert_eq!(cluster.api.get(Request::new(missing)).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_bad_spec_is_refused_with_every_field() {
    let cluster = Cluster::start().await;
    let mut bad = image(spec("web"), "");
    bad.task.as_mut().unwrap().container.as_mut().unwrap().workdir = Some("relative".to_owned());
    let status = cluster.create(bad).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let refusal = refusal(&status);
    let paths: Vec<&str> = refusal.errors.iter().map(|error| error.path.as_str()).collect();
    assert!(
        paths.iter().any(|path| path.contains("image")) && paths.iter().any(|path| path.contains("workdir")),
        "{paths:?}"
    );
    assert_eq!(cluster.count(pb::ObjectKind::Service).await, 0);
}

#[tokio::test]
async fn an_update_keeps_the_way_back_and_a_rollback_takes_it() {
    let cluster = Cluster::start().await;
    let made = cluster.create(image(spec("web"), "one")).await.unwrap();
    let changed = cluster.update(&made, image(spec("web"), "two")).await.unwrap();
    assert!(changed.spec_version > made.spec_version);
    assert_eq!(changed.previous.unwrap().version, made.spec_version);
    let same = cluster.update(&made, image(spec("web"), "two")).await.unwrap();
    assert_eq!(same.spec_version, changed.spec_version, "an equal spec changes nothing");
    let request = pb::ServiceRollbackRequest { id: "web".to_owned() };
    let back = cluster.api.service_rollback(Request::new(request.clone())).await.unwrap().into_inner();
    assert_eq!(back.spec_version, made.spec_version);
    assert_eq!(back.spec.unwrap().task.unwrap().container.unwrap().image, "one");
    let status = cluster.api.service_rollback(Request::new(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn name_and_mode_are_for_life_and_a_stale_version_is_refused() {
    let cluster = Cluster::start().await;
    let made = cluster.create(spec("web")).await.unwrap();
    let renamed = cluster.update(&made, spec("other")).await.unwrap_err();
    assert_eq!(renamed.code(), Code::FailedPrecondition);
    let mut global = spec("web");
    global.mode = Some(pb::ServiceMode { mode: Some(pb::service_mode::Mode::Global(pb::service_mode::Global {})) });
    let status = cluster.update(&made, global).await.unwrap_err();
    assert!(status.message().contains("replicated") && status.message().contains("global"), "{status}");
    let stale = pb::ServiceUpdateRequest { id: made.id, version: 1, spec: Some(image(spec("web"), "x")), force: false };
    let status = cluster.api.service_update(Request::new(stale)).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
}

#[tokio::test]
async fn several_services_are_scaled_together_or_not_at_all() {
    let cluster = Cluster::start().await;
    cluster.create(spec("a")).await.unwrap();
    cluster.create(spec("b")).await.unwrap();
    let target = |service: &str, replicas| pb::service_scale_request::Target { service: service.to_owned(), replicas };
    let bad = pb::ServiceScaleRequest { targets: vec![target("a", 2), target("nothing", 1)] };
    assert_eq!(cluster.api.service_scale(Request::new(bad)).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(cluster.get("a").await.spec.unwrap(), spec("a"));
    let good = pb::ServiceScaleRequest { targets: vec![target("a", 2), target("b", 3)] };
    let answer = cluster.api.service_scale(Request::new(good)).await.unwrap().into_inner();
    assert_eq!(answer.services[1].spec, Some(replicas(spec("b"), 3)));
    cluster.until_count(pb::ObjectKind::Task, 5).await;
}

#[tokio::test]
async fn a_port_of_another_service_is_refused_by_name() {
    let cluster = Cluster::start().await;
    let with_port = |name: &str| {
        let mut spec = spec(name);
        let port = pb::PortConfig { target: 80, published: Some(8080), ..Default::default() };
        spec.endpoint.get_or_insert_default().ports.push(port);
        spec
    };
    cluster.create(with_port("web")).await.unwrap();
    let reached = async {
        let (_, mut commits) = cluster.manager.handle().hub.subscribe();
        while cluster.get("web").await.endpoint.is_none() {
            commits.next().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reached).await.expect("the allocator gives the port");
    let status = cluster.create(with_port("other")).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("8080") && status.message().contains("web"), "{status}");
}

#[tokio::test]
async fn what_is_in_use_stays_and_what_is_missing_is_named() {
    let cluster = Cluster::start().await;
    let joined = |name: &str| {
        let mut spec = spec("web");
        let network = pb::NetworkAttachmentSpec { network: name.to_owned(), ..Default::default() };
        spec.task.as_mut().unwrap().networks.push(network);
        spec
    };
    let status = cluster.create(joined("back")).await.unwrap_err();
    assert!(status.message().contains("back"), "{status}");
    let network = pb::NetworkSpec { name: "back".to_owned(), ..Default::default() };
    let request = pb::NetworkCreateRequest { spec: Some(network) };
    cluster.api.network_create(Request::new(request)).await.unwrap();
    cluster.create(joined("back")).await.unwrap();
    let remove = pb::ObjectRemoveRequest { kind: pb::ObjectKind::Network.into(), ids: vec!["back".to_owned()] };
    let status = cluster.api.object_remove(Request::new(remove)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("in use") && status.message().contains("web"), "{status}");
}

#[tokio::test]
async fn a_secret_goes_in_and_never_comes_out() {
    let cluster = Cluster::start().await;
    let secret = pb::SecretSpec { name: "key".to_owned(), data: b"hush"[..].into(), ..Default::default() };
    let request = pb::SecretCreateRequest { spec: Some(secret) };
    let made = cluster.api.secret_create(Request::new(request)).await.unwrap().into_inner();
    assert!(made.spec.unwrap().data.is_empty());
    let list = pb::ListRequest { kinds: vec![pb::ObjectKind::Secret.into()], ..Default::default() };
    let answer = cluster.api.list(Request::new(list)).await.unwrap().into_inner();
    assert!(!format!("{answer:?}").contains("hush"));
    let handle = cluster.manager.handle();
    assert_eq!(&handle.hub.snapshot().secret_by_name("key").unwrap().spec.data.0[..], b"hush");
}

fn stack(services: Vec<pb::ServiceSpec>) -> pb::StackApplyRequest {
    let network = pb::NetworkSpec { name: "shop_default".to_owned(), ..Default::default() };
    pb::StackApplyRequest { stack: "shop".to_owned(), services, networks: vec![network], ..Default::default() }
}

fn actions(answer: &pb::StackApplyResponse) -> Vec<(Action, &str)> {
    answer.plan.iter().map(|change| (change.action(), change.name.as_str())).collect()
}

#[tokio::test]
async fn a_stack_is_planned_then_made_then_unchanged_then_pruned_then_removed() {
    let cluster = Cluster::start().await;
    let both = || stack(vec![spec("shop_db"), spec("shop_web")]);
    let dry = cluster.apply(pb::StackApplyRequest { dry_run: true, ..both() }).await.unwrap();
    assert_eq!(actions(&dry).iter().filter(|(action, _)| *action == Action::Create).count(), 3);
    assert_eq!(cluster.count(pb::ObjectKind::Service).await, 0, "a dry run makes nothing");

    let made = cluster.apply(both()).await.unwrap();
    assert_eq!(made.services.len(), 2);
    let again = cluster.apply(both()).await.unwrap();
    assert!(actions(&again).iter().all(|(action, _)| *action == Action::Unchanged), "{again:?}");
    assert_eq!(again.services[0].spec_version, made.services[0].spec_version);

    let one = || stack(vec![image(spec("shop_web"), "new")]);
    let left = cluster.apply(one()).await.unwrap();
    assert!(actions(&left).contains(&(Action::Left, "shop_db")));
    let update = left.plan.iter().find(|change| change.action() == Action::Update).unwrap();
    assert_eq!(update.fields[0].after.as_deref(), Some("new"));
    let pruned = cluster.apply(pb::StackApplyRequest { prune: true, ..one() }).await.unwrap();
    assert!(actions(&pruned).contains(&(Action::Remove, "shop_db")));
    cluster.until_count(pb::ObjectKind::Service, 1).await;

    let request = pb::StackRemoveRequest { stack: "shop".to_owned() };
    let removed = cluster.api.stack_remove(Request::new(request.clone())).await.unwrap().into_inner().removed;
    assert_eq!(removed, ["service shop_web", "network shop_default"]);
    cluster.until_count(pb::ObjectKind::Service, 0).await;
    // The default network stays.
    cluster.until_count(pb::ObjectKind::Network, 1).await;
    let status = cluster.api.stack_remove(Request::new(request)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn a_stack_takes_no_names_of_others_and_is_refused_as_a_whole() {
    let cluster = Cluster::start().await;
    cluster.create(spec("shop_web")).await.unwrap();
    let status = cluster.apply(stack(vec![spec("shop_db"), spec("shop_web")])).await.unwrap_err();
    assert!(status.message().contains("shop_web"), "{status}");
    assert_eq!(cluster.count(pb::ObjectKind::Service).await, 1);
    let expected_versions = [("shop_db".to_owned(), 7)].into();
    let stale = pb::StackApplyRequest { expected_versions, ..stack(vec![spec("shop_db")]) };
    assert_eq!(cluster.apply(stale).await.unwrap_err().code(), Code::Aborted);
}

#[tokio::test]
async fn new_content_of_a_config_replaces_the_tasks_that_show_it() {
    let cluster = Cluster::start().await;
    let with = |data: &'static str| {
        let mut web = spec("shop_web");
        let mount = pb::FileMount {
            source: "shop_conf".to_owned(),
            target: "/c".to_owned(),
            uid: "0".to_owned(),
            gid: "0".to_owned(),
            mode: 0o444,
        };
        web.task.as_mut().unwrap().container.as_mut().unwrap().configs.push(mount);
        let config =
            pb::ConfigSpec { name: "shop_conf".to_owned(), data: data.as_bytes().into(), ..Default::default() };
        pb::StackApplyRequest { configs: vec![config], ..stack(vec![web]) }
    };
    let made = cluster.apply(with("a")).await.unwrap();
    let changed = cluster.apply(with("b")).await.unwrap();
    assert!(changed.services[0].spec_version > made.services[0].spec_version);
    let again = cluster.apply(with("b")).await.unwrap();
    assert!(actions(&again).iter().all(|(action, _)| *action == Action::Unchanged), "{again:?}");
}

#[tokio::test]
async fn a_watch_goes_on_where_a_list_ended() {
    let cluster = Cluster::start().await;
    let list = pb::ListRequest { kinds: vec![pb::ObjectKind::Service.into()], ..Default::default() };
    let index = cluster.api.list(Request::new(list)).await.unwrap().into_inner().index;
    cluster.create(spec("web")).await.unwrap();
    let kinds = vec![pb::ObjectKind::Service.into()];
    let request = pb::WatchRequest { kinds: kinds.clone(), after_index: Some(index) };
    let mut events = cluster.api.watch(Request::new(request)).await.unwrap().into_inner();
    let first = events.next().await.unwrap().unwrap();
    assert_eq!(first.action(), pb::watch_event::Action::Created);
    assert!(first.index > index && first.at > 0);
    // As far back as is remembered: the service is among it.
    let request = pb::WatchRequest { kinds, after_index: Some(0) };
    let mut events = cluster.api.watch(Request::new(request)).await.unwrap().into_inner();
    assert_eq!(events.next().await.unwrap().unwrap().action(), pb::watch_event::Action::Created);
}

#[tokio::test]
async fn the_built_in_network_stays() {
    let cluster = Cluster::start().await;
    cluster.until_count(pb::ObjectKind::Network, 1).await;
    let kind = pb::ObjectKind::Network.into();
    let remove = pb::ObjectRemoveRequest { kind, ids: vec!["bridge".to_owned()] };
    let status = cluster.api.object_remove(Request::new(remove)).await.unwrap_err();
    assert_eq!(status.message(), "network bridge is built in and cannot be removed");
}

#[tokio::test]
async fn every_change_is_shown_with_who_made_it() {
    let cluster = Cluster::start().await;
    let request = pb::WatchRequest { kinds: vec![pb::ObjectKind::Service.into()], after_index: None };
    let mut events = cluster.api.watch(Request::new(request)).await.unwrap().into_inner();
    cluster.create(spec("web")).await.unwrap();
    let first = events.next().await.unwrap().unwrap();
    assert_eq!((first.action(), first.actor.as_str()), (pb::watch_event::Action::Created, "local"));
    cluster.api.service_remove(Request::new(pb::ServiceRemoveRequest { ids: vec!["web".to_owned()] })).await.unwrap();
    let removed = loop {
        let event = tokio::time::timeout(Duration::from_secs(20), events.next()).await.unwrap().unwrap().unwrap();
        if event.action() == pb::watch_event::Action::Removed {
            break event;
        }
    };
    assert_eq!(removed.actor, "orchestrator");
    assert!(removed.at >= first.at);
}

#[tokio::test]
async fn a_service_can_be_made_anew_as_soon_as_it_was_removed() {
    let cluster = Cluster::start().await;
    let first = cluster.create(spec("web")).await.unwrap();
    let request = pb::ServiceRemoveRequest { ids: vec!["web".to_owned()] };
    cluster.api.service_remove(Request::new(request)).await.unwrap();
    let second = cluster.create(spec("web")).await.unwrap();
    assert_ne!(first.id, second.id);
}
