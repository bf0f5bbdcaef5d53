//! The real kernel.
//!
//! Owns the sockets of the node and of every task's namespace; carries out steps one by one.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_proto::id::TaskId;

use super::forget::Forgetter;
use super::host::Host;
use super::ports::HeldPorts;
use super::reaper::Reaper;
use super::sandbox::Namespace;
use super::translator::Translator;
use super::{DnsSockets, Kernel, KernelError, NameSockets, PortError, namespace, route_io};
use crate::config::Config;
use crate::model::{Ground, Observed, PublishedPort};
use crate::names::Instance;
use crate::plan::{Op, Place};

/// The kernel of the node that the calling process runs on.
pub struct Linux {
    instance: Instance,
    table: String,
    directory: PathBuf,
    host: Mutex<Host>,
    namespaces: Mutex<BTreeMap<TaskId, Arc<Mutex<Namespace>>>>,
    spare: Mutex<Vec<Namespace>>,
    spares: usize,
    ports: Mutex<HeldPorts>,
    dns: Mutex<Vec<DnsSockets>>,
    reaper: Reaper,
    forgetter: Forgetter,
    translator: Mutex<Translator>,
}

/// A lock whose holder panicked guards sockets that are as good as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Linux {
    /// Opens the kernel's sockets in the calling thread's namespace and prepares the directory of bind mounts.
    pub fn open(config: &Config) -> Result<Self, KernelError> {
        namespace::prepare_directory(&config.netns_dir)?;
        Ok(Self {
            instance: config.instance.clone(),
            table: config.table.clone(),
            directory: config.netns_dir.clone(),
            host: Mutex::new(Host::open(config, config.bridge_nf_off)?),
            namespaces: Mutex::default(),
            spare: Mutex::default(),
            spares: config.spare_namespaces,
            ports: Mutex::default(),
            dns: Mutex::default(),
            reaper: Reaper::start()?,
            forgetter: Forgetter::start()?,
            translator: Mutex::new(Translator::open(&config.bpf_dir, config.service_backend)?),
        })
    }

    /// Says what on this node will keep packets from tasks, whatever Berth does.
    pub fn warn_of_obstacles(&self) {
        match lock(&self.host).foreign_drops() {
            Ok(chains) => chains.iter().for_each(|chain| {
                tracing::warn!(
                    chain,
                    "drops forwarded packets by default: accept those from and to {}b+",
                    self.instance
                );
            }),
            Err(error) => tracing::debug!(%error, "cannot look for other packet filters"),
        }
    }

    /// The namespace of a task, opened from its path if this process does not have it yet.
    fn namespace(&self, task: TaskId) -> Result<Option<Arc<Mutex<Namespace>>>, KernelError> {
        let mut all = lock(&self.namespaces);
        if let Some(known) = all.get(&task) {
            return Ok(Some(known.clone()));
        }
        let Some(fd) = namespace::open(&self.namespace_path(task))? else { return Ok(None) };
        let found = Arc::new(Mutex::new(Namespace::adopt(fd, self.table.clone())?));
        all.insert(task, found.clone());
        Ok(Some(found))
    }

    fn within<T>(
        &self,
        task: TaskId,
        work: impl FnOnce(&mut Namespace) -> Result<T, KernelError>,
    ) -> Result<T, KernelError> {
        let missing = || KernelError::Namespace {
            action: "open",
            path: self.namespace_path(task),
            source: std::io::ErrorKind::NotFound.into(),
        };
        let namespace = self.namespace(task)?.ok_or_else(missing)?;
        let mut namespace = lock(&namespace);
        work(&mut namespace)
    }

    /// Takes something away inside a namespace; with the namespace it is gone already.
    fn take_away(
        &self,
        task: TaskId,
        work: impl FnOnce(&mut Namespace) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        match self.namespace(task)? {
            Some(namespace) => work(&mut lock(&namespace)),
            None => Ok(()),
        }
    }

    fn create(&self, task: TaskId, v6: bool) -> Result<(), KernelError> {
        let path = self.namespace_path(task);
        let spare = lock(&self.spare).pop();
        let namespace = match spare {
            Some(spare) => spare,
            None => Namespace::create(self.table.clone())?,
        };
        if v6 {
            namespace.enable_v6()?;
        }
        self.reaper.wait(Some(task));
        namespace::bind(&namespace.fd, &path)?;
        lock(&self.namespaces).insert(task, Arc::new(Mutex::new(namespace)));
        Ok(())
    }

    fn delete(&self, task: TaskId) -> Result<(), KernelError> {
        lock(&self.namespaces).remove(&task);
        self.reaper.remove(task, self.namespace_path(task))
    }

    fn carry_out(&self, op: &Op) -> Result<(), KernelError> {
        let host = || lock(&self.host);
        match op {
            Op::Forward { v6 } => host().forward(*v6),
            Op::CreateBridge { bridge, mac, mtu } => host().create_bridge(bridge, *mac, *mtu),
            Op::MendBridge { bridge, mtu } => host().set_up_bridge(bridge, *mtu),
            Op::AddNodeAddress { link, address } => route_io::add_address(&mut host().route, link, *address),
            Op::RemoveNodeAddress { link, address } => route_io::remove_address(&mut host().route, link, *address),
            Op::CreateTunnel { tunnel } => host().create_tunnel(tunnel),
            Op::MendTunnel { tunnel } => host().set_up_tunnel(tunnel),
            Op::Ways { tunnel, bridge, remove, add } => host().change_ways(tunnel, bridge.as_ref(), remove, add),
            Op::Direct { remove, add } => host().change_direct(remove, add),
            Op::Probes { remove, add } => host().change_probes(remove, add),
            Op::AddReturn { link, way } => host().add_return(link, *way),
            Op::RemoveReturn { way } => host().remove_return(*way),
            Op::DeleteLink { link } => host().delete_link(link),
            Op::Plug { outside, bridge, apart } => host().plug(outside, bridge, *apart),
            Op::Table { place: Place::Node, change } => host().change(change),
            // UDP clients of a published port move on before the call returns; the rest may take a moment.
            Op::Forget { place: Place::Node, flows } if flows.iter().any(|flow| flow.proto.is_some()) => {
                host().forget(flows).map(drop)
            }
            Op::Forget { place: Place::Node, flows } => {
                self.forgetter.on_node(flows.clone());
                Ok(())
            }
            Op::CreateSandbox { task, v6 } => self.create(*task, *v6),
            Op::DeleteSandbox { task } => self.delete(*task),
            Op::Connect { task, link } => {
                use std::os::fd::AsFd;
                self.within(*task, |n| {
                    host().connect(link, n.fd.as_fd())?;
                    route_io::set_link(&mut n.route, &link.inside, None, None)
                })
            }
            Op::MendLink { task, link, mtu } => {
                self.within(*task, |n| route_io::set_link(&mut n.route, link, Some(*mtu), None))
            }
            Op::DeleteTaskLink { task, link } => self.take_away(*task, |n| route_io::delete_link(&mut n.route, link)),
            Op::AddAddress { task, link, address } => {
                self.within(*task, |n| route_io::add_address(&mut n.route, link, *address))
            }
            Op::RemoveAddress { task, link, address } => {
                self.take_away(*task, |n| route_io::remove_address(&mut n.route, link, *address))
            }
            Op::AddRoute { task, route } => self.within(*task, |n| n.add_route(route)),
            Op::RemoveRoute { task, route } => self.take_away(*task, |n| n.remove_route(route)),
            Op::AddRule { task, rule } => self.within(*task, |n| n.add_rule(*rule)),
            Op::RemoveRule { task, rule } => self.take_away(*task, |n| n.remove_rule(*rule)),
            Op::OpenDns { task } => {
                let sockets = self.within(*task, |n| n.open_dns(*task))?;
                lock(&self.dns).push(sockets);
                Ok(())
            }
            Op::Table { place: Place::Sandbox(task), change } => self.within(*task, |n| n.change(change)),
            Op::MakeTranslator => {
                lock(&self.translator).make();
                Ok(())
            }
            Op::RemoveTranslator => lock(&self.translator).remove(),
            Op::Frontends { change } => {
                lock(&self.translator).change(change);
                Ok(())
            }
            Op::Admit { task, networks } => {
                let cookie = self.within(*task, |n| Ok(n.cookie()))?;
                lock(&self.translator).admit(cookie, networks);
                Ok(())
            }
            Op::Expel { task } => {
                // One whose namespace is gone is a stray in the next listing.
                if let Some(namespace) = self.namespace(*task)? {
                    let cookie = lock(&namespace).cookie();
                    lock(&self.translator).expel(&[cookie]);
                }
                Ok(())
            }
            Op::ExpelStrays { cookies } => {
                lock(&self.translator).expel(cookies);
                Ok(())
            }
            Op::Forget { place: Place::Sandbox(task), flows } => {
                if let Some(namespace) = self.namespace(*task)? {
                    let peers = lock(&self.translator).peers();
                    self.forgetter.in_namespace(&namespace, flows.clone(), peers);
                }
                Ok(())
            }
        }
    }

    fn tasks_on_disk(&self) -> Result<Vec<TaskId>, KernelError> {
        let fail = |source| KernelError::Namespace { action: "list", path: self.directory.clone(), source };
        let mut tasks = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            tasks.extend(name.to_str().and_then(|text| text.parse::<TaskId>().ok()));
        }
        Ok(tasks)
    }
}

impl Kernel for Linux {
    fn list(&self) -> Result<Observed, KernelError> {
        self.reaper.wait(None);
        let mut observed = Observed::default();
        lock(&self.host).list(&self.instance, &mut observed)?;
        let mut cookies = BTreeMap::new();
        for task in self.tasks_on_disk()? {
            match self.namespace(task)? {
                Some(namespace) => {
                    let mut namespace = lock(&namespace);
                    cookies.insert(namespace.cookie(), task);
                    observed.sandboxes.insert(task, namespace.list()?);
                }
                // A file without a namespace: the daemon was killed before it was bound.
                None => namespace::unbind(&self.namespace_path(task))?,
            }
        }
        let mut translator = lock(&self.translator);
        observed.service_backend = translator.backend();
        observed.translator = translator.list(&cookies);
        observed.held = self.held_ports().into_iter().collect();
        Ok(observed)
    }

    fn apply(&self, ops: &[Op]) -> Result<(), (usize, KernelError)> {
        ops.iter().enumerate().try_for_each(|(done, op)| self.carry_out(op).map_err(|error| (done, error)))
    }

    fn hold_ports(&self, wanted: &[PublishedPort]) -> Vec<PortError> {
        let mut ports = lock(&self.ports);
        ports.retain(wanted);
        ports.hold_more(wanted)
    }

    fn hold_more_ports(&self, wanted: &[PublishedPort]) -> Vec<PortError> {
        lock(&self.ports).hold_more(wanted)
    }

    fn held_ports(&self) -> Vec<PublishedPort> {
        lock(&self.ports).list()
    }

    fn take_dns_sockets(&self) -> Vec<DnsSockets> {
        std::mem::take(&mut lock(&self.dns))
    }

    fn keep_dns_sockets(&self, task: TaskId) -> Option<NameSockets> {
        let namespace = lock(&self.namespaces).get(&task).cloned()?;
        lock(&namespace).take_copies()
    }

    fn give_dns_sockets(&self, task: TaskId, kept: NameSockets) -> Result<(), KernelError> {
        self.within(task, |namespace| namespace.give_names(task, kept))
    }

    fn namespace_path(&self, task: TaskId) -> PathBuf {
        self.directory.join(task.to_string())
    }

    fn routes(&self) -> Result<Vec<ipnet::IpNet>, KernelError> {
        lock(&self.host).routes(&self.instance)
    }

    fn ground(&self, own: IpAddr) -> Result<Option<Ground>, KernelError> {
        lock(&self.host).ground(&self.instance, own)
    }

    fn prepare_spares(&self) -> Result<(), KernelError> {
        while lock(&self.spare).len() < self.spares {
            let namespace = Namespace::create(self.table.clone())?;
            lock(&self.spare).push(namespace);
        }
        Ok(())
    }

    fn teardown(&self) -> Result<(), KernelError> {
        lock(&self.ports).retain(&[]);
        lock(&self.spare).clear();
        lock(&self.host).teardown(&self.instance)?;
        lock(&self.translator).teardown()?;
        for task in self.tasks_on_disk()? {
            self.delete(task)?;
        }
        self.reaper.wait(None);
        namespace::remove_directory(&self.directory);
        Ok(())
    }
}
