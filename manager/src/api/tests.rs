//! Tests of the Control service against a real manager: a Raft group of one, its log in a temporary directory.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use berth_proto::content::ContentDigest;
use berth_proto::object::FileObject;
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
        manager.ready().await.unwrap();
        Self { api: ControlApi::new(manager.handle(), "test"), manager, _dir: dir }
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

/// A service that is scaled by its load, with what must hold for that.
fn scaled(name: &str, min: u64, max: u64) -> pb::ServiceSpec {
    let mut spec: berth_proto::spec::ServiceSpec = replicas(spec(name), min).try_into().unwrap();
    spec.task.resources.reservations.nano_cpus = 1;
    spec.autoscale =
        Some(berth_proto::spec::Autoscale { cpu: Some(50), ..berth_proto::spec::Autoscale::between(min, max) });
    (&spec).into()
}

#[tokio::test]
async fn a_service_that_is_scaled_by_its_load_is_set_to_a_number_within_its_bounds() {
    let cluster = Cluster::start().await;
    let made = cluster.create(scaled("web", 2, 5)).await.unwrap();
    cluster.until_count(pb::ObjectKind::Task, 2).await;
    let scale = async |replicas| {
        let target = pb::service_scale_request::Target { service: "web".to_owned(), replicas };
        let request = pb::ServiceScaleRequest { targets: vec![target] };
        cluster.api.service_scale(Request::new(request)).await.map(|answer| answer.into_inner().services.remove(0))
    };
    let refused = scale(6).await.unwrap_err();
    let said = "service web is scaled by its load between 2 and 5 replicas: 6 is outside";
    assert_eq!((refused.code(), refused.message()), (Code::FailedPrecondition, said));
    assert!(refusal(&refused).hint.contains("x-berth.autoscale"), "{:?}", refusal(&refused));
    assert_eq!(scale(1).await.unwrap_err().code(), Code::FailedPrecondition);
    let set = scale(4).await.unwrap();
    assert_eq!((&set.spec, set.spec_version), (&made.spec, made.spec_version), "no spec, and no update");
    let decided = set.autoscaled.clone().unwrap();
    assert_eq!((decided.replicas, &*decided.reason), (4, "set to 4 by local"));
    cluster.until_count(pb::ObjectKind::Task, 4).await;
    // A change of something else goes on with the number; one that names a number means it.
    let changed = cluster.update(&set, image(scaled("web", 2, 5), "other")).await.unwrap();
    assert_eq!(changed.autoscaled.unwrap().replicas, 4);
    let raised = cluster.update(&set, scaled("web", 3, 5)).await.unwrap();
    assert_eq!(raised.autoscaled.unwrap().replicas, 4, "a file that names no number begins with the fewest");
    let named = cluster.update(&set, replicas(scaled("web", 2, 5), 5)).await.unwrap();
    assert_eq!(named.autoscaled.unwrap().replicas, 5);
    let by_hand = cluster.update(&set, replicas(spec("web"), 5)).await.unwrap();
    assert_eq!((by_hand.autoscaled, by_hand.spec), (None, Some(replicas(spec("web"), 5))));
    let began = cluster.update(&set, scaled("web", 2, 4)).await.unwrap();
    assert_eq!(began.autoscaled.unwrap().replicas, 4, "as many as there are, as far as there may be");
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
    let remove =
        pb::ObjectRemoveRequest { kind: pb::ObjectKind::Network.into(), ids: vec!["back".to_owned()], version: 0 };
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
    // The networks that are always there stay.
    cluster.until_count(pb::ObjectKind::Network, 2).await;
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

/// The stack `shop` with a service that shows a config and a secret of those contents.
fn showing(conf: &'static str, key: &'static str) -> pb::StackApplyRequest {
    let mut web = spec("shop_web");
    let container = web.task.as_mut().unwrap().container.as_mut().unwrap();
    container.configs.push(file("shop_conf"));
    container.secrets.push(file("shop_key"));
    let config = pb::ConfigSpec { name: "shop_conf".to_owned(), data: conf.as_bytes().into(), ..Default::default() };
    let secret = pb::SecretSpec { name: "shop_key".to_owned(), data: key.as_bytes().into(), ..Default::default() };
    pb::StackApplyRequest { configs: vec![config], secrets: vec![secret], ..stack(vec![web]) }
}

fn file(source: &str) -> pb::FileMount {
    let target = format!("/{source}");
    pb::FileMount {
        source: source.to_owned(),
        target,
        uid: "0".into(),
        gid: "0".into(),
        mode: 0o444,
        ..Default::default()
    }
}

/// What a service shows: of each config, then of each secret, the content.
fn shown(cluster: &Cluster, service: &str) -> Vec<String> {
    let state = cluster.manager.handle().hub.snapshot();
    let container = &state.service_by_name(service).unwrap().spec.task.container;
    let configs = container.configs.iter().map(|it| state.config_by_name(&it.source).unwrap().content(it.digest));
    let secrets = container.secrets.iter().map(|it| state.secret_by_name(&it.source).unwrap().content(it.digest));
    let named = container.configs.iter().chain(&container.secrets).all(|it| it.digest.is_some());
    assert!(named, "every reference names its content");
    configs.chain(secrets).map(|content| String::from_utf8(content.unwrap().data.0.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn new_content_is_an_update_of_the_service_and_a_rollback_brings_the_old_back() {
    let cluster = Cluster::start().await;
    let made = cluster.apply(showing("a", "x")).await.unwrap();
    assert_eq!(shown(&cluster, "shop_web"), ["a", "x"]);
    let changed = cluster.apply(showing("b", "y")).await.unwrap();
    assert!(changed.services[0].spec_version > made.services[0].spec_version);
    let of_service = changed.plan.iter().find(|change| change.name == "shop_web").unwrap();
    let paths: Vec<&str> = of_service.fields.iter().map(|field| field.path.as_str()).collect();
    assert_eq!((of_service.action(), paths), (Action::Update, vec!["configs and secrets"]));
    assert_eq!(shown(&cluster, "shop_web"), ["b", "y"]);
    let again = cluster.apply(showing("b", "y")).await.unwrap();
    assert!(actions(&again).iter().all(|(action, _)| *action == Action::Unchanged), "{again:?}");

    let request = pb::ServiceRollbackRequest { id: "shop_web".to_owned() };
    cluster.api.service_rollback(Request::new(request)).await.unwrap();
    assert_eq!(shown(&cluster, "shop_web"), ["a", "x"]);
    // Who changes something else keeps what is shown; who applies the file again gets what it says.
    let web = cluster.get("shop_web").await;
    cluster.update(&web, image(web.spec.clone().unwrap(), "other")).await.unwrap();
    assert_eq!(shown(&cluster, "shop_web"), ["a", "x"]);
    cluster.apply(showing("b", "y")).await.unwrap();
    assert_eq!(shown(&cluster, "shop_web"), ["b", "y"]);
}

#[tokio::test]
async fn contents_that_nothing_shows_are_forgotten() {
    let cluster = Cluster::start().await;
    for (conf, key) in [("a", "x"), ("b", "y"), ("c", "z"), ("c", "zz")] {
        cluster.apply(showing(conf, key)).await.unwrap();
    }
    let state = cluster.manager.handle().hub.snapshot();
    let (config, secret) = (state.config_by_name("shop_conf").unwrap(), state.secret_by_name("shop_key").unwrap());
    assert_eq!(config.earlier.len(), 0, "neither the service nor the one before shows another");
    let data: Vec<_> = secret.earlier.iter().map(|content| content.data.0.clone()).collect();
    assert_eq!(data, ["z"]);
    let remove = pb::ServiceRemoveRequest { ids: vec!["shop_web".to_owned()], version: 0 };
    cluster.api.service_remove(Request::new(remove)).await.unwrap();
    cluster.until_count(pb::ObjectKind::Service, 0).await;
    let state = cluster.manager.handle().hub.snapshot();
    assert!(state.secret_by_name("shop_key").unwrap().earlier.is_empty());
}

#[tokio::test]
async fn new_content_reaches_services_of_others_also_by_command() {
    let cluster = Cluster::start().await;
    cluster.apply(showing("a", "x")).await.unwrap();
    let mut other = spec("other");
    other.task.as_mut().unwrap().container.as_mut().unwrap().configs.push(file("shop_conf"));
    cluster.create(other).await.unwrap();
    let changed = cluster.apply(showing("b", "x")).await.unwrap();
    assert!(actions(&changed).contains(&(Action::Update, "other")), "{changed:?}");
    assert_eq!(shown(&cluster, "other"), ["b"]);

    let spec =
        |data: &'static str| pb::ConfigSpec { name: "shop_conf".into(), data: data.into(), ..Default::default() };
    let request = |version, data| pb::ConfigUpdateRequest { id: "shop_conf".into(), version, spec: Some(spec(data)) };
    let stale = cluster.api.config_update(Request::new(request(1, "c"))).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);
    let answer = cluster.api.config_update(Request::new(request(0, "c"))).await.unwrap().into_inner();
    let names: Vec<_> = answer.services.iter().map(|service| service.spec.as_ref().unwrap().name.as_str()).collect();
    assert_eq!(names, ["other", "shop_web"]);
    assert_eq!(
        (shown(&cluster, "other"), shown(&cluster, "shop_web")),
        (vec!["c".into()], vec!["c".into(), "x".into()])
    );
    let again = cluster.api.config_update(Request::new(request(0, "c"))).await.unwrap().into_inner();
    assert!(again.services.is_empty(), "the same content changes nothing");
    let state = cluster.manager.handle().hub.snapshot();
    let stack = state.config_by_name("shop_conf").unwrap().spec.stack.as_ref().map(ToString::to_string);
    assert_eq!(stack.as_deref(), Some("shop"), "it stays its stack's");
    // The file says b: it has the last word.
    cluster.apply(showing("b", "x")).await.unwrap();
    assert_eq!(shown(&cluster, "other"), ["b"]);
}

#[tokio::test]
async fn digests_of_a_secret_do_not_tell_whether_a_guess_is_right() {
    let cluster = Cluster::start().await;
    cluster.apply(showing("a", "1234")).await.unwrap();
    cluster.apply(showing("a", "5678")).await.unwrap();
    let request = pb::ListRequest::default();
    let answer = cluster.api.list(Request::new(request)).await.unwrap().into_inner();
    for object in answer.objects {
        let secret = match object.object {
            Some(pb::object::Object::Secret(secret)) => secret,
            _ => continue,
        };
        assert!(secret.key.is_empty() && secret.spec.unwrap().data.is_empty());
        assert!(secret.earlier.len() == 1 && secret.earlier[0].data.is_empty(), "older ones are named only");
        let plain = ContentDigest::of(b"", None, b"5678");
        assert_ne!(secret.digest, plain.0[..]);
    }
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
    cluster.until_count(pb::ObjectKind::Network, 2).await;
    let kind = pb::ObjectKind::Network.into();
    for name in ["bridge", "ingress"] {
        let remove = pb::ObjectRemoveRequest { kind, ids: vec![name.to_owned()], version: 0 };
        let status = cluster.api.object_remove(Request::new(remove)).await.unwrap_err();
        assert_eq!(status.message(), format!("network {name} is built in and cannot be removed"));
    }
    let mut joins = spec("web");
    let network = pb::NetworkAttachmentSpec { network: "ingress".to_owned(), ..Default::default() };
    joins.task.as_mut().unwrap().networks.push(network);
    let status = cluster.create(joins).await.unwrap_err();
    let said = refusal(&status).errors;
    assert_eq!(said[0].path, "task.networks[0].network");
    assert!(said[0].message.starts_with("\"ingress\" is only for published ports"), "{said:?}");
}

#[tokio::test]
async fn a_subnet_that_another_network_has_is_refused() {
    let cluster = Cluster::start().await;
    let create = async |name: &str, subnet: &str| {
        let ipam = vec![pb::IpamPool { subnet: subnet.to_owned(), ..Default::default() }];
        let spec = pb::NetworkSpec { name: name.to_owned(), ipam, ..Default::default() };
        cluster.api.network_create(Request::new(pb::NetworkCreateRequest { spec: Some(spec) })).await
    };
    create("a", "192.0.2.0/24").await.unwrap();
    let status = create("b", "192.0.2.128/25").await.unwrap_err();
    let said = "network b: subnet 192.0.2.128/25 overlaps 192.0.2.0/24 of network a";
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, said));
    create("b", "198.51.100.0/25").await.unwrap();
}

#[tokio::test]
async fn every_change_is_shown_with_who_made_it() {
    let cluster = Cluster::start().await;
    let request = pb::WatchRequest { kinds: vec![pb::ObjectKind::Service.into()], after_index: None };
    let mut events = cluster.api.watch(Request::new(request)).await.unwrap().into_inner();
    cluster.create(spec("web")).await.unwrap();
    let first = events.next().await.unwrap().unwrap();
    assert_eq!((first.action(), first.actor.as_str()), (pb::watch_event::Action::Created, "local"));
    cluster
        .api
        .service_remove(Request::new(pb::ServiceRemoveRequest { ids: vec!["web".to_owned()], version: 0 }))
        .await
        .unwrap();
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
    let request = pb::ServiceRemoveRequest { ids: vec!["web".to_owned()], version: 0 };
    cluster.api.service_remove(Request::new(request)).await.unwrap();
    let second = cluster.create(spec("web")).await.unwrap();
    assert_ne!(first.id, second.id);
}
