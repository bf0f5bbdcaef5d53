//! The surface of this crate: what the agent calls.
//!
//! Level-triggered: each call changes what is desired, then the node is brought there. One pass runs at a time. Blocking
//! work runs on blocking threads and is never cut off by a dropped future. Nothing here decides what to do about a
//! difference: that is [`crate::plan`].

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use berth_proto::id::{ServiceId, TaskId};
use tokio::sync::Mutex;

use crate::config::Config;
use crate::converge::{Report, Scope, State, converge};
use crate::dns::{Dns, Questions};
use crate::error::OverlayError;
use crate::files::{self, SandboxFiles};
use crate::kernel::{Kernel, KernelError, Linux, NameSockets};
use crate::model::{Desired, Ground, Mode, Network, Nodes, SandboxSpec, Service};

/// The node's container network. Cheap to clone.
#[derive(Clone)]
pub struct Overlay {
    kernel: Arc<dyn Kernel>,
    config: Arc<Config>,
    state: Arc<Mutex<State>>,
    dns: Dns,
}

/// A task's network, ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// The namespace for the container to join; `None` means the node's own.
    pub netns: Option<PathBuf>,
    /// What to write into the container's `/etc`.
    pub files: SandboxFiles,
}

impl Overlay {
    /// Opens the overlay of this node. Changes nothing of what is there: what a daemon before left behind keeps working and is
    /// taken over by the calls that follow. Must be called within a tokio runtime.
    pub async fn open(config: Config) -> Result<Self, OverlayError> {
        let settings = config.clone();
        let open = move || Linux::open(&settings).inspect(Linux::warn_of_obstacles);
        let kernel = blocking(open).await?.map_err(|source| OverlayError::List { source })?;
        Ok(Self::with_kernel(Arc::new(kernel), config))
    }

    /// The same on another kernel, for tests.
    pub fn with_kernel(kernel: Arc<dyn Kernel>, config: Config) -> Self {
        let dns = Dns::new(config.resolv_conf.clone());
        let state = Arc::new(Mutex::new(State::new(config.instance.clone())));
        Self { kernel, config: Arc::new(config), state, dns }
    }

    /// Replaces everything desired and brings the node there; what is not in `desired` goes away. Returns when the kernel has
    /// it. Steps and ports that failed are in the report, everything else is done.
    pub async fn apply(&self, desired: Desired) -> Result<Report, OverlayError> {
        self.change(Scope::Everything, move |state| {
            state.replace(desired);
            state.settle();
        })
        .await
    }

    /// Replaces the networks of this node and makes their bridges. One that is not among them any more goes when the last task
    /// on it is detached.
    pub async fn set_networks(&self, networks: Vec<Network>) -> Result<Report, OverlayError> {
        let networks = networks.into_iter().map(|n| (n.id, n)).collect();
        self.change(Scope::Everything, move |state| state.set_networks(networks)).await
    }

    /// Replaces what is known of the nodes: this one's own place, and the others. Returns when what leads to them is made.
    pub async fn set_nodes(&self, nodes: Nodes) -> Result<Report, OverlayError> {
        self.change(Scope::Everything, move |state| state.desired.nodes = nodes).await
    }

    /// Replaces the services: names, virtual addresses, backends, ingress ports. Returns when the kernel has it, so a backend
    /// that is not ready in `services` gets no new connection from this node any more.
    pub async fn set_services(&self, services: Vec<Service>) -> Result<Report, OverlayError> {
        self.change(Scope::Balance, move |state| state.desired.set_services(services)).await
    }

    /// Adds or replaces one service.
    pub async fn set_service(&self, service: Service) -> Result<Report, OverlayError> {
        self.change(Scope::Balance, move |state| drop(state.desired.services.insert(service.id, Arc::new(service))))
            .await
    }

    /// Removes one service.
    pub async fn remove_service(&self, service: ServiceId) -> Result<Report, OverlayError> {
        self.change(Scope::Balance, move |state| drop(state.desired.services.remove(&service))).await
    }

    /// Takes a task into, or out of, every service and host-mode port that it answers for. Returns when the kernel has it: call
    /// with `false` before the stop signal, and no new connection from this node reaches the task.
    pub async fn set_ready(&self, task: TaskId, ready: bool) -> Result<Report, OverlayError> {
        self.change(Scope::Balance, move |state| state.set_ready(task, ready)).await
    }

    /// Makes a task's network and returns when it is ready. Calling it again with the same spec changes nothing, with another
    /// one mends the difference; after a restart of the daemon it takes over what is there. A host-mode port that somebody
    /// else holds is an error, and then nothing of the task stays behind.
    pub async fn attach(&self, spec: SandboxSpec) -> Result<Sandbox, OverlayError> {
        let task = spec.task;
        let mut state = self.state.clone().lock_owned().await;
        crate::check::attachment(&state.desired, &spec)?;
        let (kernel, dns, config) = (self.kernel.clone(), self.dns.clone(), self.config.clone());
        let attached = blocking(move || {
            if let Some(clash) = crate::check::clash(&state.desired, &spec) {
                return Err(clash.into());
            }
            if let Some(error) = kernel.hold_more_ports(&spec.ports).into_iter().next() {
                return Err(error.into());
            }
            let before = state.desired.sandboxes.insert(task, Arc::new(spec.clone()));
            let result = converge(&*kernel, &mut state, &dns, Scope::Task(task)).and_then(|r| r.into_task_result(task));
            if let Err(error) = result {
                match before {
                    Some(before) => drop(state.desired.sandboxes.insert(task, before)),
                    None => drop(state.remove_sandbox(task)),
                }
                if let Err(again) = converge(&*kernel, &mut state, &dns, Scope::Task(task)) {
                    tracing::warn!(%task, error = %again, "cannot undo a failed attach now, the next pass will");
                }
                return Err(error);
            }
            let netns = (spec.mode != Mode::Host).then(|| kernel.namespace_path(task));
            Ok(Sandbox { netns, files: files::render(&config, &state.desired, &spec, &dns.upstream()) })
        })
        .await?;
        self.prepare_spares();
        attached
    }

    /// The name server's sockets of a task that was just attached, to be kept by somebody who outlives this process; `None` when
    /// they were kept already. While they are open, questions wait in them for [`Self::give_names`] of the next life.
    pub async fn keep_names(&self, task: TaskId) -> Option<NameSockets> {
        let kernel = self.kernel.clone();
        blocking(move || kernel.keep_dns_sockets(task)).await.ok().flatten()
    }

    /// What became of the questions for names so far.
    pub fn questions(&self) -> Arc<Questions> {
        self.dns.questions()
    }

    /// Stops answering names in this life; the tasks' networks stay as they are.
    pub fn stop_names(&self) {
        self.dns.stop_all();
    }

    /// Hands over sockets that were kept, before the task is attached again by this life.
    pub async fn give_names(&self, task: TaskId, kept: NameSockets) -> Result<(), OverlayError> {
        let kernel = self.kernel.clone();
        let given = blocking(move || kernel.give_dns_sockets(task, kept)).await?;
        given.map_err(|source| OverlayError::List { source })
    }

    /// Removes a task's network. Not an error if there is none.
    pub async fn detach(&self, task: TaskId) -> Result<(), OverlayError> {
        let mut state = self.state.clone().lock_owned().await;
        let (kernel, dns) = (self.kernel.clone(), self.dns.clone());
        blocking(move || {
            let left = state.remove_sandbox(task);
            let detached = converge(&*kernel, &mut state, &dns, Scope::Task(task))?.into_task_result(task);
            if left && let Err(error) = converge(&*kernel, &mut state, &dns, Scope::Everything) {
                tracing::warn!(%task, %error, "cannot remove the networks that it was the last on now, the next pass will");
            }
            detached
        })
        .await?
    }

    /// Lists the node, mends what differs from what is desired, and removes what is not desired. Call it on a period, and once
    /// after a start when every network, service and task was given: before that nothing unknown is removed.
    pub async fn reconcile(&self) -> Result<Report, OverlayError> {
        self.change(Scope::Everything, |state| {
            state.forget_observed();
            state.settle();
        })
        .await
    }

    /// Ranges that this node has routes to, other than by its own networks: what networks should not be given. At most
    /// [`crate::claimed::MOST_CLAIMED`], sorted.
    pub async fn routes(&self) -> Result<Vec<ipnet::IpNet>, OverlayError> {
        let kernel = self.kernel.clone();
        blocking(move || kernel.routes()).await?.map_err(|source| OverlayError::List { source })
    }

    /// What tunnels from this address of the node go by; `None` when the node has no such address.
    pub async fn ground(&self, own: IpAddr) -> Result<Option<Ground>, OverlayError> {
        let kernel = self.kernel.clone();
        blocking(move || kernel.ground(own)).await?.map_err(|source| OverlayError::List { source })
    }

    /// What is desired now.
    pub async fn desired(&self) -> Desired {
        self.state.lock().await.desired.clone()
    }

    /// Where a task's namespace is (or would be) bound.
    pub fn netns_path(&self, task: TaskId) -> PathBuf {
        self.kernel.namespace_path(task)
    }

    /// Deletes everything of this instance: namespaces, links, tables, held ports. Containers lose their network.
    pub async fn teardown(self) -> Result<(), OverlayError> {
        let mut state = self.state.clone().lock_owned().await;
        self.dns.stop_all();
        let kernel = self.kernel.clone();
        blocking(move || {
            state.forget_observed();
            state.replace(Desired::default());
            kernel.teardown().map_err(|source: KernelError| OverlayError::List { source })
        })
        .await?
    }

    /// Replaces used up spare namespaces without making anybody wait.
    fn prepare_spares(&self) {
        let kernel = self.kernel.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = kernel.prepare_spares() {
                tracing::warn!(%error, "cannot make spare network namespaces");
            }
        });
    }

    async fn change(
        &self,
        scope: Scope,
        edit: impl FnOnce(&mut State) + Send + 'static,
    ) -> Result<Report, OverlayError> {
        let mut state = self.state.clone().lock_owned().await;
        let (kernel, dns) = (self.kernel.clone(), self.dns.clone());
        blocking(move || {
            edit(&mut state);
            converge(&*kernel, &mut state, &dns, scope)
        })
        .await?
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, OverlayError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| OverlayError::Stopped)
}
