//! The `Control` service: reads the request, lets the pure modules decide, commits, answers with what was committed.

use std::sync::Arc;
use std::time::Duration;

use berth_proto::convert::ConvertError;
use berth_proto::id::{Id, NodeId};
use berth_proto::name::{ParseNameError, TokenName};
use berth_proto::object::{ApiToken, ObjectRef, Service};
use berth_proto::pb;
use berth_proto::pb::control_server::{Control, ControlServer};
use berth_proto::spec::{ClusterSpec, ConfigSpec, NetworkSpec, NodeSpec, SecretSpec, ServiceSpec, VolumeSpec};
use berth_proto::state::{ApiRole, NodeRole};
use berth_proto::trace::TraceContext;
use bytes::Bytes;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::refusal::Refused;
use super::resource::Resource;
use super::service::DrawId;
use super::watch::EventStream;
use super::{
    actor, backup, cleanup, cluster, content, depends, find, foresee, node, read, resource, service, stack, token,
    watch,
};
use crate::clock;
use crate::manager::ControlHandle;
use crate::raft::{Forward, Proposer};
use crate::store::{Change, Hub, Object, Snapshot, State, Transaction};

/// Largest request: a stack with its secrets and configs fits.
const MAX_REQUEST: usize = 64 << 20;
/// How long a create waits for a service of the same name that is being removed.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(60);
/// How long it may take until a manager that has come is known to answer.
const QUORUM_PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks meanwhile.
const QUORUM_LOOK: Duration = Duration::from_millis(100);

/// The `Control` service of one manager. Clones share everything.
#[derive(Clone)]
pub struct ControlApi {
    hub: Hub,
    proposer: Proposer,
    forward: Forward,
    node: NodeId,
    version: &'static str,
    name_of_user: fn(u32) -> Option<String>,
}

impl ControlApi {
    /// The service of the manager with that handle; `version` is the program's.
    pub fn new(manager: ControlHandle, version: &'static str) -> Self {
        let ControlHandle { hub, proposer, forward, node, .. } = manager;
        Self { hub, proposer, forward, node, version, name_of_user: |_| None }
    }

    /// Where the names of users come from who make changes; without it, and for a user without a name, it is `uid 1000`.
    #[must_use]
    pub fn with_user_names(mut self, name_of_user: fn(u32) -> Option<String>) -> Self {
        self.name_of_user = name_of_user;
        self
    }

    /// As a gRPC service.
    pub fn into_server(self) -> ControlServer<Self> {
        ControlServer::new(self).max_decoding_message_size(MAX_REQUEST)
    }

    /// The state to read from: one that shows everything acknowledged before, or the one that is here.
    async fn read(&self, stale: bool) -> Result<Snapshot, Refused> {
        if !stale {
            self.forward.linearizable().await?;
        }
        Ok(self.hub.snapshot())
    }

    /// As [`Self::commit`], for what managers must be able to do without: one that has just come is not known to answer at once,
    /// and is waited for a moment.
    async fn commit_with_quorum<T>(
        &self,
        actor: &str,
        mut make: impl FnMut(&State, &mut Transaction, DrawId<'_>) -> Result<T, Refused>,
    ) -> Result<(Snapshot, T), Refused> {
        let end = Instant::now() + QUORUM_PATIENCE;
        loop {
            match self.commit(actor, &mut make).await {
                Err(Refused::NoQuorum { .. }) if Instant::now() < end => tokio::time::sleep(QUORUM_LOOK).await,
                done => return done,
            }
        }
    }

    /// Commits what `make` adds to a transaction; nothing is written when it adds nothing. `make` runs again when somebody
    /// else was faster. Services that it changes become part of the trace that the caller belongs to. That there is nothing to do, or that it cannot be done, is said only of a state that shows everything
    /// acknowledged before.
    async fn commit<T>(
        &self,
        actor: &str,
        mut make: impl FnMut(&State, &mut Transaction, DrawId<'_>) -> Result<T, Refused>,
    ) -> Result<(Snapshot, T), Refused> {
        let mut is_newest = false;
        let traced = berth_trace::current();
        loop {
            let mut made = None;
            let mut wrote = false;
            let written = self
                .proposer
                .write::<Refused>(|state| {
                    let mut tx = Transaction::new(clock::now(), actor);
                    wrote = false;
                    made = Some(make(state, &mut tx, &mut rand::random)?);
                    trace(&mut tx, traced);
                    wrote = !tx.is_empty();
                    Ok(wrote.then_some(tx))
                })
                .await;
            if wrote || is_newest {
                return Ok((written?, made.expect("write calls make before it returns a state")));
            }
            self.forward.linearizable().await?;
            is_newest = true;
        }
    }

    async fn create<R: Resource + Clone>(&self, actor: &str, spec: R) -> Result<(Snapshot, u128), Refused> {
        self.commit(actor, |state, tx, draw| resource::create(state, tx, spec.clone(), draw)).await
    }

    /// Waits until no service that is being removed has one of these names.
    async fn until_free(&self, names: impl Iterator<Item = &str> + Clone) -> Result<(), Refused> {
        let (mut state, mut commits) = self.hub.subscribe();
        let deadline = tokio::time::Instant::now() + REMOVAL_PATIENCE;
        loop {
            let leaving = |name: &&str| state.service_by_name(name).is_some_and(|service| service.pending_delete);
            let Some(name) = names.clone().find(leaving) else { return Ok(()) };
            match tokio::time::timeout_at(deadline, commits.next()).await {
                Ok(Ok(_)) => state = self.hub.snapshot(),
                Ok(Err(crate::store::WatchError::Lagged { .. })) => (state, commits) = self.hub.subscribe(),
                Ok(Err(crate::store::WatchError::Closed)) | Err(_) => {
                    return Err(Refused::BeingRemoved { name: name.to_owned() });
                }
            }
        }
    }

    fn actor<T>(&self, request: &Request<T>) -> String {
        actor::of(request, self.name_of_user)
    }

    fn clean_up(&self, objects: Vec<ObjectRef>) {
        if !objects.is_empty() {
            tokio::spawn(cleanup::run(self.hub.clone(), self.proposer.clone(), objects));
        }
    }
}

/// What services do from now on is part of that trace, or of none.
fn trace(tx: &mut Transaction, traced: Option<TraceContext>) {
    for change in &mut tx.changes {
        if let Change::Put(Object::Service(service)) = change
            && service.traced != traced
        {
            Arc::make_mut(service).traced = traced;
        }
    }
}

fn required<M, T: TryFrom<M, Error = ConvertError>>(message: Option<M>, what: &'static str) -> Result<T, Refused> {
    Ok(T::try_from(message.ok_or(Refused::Lacks(what))?)?)
}

fn answer(service: Option<&Arc<Service>>) -> Result<Response<pb::Service>, Status> {
    // The state after the commit has it, unless somebody removed it at the same moment.
    let service = service.ok_or_else(|| Status::aborted("the service was removed meanwhile"))?;
    Ok(Response::new((&**service).into()))
}

/// The object is still as the caller saw it; 0 goes without the check.
fn expect(expected: u64, found: u64, what: impl FnOnce() -> String) -> Result<(), Refused> {
    if expected == 0 || expected == found { Ok(()) } else { Err(Refused::Stale { what: what() }) }
}

/// A token as it may be shown.
fn shown_token(token: &ApiToken) -> pb::ApiToken {
    pb::ApiToken { digest: Bytes::new(), ..token.into() }
}

fn content_answer(state: &State, id: String, updated: &[String]) -> pb::ContentUpdateResponse {
    let services = updated.iter().filter_map(|name| state.service_by_name(name));
    pb::ContentUpdateResponse { id, services: services.map(|service| (&**service).into()).collect() }
}

#[tonic::async_trait]
impl Control for ControlApi {
    async fn cluster_info(
        &self,
        request: Request<pb::ClusterInfoRequest>,
    ) -> Result<Response<pb::ClusterInfoResponse>, Status> {
        let state = self.read(request.get_ref().stale).await?;
        let leader = state.nodes().find(|node| node.manager.as_ref().is_some_and(|manager| manager.leader));
        Ok(Response::new(pb::ClusterInfoResponse {
            cluster: state.cluster().map(|cluster| (&read::shown_cluster(cluster)).into()),
            node_id: self.node.to_string(),
            leader_node_id: leader.map(|node| node.id.to_string()).unwrap_or_default(),
            index: state.index(),
            version: self.version.to_owned(),
        }))
    }

    async fn cluster_update(
        &self,
        request: Request<pb::ClusterUpdateRequest>,
    ) -> Result<Response<pb::Cluster>, Status> {
        let actor = self.actor(&request);
        let request = request.into_inner();
        let spec: ClusterSpec = required(request.spec, "spec")?;
        let make = |state: &State, tx: &mut Transaction, _draw: DrawId<'_>| {
            cluster::update(state, tx, request.version, spec.clone())
        };
        let (state, ()) = self.commit(&actor, make).await?;
        Ok(Response::new((&read::shown_cluster(cluster::the(&state)?)).into()))
    }

    async fn cluster_token(
        &self,
        request: Request<pb::ClusterTokenRequest>,
    ) -> Result<Response<pb::ClusterTokenResponse>, Status> {
        let actor = self.actor(&request);
        let role = NodeRole::from(request.get_ref().role());
        let request = request.into_inner();
        if !request.rotate && request.lifetime.is_some() {
            return Err(Refused::TokenLifetime.into());
        }
        let lifetime = token::lifetime(request.lifetime)?;
        let make = |state: &State, tx: &mut Transaction, draw: DrawId<'_>| match request.rotate {
            true => cluster::rotate_token(state, tx, role, lifetime, draw),
            false => Ok(()),
        };
        let (state, ()) = self.commit(&actor, make).await?;
        Ok(Response::new(cluster::token(&state, role)?))
    }

    async fn cluster_rotate_ca(
        &self,
        request: Request<pb::ClusterRotateCaRequest>,
    ) -> Result<Response<pb::ClusterRotateCaResponse>, Status> {
        let actor = self.actor(&request);
        let state = match request.get_ref().progress {
            true => self.read(false).await?,
            false => self.commit(&actor, cluster::rotate_ca).await?.0,
        };
        Ok(Response::new(cluster::rotation(&state)?))
    }

    async fn cluster_roots(
        &self,
        request: Request<pb::ClusterRootsRequest>,
    ) -> Result<Response<pb::ClusterRootsResponse>, Status> {
        let state = self.read(request.get_ref().stale).await?;
        Ok(Response::new(pb::ClusterRootsResponse { roots: cluster::roots(&state)? }))
    }

    async fn token_create(
        &self,
        request: Request<pb::TokenCreateRequest>,
    ) -> Result<Response<pb::TokenCreateResponse>, Status> {
        let actor = self.actor(&request);
        let role = ApiRole::from(request.get_ref().role());
        let request = request.into_inner();
        let bad = |error: ParseNameError| ConvertError { path: "name".to_owned(), problem: format!("{error}") };
        let name: TokenName = request.name.parse().map_err(|error| Refused::Malformed(bad(error)))?;
        let expires_at = token::lifetime(request.lifetime)?.map(|lifetime| clock::now().after(lifetime));
        let certificate = Some(request.certificate).filter(|certificate| !certificate.is_empty());
        let wanted = token::Wanted { name, role, expires_at, certificate };
        let make =
            |state: &State, tx: &mut Transaction, draw: DrawId<'_>| token::create(state, tx, &wanted, &actor, draw);
        let (state, text) = self.commit(&actor, make).await?;
        let made = token::named(&state, &wanted.name);
        Ok(Response::new(pb::TokenCreateResponse { token: made.map(shown_token), text }))
    }

    async fn token_list(
        &self,
        request: Request<pb::TokenListRequest>,
    ) -> Result<Response<pb::TokenListResponse>, Status> {
        let state = self.read(request.get_ref().stale).await?;
        let tokens = token::valid(&state, clock::now()).map(shown_token).collect();
        Ok(Response::new(pb::TokenListResponse { tokens }))
    }

    async fn token_remove(
        &self,
        request: Request<pb::TokenRemoveRequest>,
    ) -> Result<Response<pb::RemoveResponse>, Status> {
        let actor = self.actor(&request);
        let removed = request.into_inner().names;
        let make = |state: &State, tx: &mut Transaction, _draw: DrawId<'_>| token::remove(state, tx, &removed);
        self.commit(&actor, make).await?;
        Ok(Response::new(pb::RemoveResponse { removed }))
    }

    type ClusterBackupStream = futures::stream::BoxStream<'static, Result<pb::BackupChunk, Status>>;

    async fn cluster_backup(
        &self,
        _request: Request<pb::ClusterBackupRequest>,
    ) -> Result<Response<Self::ClusterBackupStream>, Status> {
        Ok(Response::new(backup::stream(self.read(false).await?)))
    }

    async fn service_create(
        &self,
        request: Request<pb::ServiceCreateRequest>,
    ) -> Result<Response<pb::Service>, Status> {
        let actor = self.actor(&request);
        let spec: ServiceSpec = required(request.into_inner().spec, "spec")?;
        self.until_free([spec.name.as_str()].into_iter()).await?;
        let make = |state: &State, tx: &mut Transaction, draw: DrawId<'_>| {
            let id = service::create(state, tx, spec.clone(), draw)?;
            depends::check(state, tx).map(|()| id)
        };
        let (state, id) = self.commit(&actor, make).await?;
        answer(state.service(id))
    }

    async fn service_update(
        &self,
        request: Request<pb::ServiceUpdateRequest>,
    ) -> Result<Response<pb::Service>, Status> {
        let actor = self.actor(&request);
        let request = request.into_inner();
        let spec: ServiceSpec = required(request.spec, "spec")?;
        let make = |state: &State, tx: &mut Transaction, draw: DrawId<'_>| {
            let service = service::alive(state, &request.id)?;
            expect(request.version, service.meta.version, || format!("service {}", service.spec.name))?;
            service::update(state, tx, service, spec.clone(), request.force, draw)?;
            depends::check(state, tx)?;
            Ok(service.id)
        };
        let (state, id) = self.commit(&actor, make).await?;
        answer(state.service(id))
    }

    async fn service_scale(
        &self,
        request: Request<pb::ServiceScaleRequest>,
    ) -> Result<Response<pb::ServiceScaleResponse>, Status> {
        let actor = self.actor(&request);
        let targets = request.into_inner().targets;
        let make = |state: &State, tx: &mut Transaction, draw: DrawId<'_>| {
            let mut ids = Vec::new();
            for target in &targets {
                let service = service::alive(state, &target.service)?;
                service::scale(state, tx, service, target.replicas, &mut *draw)?;
                ids.push(service.id);
            }
            Ok(ids)
        };
        let (state, ids) = self.commit(&actor, make).await?;
        let services = ids.iter().filter_map(|id| state.service(*id)).map(|service| (&**service).into());
        Ok(Response::new(pb::ServiceScaleResponse { services: services.collect() }))
    }

    async fn service_rollback(
        &self,
        request: Request<pb::ServiceRollbackRequest>,
    ) -> Result<Response<pb::Service>, Status> {
        let actor = self.actor(&request);
        let word = request.into_inner().id;
        let make = |state: &State, tx: &mut Transaction, _draw: DrawId<'_>| {
            let service = service::alive(state, &word)?;
            service::roll_back(tx, service)?;
            Ok(service.id)
        };
        let (state, id) = self.commit(&actor, make).await?;
        answer(state.service(id))
    }

    async fn service_remove(
        &self,
        request: Request<pb::ServiceRemoveRequest>,
    ) -> Result<Response<pb::RemoveResponse>, Status> {
        let actor = self.actor(&request);
        let request = request.into_inner();
        let make = |state: &State, tx: &mut Transaction, _draw: DrawId<'_>| {
            let mut removed = Vec::new();
            for word in &request.ids {
                let service = find::service(state, word)?;
                expect(request.version, service.meta.version, || format!("service {}", service.spec.name))?;
                service::remove(tx, service);
                removed.push(service.spec.name.to_string());
            }
            Ok(removed)
        };
        let (_, removed) = self.commit(&actor, make).await?;
        Ok(Response::new(pb::RemoveResponse { removed }))
    }

    async fn node_update(&self, request: Request<pb::NodeUpdateRequest>) -> Result<Response<pb::Node>, Status> {
        let actor = self.actor(&request);
        let request = request.into_inner();
        let spec: NodeSpec = required(request.spec, "spec")?;
        let make = |state: &State, tx: &mut Transaction, _draw: DrawId<'_>| {
            let node = find::node(state, &request.id)?;
            expect(request.version, node.meta.version, || format!("node {}", find::host_name(node)))?;
            node::update(state, tx, node, spec.clone())?;
            Ok(node.id)
        };
        let (state, id) = self.commit_with_quorum(&actor, make).await?;
        let node = state.node(id).ok_or_else(|| Status::aborted("the node was removed meanwhile"))?;
        Ok(Response::new((&**node).into()))
    }

    async fn node_remove(
        &self,
        request: Request<pb::NodeRemoveRequest>,
    ) -> Result<Response<pb::RemoveResponse>, Status> {
        let actor = self.actor(&request);
        let request = request.into_inner();
        let make = |state: &State, tx: &mut Transaction, _draw: DrawId<'_>| {
            let node = find::node(state, &request.id)?;
            expect(request.version, node.meta.version, || format!("node {}", find::host_name(node)))?;
            node::remove(state, tx, node, request.force)?;
            Ok(vec![node.id.to_string()])
        };
        let (_, removed) = self.commit_with_quorum(&actor, make).await?;
        Ok(Response::new(pb::RemoveResponse { removed }))
    }

    async fn network_create(
        &self,
        request: Request<pb::NetworkCreateRequest>,
    ) -> Result<Response<pb::Network>, Status> {
        let actor = self.actor(&request);
        let spec: NetworkSpec = required(request.into_inner().spec, "spec")?;
        let (state, bits) = self.create(&actor, spec).await?;
        let made = state.network(Id::from_random(bits)).ok_or_else(|| Status::aborted("removed meanwhile"))?;
        Ok(Response::new((&**made).into()))
    }

    async fn volume_create(&self, request: Request<pb::VolumeCreateRequest>) -> Result<Response<pb::Volume>, Status> {
        let actor = self.actor(&request);
        let spec: VolumeSpec = required(request.into_inner().spec, "spec")?;
        let (state, bits) = self.create(&actor, spec).await?;
        let made = state.volume(Id::from_random(bits)).ok_or_else(|| Status::aborted("removed meanwhile"))?;
        Ok(Response::new((&**made).into()))
    }

    async fn config_create(&self, request: Request<pb::ConfigCreateRequest>) -> Result<Response<pb::Config>, Status> {
        let actor = self.actor(&request);
        let spec: ConfigSpec = required(request.into_inner().spec, "spec")?;
        let (state, bits) = self.create(&actor, spec).await?;
        let made = state.config(Id::from_random(bits)).ok_or_else(|| Status::aborted("removed meanwhile"))?;
        Ok(Response::new((&**made).into()))
    }

    async fn secret_create(&self, request: Request<pb::SecretCreateRequest>) -> Result<Response<pb::Secret>, Status> {
        let actor = self.actor(&request);
        let spec: SecretSpec = required(request.into_inner().spec, "spec")?;
        let (state, bits) = self.create(&actor, spec).await?;
        let made = state.secret(Id::from_random(bits)).ok_or_else(|| Status::aborted("removed meanwhile"))?;
        Ok(Response::new((&read::shown_secret(made)).into()))
    }

    async fn config_update(
        &self,
        request: Request<pb::ConfigUpdateRequest>,
    ) -> Result<Response<pb::ContentUpdateResponse>, Status> {
        let actor = self.actor(&request);
        let request = request.into_inner();
        let spec: ConfigSpec = required(request.spec, "spec")?;
        let word = (request.id.as_str(), request.version);
        let make = |state: &State, tx: &mut Transaction, draw: DrawId<'_>| {
            content::update_config(state, tx, word, &spec, draw)
        };
        let (state, (id, updated)) = self.commit(&actor, make).await?;
        Ok(Response::new(content_answer(&state, id.to_string(), &updated)))
    }

    async fn secret_update(
        &self,
        request: Request<pb::SecretUpdateRequest>,
    ) -> Result<Response<pb::ContentUpdateResponse>, Status> {
        let actor = self.actor(&request);
        let request = request.into_inner();
        let spec: SecretSpec = required(request.spec, "spec")?;
        let word = (request.id.as_str(), request.version);
        let make = |state: &State, tx: &mut Transaction, draw: DrawId<'_>| {
            content::update_secret(state, tx, word, &spec, draw)
        };
        let (state, (id, updated)) = self.commit(&actor, make).await?;
        Ok(Response::new(content_answer(&state, id.to_string(), &updated)))
    }

    async fn object_remove(
        &self,
        request: Request<pb::ObjectRemoveRequest>,
    ) -> Result<Response<pb::RemoveResponse>, Status> {
        let actor = self.actor(&request);
        let request = request.into_inner();
        let kind = read::kind(request.kind)?;
        let make = |state: &State, tx: &mut Transaction, _draw: DrawId<'_>| {
            let mut removed = Vec::new();
            for word in &request.ids {
                let (name, version) = resource::remove(state, tx, kind, word)?;
                expect(request.version, version, || format!("{kind} {name}"))?;
                removed.push(name);
            }
            Ok(removed)
        };
        let (_, removed) = self.commit(&actor, make).await?;
        Ok(Response::new(pb::RemoveResponse { removed }))
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<pb::ListResponse>, Status> {
        let state = self.read(request.get_ref().stale).await?;
        Ok(Response::new(read::list(&state, request.get_ref())?))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::Object>, Status> {
        let state = self.read(request.get_ref().stale).await?;
        Ok(Response::new(read::get(&state, request.get_ref())?))
    }

    async fn stack_apply(
        &self,
        request: Request<pb::StackApplyRequest>,
    ) -> Result<Response<pb::StackApplyResponse>, Status> {
        let actor = self.actor(&request);
        let dry_run = request.get_ref().dry_run;
        let request = stack::Request::try_from(request.into_inner())?;
        let names: Vec<String> = request.stack.services.iter().map(|spec| spec.name.to_string()).collect();
        let mut foresight = None;
        let (state, outcome) = if dry_run {
            let mut state = self.read(false).await?;
            // A service that is on its way out will be gone by the time of the write: the plan makes it anew.
            let mut tx = Transaction::new(clock::now(), actor.as_str());
            let outcome = match stack::apply(&state, &mut tx, &request, &mut rand::random) {
                Err(Refused::BeingRemoved { .. }) => {
                    self.until_free(names.iter().map(String::as_str)).await?;
                    (state, tx) = (self.hub.snapshot(), Transaction::new(clock::now(), actor.as_str()));
                    stack::apply(&state, &mut tx, &request, &mut rand::random)?
                }
                planned => planned?,
            };
            foresight = Some(foresee::after(&state, &tx, &names, &mut rand::random)?);
            (state, outcome)
        } else {
            self.until_free(names.iter().map(String::as_str)).await?;
            self.commit(&actor, |state, tx, draw| stack::apply(state, tx, &request, draw)).await?
        };
        if !dry_run {
            self.clean_up(outcome.later);
        }
        let services = names.iter().filter_map(|name| state.service_by_name(name)).filter(|one| !one.pending_delete);
        Ok(Response::new(pb::StackApplyResponse {
            index: state.index(),
            plan: outcome.plan,
            services: services.map(|service| (&**service).into()).collect(),
            foresight,
        }))
    }

    async fn task_explain(
        &self,
        request: Request<pb::TaskExplainRequest>,
    ) -> Result<Response<pb::TaskExplainResponse>, Status> {
        let state = self.read(false).await?;
        Ok(Response::new(foresee::explain(&state, &request.get_ref().name_or_id, clock::now())?))
    }

    async fn cluster_rebalance(
        &self,
        request: Request<pb::ClusterRebalanceRequest>,
    ) -> Result<Response<pb::ClusterRebalanceResponse>, Status> {
        let state = self.read(false).await?;
        Ok(Response::new(foresee::rebalance(&state, request.get_ref(), clock::now())))
    }

    async fn stack_remove(
        &self,
        request: Request<pb::StackRemoveRequest>,
    ) -> Result<Response<pb::RemoveResponse>, Status> {
        let actor = self.actor(&request);
        let name = request.into_inner().stack;
        let (_, (removed, later)) = self.commit(&actor, |state, tx, _draw| stack::remove(state, tx, &name)).await?;
        self.clean_up(later);
        Ok(Response::new(pb::RemoveResponse { removed }))
    }

    type WatchStream = EventStream;

    async fn watch(&self, request: Request<pb::WatchRequest>) -> Result<Response<EventStream>, Status> {
        Ok(Response::new(watch::start(&self.hub, request.get_ref())?))
    }
}
