//! Published ports that this node cannot have, told to the tasks that they are published for.
//!
//! A task that starts is refused when its service's port is taken. This is for the rest: a service that runs and gets another
//! port. Level-triggered; owns what was found last. Never changes what is published.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use berth_netoverlay::OverlayError;
use berth_proto::id::ServiceId;
use berth_proto::spec::{Protocol, PublishMode};
use tokio_util::sync::CancellationToken;

use super::{Assignments, Inventory, Worker};
use crate::net::Driver;

/// Between two looks while a port is not to be had.
const RETRY: Duration = Duration::from_secs(5);

type Ports = Vec<(Protocol, u16)>;

/// Makes sure of published ports; the real one is [`Driver`].
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Why this node does not have one of these ports; `None` when it has all.
    async fn trouble(&self, ports: &[(Protocol, u16)]) -> Option<String>;
}

#[async_trait]
impl Publisher for Driver {
    async fn trouble(&self, ports: &[(Protocol, u16)]) -> Option<String> {
        match self.require_ports(ports).await {
            Err(error @ (OverlayError::Port(_) | OverlayError::Clash(_))) => Some(crate::errors::chain(&error)),
            // Of anything else the driver itself tells, and tries again.
            Ok(()) | Err(_) => None,
        }
    }
}

/// Follows the published ports until `shutdown`.
pub async fn run(
    publisher: Arc<dyn Publisher>,
    inventory: Arc<Inventory>,
    worker: Arc<Worker>,
    shutdown: CancellationToken,
) {
    let mut changes = inventory.watch();
    let (mut known, mut troubles) = (BTreeMap::new(), BTreeMap::new());
    loop {
        changes.mark_unchanged();
        let wanted = inventory.read(published);
        if wanted != known || !troubles.is_empty() {
            troubles = find(&*publisher, &wanted).await;
            known = wanted;
        }
        // Also to tasks that have come since.
        for service in known.keys() {
            worker.trouble(*service, troubles.get(service).map(String::as_str));
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            // Cancel-safe: a change that nobody took is there at the next wait.
            changed = changes.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(RETRY), if !troubles.is_empty() => {}
        }
    }
}

/// Ports that this node publishes for services, whichever of their tasks answers.
fn published(assigned: &Assignments) -> BTreeMap<ServiceId, Ports> {
    let ports = assigned.endpoints.values().map(|endpoints| {
        let ingress = endpoints.endpoint.ports.iter().filter(|port| port.mode == PublishMode::Ingress);
        let ports: Ports = ingress.filter_map(|port| Some((port.protocol, port.published?))).collect();
        (endpoints.service, ports)
    });
    ports.filter(|(_, ports)| !ports.is_empty()).collect()
}

/// What is wrong, by service. One look where all is well.
async fn find(publisher: &dyn Publisher, wanted: &BTreeMap<ServiceId, Ports>) -> BTreeMap<ServiceId, String> {
    let all: Ports = wanted.values().flatten().copied().collect();
    let mut troubles = BTreeMap::new();
    if publisher.trouble(&all).await.is_some() {
        for (service, ports) in wanted {
            troubles.extend(publisher.trouble(ports).await.map(|why| (*service, why)));
        }
    }
    troubles
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Mutex;

    /// Says no to one port and remembers what it was asked.
    struct Taken(u16, Mutex<Vec<Ports>>);

    #[async_trait]
    impl Publisher for Taken {
        async fn trouble(&self, ports: &[(Protocol, u16)]) -> Option<String> {
            self.1.lock().unwrap().push(ports.to_vec());
            let taken = ports.iter().any(|(_, port)| *port == self.0);
            taken.then(|| format!("port {} is taken", self.0))
        }
    }

    #[tokio::test]
    async fn the_service_whose_port_is_taken_is_found() {
        let (one, two) = (ServiceId::from_random(1), ServiceId::from_random(2));
        let wanted =
            BTreeMap::from([(one, vec![(Protocol::Tcp, 80)]), (two, vec![(Protocol::Tcp, 81), (Protocol::Udp, 82)])]);
        let publisher = Taken(82, Mutex::default());
        assert_eq!(find(&publisher, &wanted).await, BTreeMap::from([(two, "port 82 is taken".to_owned())]));
        let publisher = Taken(90, Mutex::default());
        assert!(find(&publisher, &wanted).await.is_empty());
        assert_eq!(publisher.1.lock().unwrap().len(), 1, "one look where all is well");
    }
}
