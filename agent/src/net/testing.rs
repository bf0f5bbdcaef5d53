//! A network for tests: it takes its time and remembers what it was asked, has routes and a link, and is changed by somebody.
#![allow(clippy::unwrap_used)]

use std::sync::Mutex;
use std::time::Duration;

use berth_netoverlay::files::SandboxFiles;
use berth_netoverlay::model::Underlay;
use berth_netoverlay::names::LinkName;

use super::*;

/// What it was asked, and what it answers.
#[derive(Default)]
pub struct Remembering {
    /// Each call in a word.
    pub said: Mutex<Vec<String>>,
    /// The node's routes.
    pub routes: Mutex<Vec<IpNet>>,
    /// What each look mends.
    pub steps: Mutex<Vec<String>>,
    /// The nodes that it was told last.
    pub nodes: Mutex<Nodes>,
    /// The one task that it has room for.
    pub attached: Mutex<Option<TaskId>>,
}

impl Remembering {
    async fn take(&self, what: String) -> Result<Report, OverlayError> {
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.said.lock().unwrap().push(what);
        Ok(Report::default())
    }
}

#[async_trait]
impl Network for Remembering {
    async fn attach(&self, spec: SandboxSpec) -> Result<Sandbox, OverlayError> {
        self.take(format!("attach {}", spec.task.as_u128())).await?;
        let holder = *self.attached.lock().unwrap().get_or_insert(spec.task);
        if holder != spec.task {
            let address = IpAddr::from([10, 99, 0, 77]);
            return Err(OverlayError::AddressTaken { task: spec.task, holder, name: "back".into(), address });
        }
        Ok(Sandbox { netns: None, files: SandboxFiles::default() })
    }
    async fn keep_names(&self, _: TaskId) -> Option<NameSockets> {
        None
    }
    async fn give_names(&self, _: TaskId, _: NameSockets) -> Result<(), OverlayError> {
        Ok(())
    }
    async fn detach(&self, task: TaskId) -> Result<(), OverlayError> {
        self.take(format!("detach {}", task.as_u128())).await?;
        self.attached.lock().unwrap().take_if(|holder| *holder == task);
        Ok(())
    }
    async fn set_ready(&self, task: TaskId, ready: bool) -> Result<Report, OverlayError> {
        self.take(format!("{} {ready}", task.as_u128())).await
    }
    async fn set_networks(&self, _: Vec<OverlayNetwork>) -> Result<Report, OverlayError> {
        self.take("networks".into()).await
    }
    async fn set_nodes(&self, nodes: Nodes) -> Result<Report, OverlayError> {
        *self.nodes.lock().unwrap() = nodes;
        self.take("nodes".into()).await
    }
    async fn set_services(&self, _: Vec<Service>) -> Result<Report, OverlayError> {
        self.take("services".into()).await
    }
    async fn reconcile(&self) -> Result<Report, OverlayError> {
        let report = self.take("reconcile".into()).await?;
        Ok(Report { steps: self.steps.lock().unwrap().clone(), ..report })
    }
    async fn routes(&self) -> Result<Vec<IpNet>, OverlayError> {
        Ok(self.routes.lock().unwrap().clone())
    }
    async fn ground(&self, own: IpAddr) -> Result<Option<Ground>, OverlayError> {
        let below = Underlay { link: LinkName::listed("eth0"), range: IpNet::from(own), mtu: 9000 };
        Ok(Some(Ground { below, tunnel: None }))
    }
}
