//! People who change the cluster through whichever manager answers, and remember what they were told. Each has services and
//! configs of its own, so that it knows what must be there: what was acknowledged last, or what was asked for since without
//! an answer.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use berth_manager::api::ControlApi;
use berth_manager::manager::ControlHandle;
use berth_manager::store::{Object, Snapshot};
use berth_proto::object::{ObjectKind, Service};
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::spec::{ServiceMode, ServiceSpec, UpdateOrder};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use crate::checks::Checks;
use crate::dice::Dice;
use crate::sim::spec;

/// How long an answer is waited for: longer than a manager may take to say that it has none.
const PATIENCE: Duration = Duration::from_secs(40);
/// Services of one client at a time.
const MOST_SERVICES: usize = 3;
/// Names the operation that wrote a service last.
const MARK: &str = "operation";

pub struct Client {
    pub number: u8,
    pub managers: Vec<watch::Receiver<Option<ControlHandle>>>,
    pub checks: Arc<Checks>,
    pub dice: Dice,
    pub operations: u64,
    pub tally: Tally,
    services: BTreeMap<String, Known>,
    configs: BTreeMap<String, Presence>,
}

/// What came of the operations.
#[derive(Debug, Default)]
pub struct Tally {
    pub done: u64,
    pub unclear: u64,
    pub refused: u64,
    pub reads: u64,
}

/// What a client knows of a service of its own.
#[derive(Debug, Clone, Default)]
struct Known {
    /// As it was acknowledged or read last; `None` before it was.
    sure: Option<Look>,
    /// Asked for since, without an answer. Any of it may yet come about, until a later write is acknowledged.
    unclear: Vec<Look>,
    removal: Presence,
}

/// Of a config: whether it is there. Of a service: whether its removal was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Presence {
    #[default]
    No,
    Unclear,
    Yes,
    /// It was there, and was taken away.
    Gone,
}

/// What a client sees of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    operation: String,
    replicas: u64,
}

impl Look {
    fn of(service: &Service) -> Self {
        let ServiceMode::Replicated { replicas } = service.spec.mode else { panic!("not replicated: {service:?}") };
        Self { operation: service.spec.labels.get(MARK).cloned().unwrap_or_default(), replicas }
    }
}

/// How an operation ended.
enum Outcome<T> {
    Done(T),
    /// It may or may not have been made.
    Unclear,
    Refused(Status),
}

async fn outcome<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Outcome<T> {
    match timeout(PATIENCE, call).await {
        Ok(Ok(answer)) => Outcome::Done(answer.into_inner()),
        Err(_) => Outcome::Unclear,
        Ok(Err(status)) if status.code() == Code::Unavailable => Outcome::Unclear,
        Ok(Err(status)) => Outcome::Refused(status),
    }
}

impl Client {
    pub fn new(
        number: u8,
        managers: Vec<watch::Receiver<Option<ControlHandle>>>,
        checks: Arc<Checks>,
        dice: Dice,
    ) -> Self {
        let (services, configs) = (BTreeMap::new(), BTreeMap::new());
        Self { number, managers, checks, dice, operations: 0, tally: Tally::default(), services, configs }
    }

    /// Changes and reads until `stop`.
    pub async fn run(mut self, stop: CancellationToken) -> Self {
        while !stop.is_cancelled() {
            let pause = self.dice.millis(10..400);
            sleep(pause).await;
            let Some(handle) = self.some_manager() else { continue };
            self.step(&handle).await;
        }
        self
    }

    fn some_manager(&mut self) -> Option<ControlHandle> {
        let at = self.dice.roll(0..self.managers.len() as u64) as usize;
        self.managers[at].borrow().clone()
    }

    async fn step(&mut self, handle: &ControlHandle) {
        let api = ControlApi::new(handle.clone(), "simulation");
        let alive: Vec<String> = self.alive().map(|(name, _)| name.clone()).collect();
        match self.dice.roll(0..10) {
            0 | 1 if alive.len() < MOST_SERVICES => self.create(&api).await,
            2..=4 if !alive.is_empty() => {
                let at = self.dice.roll(0..alive.len() as u64) as usize;
                self.change(&api, &alive[at]).await;
            }
            5 if alive.len() == MOST_SERVICES => self.remove(&api, &alive[0]).await,
            6 => self.create_config(&api).await,
            7 => self.remove_config(&api).await,
            _ => self.read(handle).await,
        }
    }

    fn alive(&self) -> impl Iterator<Item = (&String, &Known)> {
        self.services.iter().filter(|(_, known)| known.sure.is_some() && known.removal == Presence::No)
    }

    fn next_operation(&mut self) -> String {
        self.operations += 1;
        format!("{}-{}", self.number, self.operations)
    }

    fn spec(&mut self, name: &str, operation: &str) -> ServiceSpec {
        let replicas = self.dice.roll(1..5);
        let image = self.dice.pick(&["run:1", "run:2", "run:3"]);
        let mut spec = spec::service(name, image, replicas);
        spec.labels.insert(MARK.to_owned(), operation.to_owned());
        spec.task.resources.reservations.memory = self.dice.roll(0..3) << 27;
        // For life: a service whose order changes may have two tasks in a slot for a while.
        let order = if name.ends_with('0') { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst };
        (spec.update.order, spec.rollback.order) = (order, order);
        spec.update.monitor = Duration::from_millis(200);
        spec
    }

    async fn create(&mut self, api: &ControlApi) {
        let operation = self.next_operation();
        let name = format!("s{operation}");
        let spec = self.spec(&name, &operation);
        let look = look_of(&spec);
        let request = pb::ServiceCreateRequest { spec: Some((&spec).into()) };
        let known = match outcome(api.service_create(Request::new(request))).await {
            Outcome::Done(service) => {
                self.acknowledged(&name, &look, service);
                Known { sure: Some(look), ..Known::default() }
            }
            Outcome::Unclear => {
                self.tally.unclear += 1;
                Known { unclear: vec![look], ..Known::default() }
            }
            Outcome::Refused(status) => panic!("{name} is refused: {status}"),
        };
        self.services.insert(name, known);
    }

    /// A new spec, or another number of replicas.
    async fn change(&mut self, api: &ControlApi, name: &str) {
        let operation = self.next_operation();
        let spec = self.spec(name, &operation);
        let mut look = look_of(&spec);
        let scales = self.dice.one_in(2);
        let known = self.services[name].clone();
        let changed = if scales {
            look.operation = known.sure.clone().map(|sure| sure.operation).unwrap_or_default();
            let target = pb::service_scale_request::Target { service: name.to_owned(), replicas: look.replicas };
            let request = pb::ServiceScaleRequest { targets: vec![target] };
            match outcome(api.service_scale(Request::new(request))).await {
                Outcome::Done(mut answer) => Outcome::Done(answer.services.remove(0)),
                Outcome::Unclear => Outcome::Unclear,
                Outcome::Refused(status) => Outcome::Refused(status),
            }
        } else {
            let spec = Some((&spec).into());
            let request = pb::ServiceUpdateRequest { id: name.to_owned(), version: 0, spec, force: false };
            outcome(api.service_update(Request::new(request))).await
        };
        match changed {
            Outcome::Done(service) => {
                if scales {
                    // It keeps the rest as it found it.
                    look.operation = Look::of(&Service::try_from(service.clone()).unwrap()).operation;
                    let looks = known.sure.iter().chain(&known.unclear);
                    let mut operations = looks.map(|look| &look.operation);
                    assert!(operations.any(|known| *known == look.operation), "{name}: {look:?} comes of {known:?}");
                }
                self.acknowledged(name, &look, service);
                self.services.insert(name.to_owned(), Known { sure: Some(look), ..Known::default() });
            }
            Outcome::Unclear => {
                self.tally.unclear += 1;
                let known = self.services.get_mut(name).unwrap();
                // Whatever it found is what it changed the replicas of.
                let found = known.unclear.iter().map(|unclear| unclear.operation.clone());
                let found: Vec<String> =
                    if scales { found.chain([look.operation.clone()]).collect() } else { vec![look.operation.clone()] };
                known.unclear.extend(found.into_iter().map(|operation| Look { operation, replicas: look.replicas }));
            }
            Outcome::Refused(status) if status.code() == Code::Aborted => self.tally.refused += 1,
            Outcome::Refused(status) => panic!("{name}, of which {known:?} is known, cannot be changed: {status}"),
        }
    }

    async fn remove(&mut self, api: &ControlApi, name: &str) {
        self.operations += 1;
        let request = pb::ServiceRemoveRequest { ids: vec![name.to_owned()], version: 0 };
        let removal = match outcome(api.service_remove(Request::new(request))).await {
            Outcome::Done(_) => Presence::Yes,
            Outcome::Unclear => Presence::Unclear,
            Outcome::Refused(status) if status.code() == Code::Aborted => Presence::No,
            Outcome::Refused(status) => panic!("{name} cannot be removed: {status}"),
        };
        self.count(removal);
        self.services.get_mut(name).unwrap().removal = removal;
    }

    async fn create_config(&mut self, api: &ControlApi) {
        let name = format!("c{}", self.next_operation());
        let config = pb::ConfigSpec { name: name.clone(), data: name.clone().into(), ..pb::ConfigSpec::default() };
        let request = pb::ConfigCreateRequest { spec: Some(config) };
        let presence = match outcome(api.config_create(Request::new(request))).await {
            Outcome::Done(config) => {
                let index = config.meta.unwrap().version;
                self.checks.has_seen(index);
                let named = name.clone();
                let is_it = move |object: &Object| matches!(object, Object::Config(config) if config.spec.name.as_str() == named);
                self.checks.is_written(&name, index, is_it);
                Presence::Yes
            }
            Outcome::Unclear => Presence::Unclear,
            Outcome::Refused(status) => panic!("{name} is refused: {status}"),
        };
        self.count(presence);
        self.configs.insert(name, presence);
    }

    async fn remove_config(&mut self, api: &ControlApi) {
        let there = self.configs.iter().find(|(_, presence)| **presence == Presence::Yes).map(|(name, _)| name.clone());
        let Some(name) = there else { return };
        self.operations += 1;
        let request = pb::ObjectRemoveRequest {
            kind: pb::ObjectKind::from(ObjectKind::Config).into(),
            ids: vec![name.clone()],
            version: 0,
        };
        let presence = match outcome(api.object_remove(Request::new(request))).await {
            Outcome::Done(_) => Presence::Gone,
            Outcome::Unclear => Presence::Unclear,
            Outcome::Refused(status) if status.code() == Code::Aborted => Presence::Yes,
            Outcome::Refused(status) => panic!("{name}, which is there, cannot be removed: {status}"),
        };
        self.count(presence);
        self.configs.insert(name, presence);
    }

    fn count(&mut self, presence: Presence) {
        match presence {
            Presence::Unclear => self.tally.unclear += 1,
            _ => self.tally.done += 1,
        }
    }

    fn acknowledged(&mut self, name: &str, look: &Look, service: pb::Service) {
        self.tally.done += 1;
        let service = Service::try_from(service).unwrap();
        assert_eq!(Look::of(&service), *look, "{name} was changed to something else");
        let index = service.meta.version;
        self.checks.has_seen(index);
        let look = look.clone();
        let is_it = move |object: &Object| matches!(object, Object::Service(found) if Look::of(found) == look);
        self.checks.is_written(name, index, is_it);
    }

    /// Reads everything of its own as a linearizable read of the manager shows it.
    pub async fn read(&mut self, handle: &ControlHandle) {
        let floor = self.checks.floor();
        if handle.forward.linearizable().await.is_err() {
            return;
        }
        self.tally.reads += 1;
        let state = handle.hub.snapshot();
        self.checks.has_read(&format!("client {}", self.number), floor, state.index());
        self.compare(&state);
    }

    fn compare(&mut self, state: &Snapshot) {
        for (name, known) in &mut self.services {
            let found = state.service_by_name(name);
            let is_leaving = found.is_none_or(|service| service.pending_delete);
            match known.removal {
                Presence::Yes => assert!(is_leaving, "{name} was removed, and there is {found:?}"),
                Presence::Unclear if is_leaving => known.removal = Presence::Yes,
                Presence::No if known.sure.is_some() => assert!(!is_leaving, "{name} is lost; known: {known:?}"),
                _ => {}
            }
            let Some(service) = found else { continue };
            let look = Look::of(service);
            let fits = known.sure.iter().chain(&known.unclear).any(|possible| *possible == look);
            assert!(fits, "{name} is {look:?}; known: {known:?}");
            // What was asked for before may still come, from a manager that held it.
            known.sure = Some(look);
        }
        for (name, presence) in &mut self.configs {
            let is_there = state.config_by_name(name).is_some();
            match presence {
                Presence::Yes => assert!(is_there, "config {name} was acknowledged and is lost"),
                Presence::Gone => assert!(!is_there, "config {name} was removed and is back"),
                Presence::No | Presence::Unclear => {}
            }
        }
    }
}

fn look_of(spec: &ServiceSpec) -> Look {
    let ServiceMode::Replicated { replicas } = spec.mode else { panic!("not replicated") };
    Look { operation: spec.labels[MARK].clone(), replicas }
}
