//! Lists and single objects, at one index. Secrets come without their contents. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use berth_proto::object::{Cluster, Config, Content, Object, ObjectKind, Secret};
use berth_proto::pb;
use berth_proto::spec::{SecretBytes, SecretSpec};

use super::find;
use super::refusal::Refused;
use crate::store::State;

/// The objects that a request asks for.
pub fn list(state: &State, request: &pb::ListRequest) -> Result<pb::ListResponse, Refused> {
    let kinds = kinds(&request.kinds)?;
    let services = request.services.iter().map(|word| find::service(state, word).map(|service| service.id));
    let services = services.collect::<Result<BTreeSet<_>, _>>()?;
    let nodes = request.nodes.iter().map(|word| find::node(state, word).map(|node| node.id));
    let nodes = nodes.collect::<Result<BTreeSet<_>, _>>()?;
    let stack = request.stack.as_deref();
    let wanted = |object: &Object| match object {
        Object::Task(task) => {
            (services.is_empty() || services.contains(&task.service))
                && (nodes.is_empty() || task.node.is_some_and(|node| nodes.contains(&node)))
                && stack.is_none_or(|stack| {
                    let service = state.service(task.service);
                    service.and_then(|service| service.spec.stack.as_ref()).is_some_and(|of| of.as_str() == stack)
                })
        }
        object => stack.is_none_or(|stack| stack_of(object) == Some(stack)),
    };
    let objects = kinds.into_iter().flat_map(|kind| of_kind(state, kind));
    Ok(pb::ListResponse {
        index: state.index(),
        objects: objects.filter(wanted).map(|object| (&shown(&object)).into()).collect(),
    })
}

/// One object by word.
pub fn get(state: &State, request: &pb::GetRequest) -> Result<pb::Object, Refused> {
    let word = request.name_or_id.as_str();
    let object = match kind(request.kind)? {
        ObjectKind::Cluster => state.cluster().cloned().map(Object::Cluster).ok_or(Refused::Lacks("cluster"))?,
        ObjectKind::Node => Object::Node(find::node(state, word)?.clone()),
        ObjectKind::Service => Object::Service(find::service(state, word)?.clone()),
        ObjectKind::Task => Object::Task(find::task(state, word)?.clone()),
        ObjectKind::Network => Object::Network(find::network(state, word)?.clone()),
        ObjectKind::Volume => Object::Volume(find::volume(state, word)?.clone()),
        ObjectKind::Config => Object::Config(find::config(state, word)?.clone()),
        ObjectKind::Secret => Object::Secret(find::secret(state, word)?.clone()),
    };
    Ok((&shown(&object)).into())
}

/// The object as it may be shown.
pub fn shown(object: &Object) -> Object {
    match object {
        Object::Secret(secret) => Object::Secret(Arc::new(shown_secret(secret))),
        Object::Config(config) if !config.earlier.is_empty() => {
            let earlier = without_data(&config.earlier);
            Object::Config(Arc::new(Config { earlier, ..Config::clone(config) }))
        }
        Object::Cluster(cluster) => Object::Cluster(Arc::new(shown_cluster(cluster))),
        object => object.clone(),
    }
}

/// The secret without its contents, nor what helps to guess them.
pub fn shown_secret(secret: &Secret) -> Secret {
    let spec = SecretSpec { data: SecretBytes::default(), ..SecretSpec::clone(&secret.spec) };
    let (earlier, key) = (without_data(&secret.earlier), SecretBytes::default());
    Secret { spec: Arc::new(spec), earlier, key, ..Secret::clone(secret) }
}

/// Older contents are named, not sent.
fn without_data(contents: &[Content]) -> Vec<Content> {
    contents.iter().map(|content| Content { data: SecretBytes::default(), ..content.clone() }).collect()
}

/// The cluster without what would let a machine or a person in.
pub fn shown_cluster(cluster: &Cluster) -> Cluster {
    Cluster { authority: None, tokens: Vec::new(), ..cluster.clone() }
}

/// Kinds by number; none means all.
pub fn kinds(numbers: &[i32]) -> Result<BTreeSet<ObjectKind>, Refused> {
    if numbers.is_empty() {
        return Ok(ObjectKind::ALL.iter().copied().collect());
    }
    numbers.iter().map(|number| kind(*number)).collect()
}

/// A kind by number.
pub fn kind(number: i32) -> Result<ObjectKind, Refused> {
    let kind = pb::ObjectKind::try_from(number).map_err(|_| Refused::Lacks("kind that this version knows"))?;
    Ok(ObjectKind::try_from(kind)?)
}

fn of_kind(state: &State, kind: ObjectKind) -> Vec<Object> {
    match kind {
        ObjectKind::Cluster => state.cluster().cloned().map(Object::Cluster).into_iter().collect(),
        ObjectKind::Node => state.nodes().cloned().map(Object::Node).collect(),
        ObjectKind::Service => state.services().cloned().map(Object::Service).collect(),
        ObjectKind::Task => state.tasks().cloned().map(Object::Task).collect(),
        ObjectKind::Network => state.networks().cloned().map(Object::Network).collect(),
        ObjectKind::Volume => state.volumes().cloned().map(Object::Volume).collect(),
        ObjectKind::Config => state.configs().cloned().map(Object::Config).collect(),
        ObjectKind::Secret => state.secrets().cloned().map(Object::Secret).collect(),
    }
}

fn stack_of(object: &Object) -> Option<&str> {
    let stack = match object {
        Object::Service(one) => one.spec.stack.as_ref(),
        Object::Network(one) => one.spec.stack.as_ref(),
        Object::Volume(one) => one.spec.stack.as_ref(),
        Object::Config(one) => one.spec.stack.as_ref(),
        Object::Secret(one) => one.spec.stack.as_ref(),
        Object::Cluster(_) | Object::Node(_) | Object::Task(_) => None,
    };
    stack.map(|stack| stack.as_str())
}
