//! Placement constraints over node attributes. Attributes and their comparison follow Docker's `--constraint`: values
//! compare without regard to case, a label that a node does not have is the empty text, and an attribute that nobody
//! knows matches no node, with `!=` too.

use std::borrow::Cow;
use std::net::IpAddr;

use berth_proto::object::Node;
use berth_proto::spec::{Constraint, ConstraintOp};
use ipnet::IpNet;

use super::Miss;
use crate::demand::Demand;
use crate::view::platform;

pub(super) fn check(demand: &Demand, node: &Node) -> Result<(), Miss> {
    match demand.constraints.iter().position(|constraint| !holds(constraint, node)) {
        Some(at) => Err(Miss::Constraint(at)),
        None => Ok(()),
    }
}

/// Whether one constraint holds on the node.
pub fn holds(constraint: &Constraint, node: &Node) -> bool {
    let equal = if constraint.attribute.eq_ignore_ascii_case("node.ip") {
        address_matches(&constraint.value, &node.status.address)
    } else {
        attribute(&constraint.attribute, node).map(|value| same(&value, &constraint.value))
    };
    match (equal, constraint.op) {
        (Some(equal), ConstraintOp::Equal) => equal,
        (Some(equal), ConstraintOp::NotEqual) => !equal,
        (None, _) => false,
    }
}

/// Whether a constraint reads what is the node's alone, so that nodes of a class may differ in it.
pub(super) fn is_own(constraint: &Constraint) -> bool {
    is_own_attribute(&constraint.attribute)
}

/// Whether nodes of a class may differ in the attribute.
pub(crate) fn is_own_attribute(name: &str) -> bool {
    ["node.id", "node.hostname", "node.ip"].iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// The value of a node attribute; `None` when there is no such attribute. Label names keep their case, the words in
/// front of them do not matter.
pub(crate) fn attribute<'a>(name: &str, node: &'a Node) -> Option<Cow<'a, str>> {
    let label = |labels: &'a std::collections::BTreeMap<String, String>, key: &str| {
        Some(Cow::Borrowed(labels.get(key).map_or("", String::as_str)))
    };
    if let Some(key) = strip(name, "node.labels.") {
        return label(&node.spec.labels, key);
    }
    if let Some(key) = strip(name, "engine.labels.") {
        return match &node.description {
            Some(description) => label(&description.engine_labels, key),
            None => Some(Cow::Borrowed("")),
        };
    }
    match name.to_ascii_lowercase().as_str() {
        "node.id" => Some(Cow::Owned(node.id.to_string())),
        "node.hostname" => {
            Some(Cow::Borrowed(node.description.as_ref().map_or("", |description| description.hostname.as_str())))
        }
        "node.role" => Some(Cow::Borrowed(node.spec.role.as_str())),
        "node.platform.os" => Some(Cow::Owned(platform(node).os)),
        "node.platform.arch" => {
            Some(Cow::Owned(super::platform::architecture(&platform(node).architecture).to_owned()))
        }
        _ => None,
    }
}

fn strip<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let head = name.get(..prefix.len())?;
    (head.eq_ignore_ascii_case(prefix) && name.len() > prefix.len()).then(|| &name[prefix.len()..])
}

fn same(value: &str, wanted: &str) -> bool {
    value.eq_ignore_ascii_case(wanted) || value.to_lowercase() == wanted.to_lowercase()
}

/// `wanted` is an address or a subnet; `None` when it is neither.
fn address_matches(wanted: &str, address: &str) -> Option<bool> {
    let address: Option<IpAddr> = address.parse().ok().or_else(|| {
        let socket: Option<std::net::SocketAddr> = address.parse().ok();
        socket.map(|socket| socket.ip())
    });
    if let Ok(wanted) = wanted.parse::<IpAddr>() {
        return Some(address == Some(wanted));
    }
    let subnet: IpNet = wanted.parse().ok()?;
    Some(address.is_some_and(|address| subnet.contains(&address)))
}
