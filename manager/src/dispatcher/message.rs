//! Assignments as protobuf messages.

use berth_proto::content::ContentDigest;
use berth_proto::id::Id;
use berth_proto::object::FileObject;
use berth_proto::pb;
use berth_proto::spec::EndpointMode;

use super::assignment::{Assigned, Changes, Item, Key};
use super::endpoints::{Backend, Endpoints, EndpointsChange};
use crate::store::peers::Peer;

/// A complete set, made from the state at `index`.
pub fn complete(sequence: u64, index: u64, set: &Assigned) -> pb::ManagerMessage {
    let assignments = set.items().map(|item| assignment(&item)).collect();
    manager_message(pb::manager_message::Message::Complete(pb::AssignmentSet { sequence, assignments, index }))
}

/// Changes on top of what was sent before, made from the state at `index`.
pub fn changes(sequence: u64, index: u64, changes: &Changes) -> pb::ManagerMessage {
    manager_message(pb::manager_message::Message::Changes(pb::AssignmentChanges {
        sequence,
        updates: changes.updates.iter().map(assignment).collect(),
        removals: changes.removals.iter().map(key).collect(),
        index,
    }))
}

/// Any message to an agent.
pub fn manager_message(message: pb::manager_message::Message) -> pb::ManagerMessage {
    pb::ManagerMessage { message: Some(message) }
}

fn assignment(item: &Item) -> pb::Assignment {
    use pb::assignment::Item as Wire;
    let item = match item {
        Item::Peer(it) => Wire::Peer(peer(it)),
        Item::Spec(service, version, spec) => Wire::Spec(pb::AssignedSpec {
            key: Some(pb::SpecKey { service_id: service.to_string(), spec_version: *version }),
            spec: Some((&**spec).into()),
        }),
        Item::Network(network) => Wire::Network((&**network).into()),
        Item::Volume(volume) => Wire::Volume((&**volume).into()),
        Item::Config(config, digest) => Wire::Config(file(config.id, &**config, *digest)),
        Item::Secret(secret, digest) => Wire::Secret(file(secret.id, &**secret, *digest)),
        Item::Endpoints(it) => Wire::Endpoints(endpoints(it)),
        Item::EndpointsChange(it) => Wire::Endpoints(endpoints_change(it)),
        Item::Measure(service, requests) => {
            let requests = requests.as_ref().map(Into::into);
            Wire::Measure(pb::Measure { service_id: service.to_string(), requests })
        }
        Item::Task(task) => Wire::Task((&**task).into()),
    };
    pb::Assignment { item: Some(item) }
}

fn key(key: &Key) -> pb::AssignmentKey {
    use pb::assignment_key::Key as Wire;
    let key = match key {
        Key::Peer(id) => Wire::Peer(id.to_string()),
        Key::Spec(service, version) => {
            Wire::Spec(pb::SpecKey { service_id: service.to_string(), spec_version: *version })
        }
        Key::Network(id) => Wire::Network(id.to_string()),
        Key::Volume(id) => Wire::Volume(id.to_string()),
        Key::Config(id, digest) => Wire::Config(file_key(*id, *digest)),
        Key::Secret(id, digest) => Wire::Secret(file_key(*id, *digest)),
        Key::Endpoints(id) => Wire::Endpoints(id.to_string()),
        Key::Measure(id) => Wire::Measure(id.to_string()),
        Key::Task(id) => Wire::Task(id.to_string()),
    };
    pb::AssignmentKey { key: Some(key) }
}

/// One content, and nothing else of its object.
fn file<K, T: FileObject>(id: Id<K>, object: &T, digest: ContentDigest) -> pb::AssignedFile {
    let content = object.content(Some(digest));
    pb::AssignedFile { id: id.to_string(), name: object.name().to_owned(), content: content.as_ref().map(Into::into) }
}

fn file_key<K>(id: Id<K>, digest: ContentDigest) -> pb::FileKey {
    pb::FileKey { id: id.to_string(), digest: digest.0.to_vec().into() }
}

fn peer(it: &Peer) -> pb::Peer {
    pb::Peer {
        node_id: it.node.to_string(),
        address: it.address.to_string(),
        ingress: it.ingress.iter().map(ToString::to_string).collect(),
        keys: it.keys.iter().map(Into::into).collect(),
    }
}

fn endpoints(it: &Endpoints) -> pb::ServiceEndpoints {
    let mode = match it.mode {
        EndpointMode::Vip => pb::endpoint_spec::Mode::Vip,
        EndpointMode::Dnsrr => pb::endpoint_spec::Mode::Dnsrr,
    };
    pb::ServiceEndpoints {
        service_id: it.service.to_string(),
        service_name: it.name.to_string(),
        stack: it.stack.as_ref().map(ToString::to_string),
        mode: mode.into(),
        endpoint: it.endpoint.as_ref().map(Into::into),
        backends: it.backends.iter().map(backend).collect(),
        partial: false,
        removed: Vec::new(),
    }
}

/// Says no more than what changed.
fn endpoints_change(it: &EndpointsChange) -> pb::ServiceEndpoints {
    let changed = it.changed.iter().filter_map(|at| it.of.backends.get(*at));
    pb::ServiceEndpoints {
        service_id: it.of.service.to_string(),
        partial: true,
        backends: changed.map(backend).collect(),
        removed: it.removed.iter().map(ToString::to_string).collect(),
        ..pb::ServiceEndpoints::default()
    }
}

fn backend(it: &Backend) -> pb::Backend {
    pb::Backend {
        task_id: it.task.to_string(),
        slot: it.slot,
        node_id: it.node.to_string(),
        hostname: it.hostname.clone(),
        attachments: it.attachments.iter().map(Into::into).collect(),
        ready: it.ready,
        named: it.named,
    }
}
