//! Rows of `node ls`. Pure.

use berth_proto::object::Node;
use serde::Serialize;

use super::task::capital;
use crate::ui::Row;
use crate::ui::listing::short_id;

/// A line of `node ls`.
#[derive(Debug, Clone, Serialize)]
pub struct NodeRow {
    /// Id.
    pub id: String,
    /// Host name.
    pub hostname: String,
    /// `ready`, `down`, `unknown`.
    pub state: &'static str,
    /// `active`, `pause`, `drain`.
    pub availability: &'static str,
    /// `manager`, `worker`.
    pub role: &'static str,
    /// True on the leader of the managers.
    pub leader: bool,
    /// `reachable`, `unreachable`; null on workers.
    pub reachability: Option<&'static str>,
    /// Address.
    pub address: String,
    /// Version of Berth that it runs.
    pub engine_version: String,
    /// True for the node that answered.
    #[serde(rename = "self")]
    pub own: bool,
}

impl NodeRow {
    /// The row of one node; `own_id` is the node that answered.
    pub fn new(node: &Node, own_id: &str) -> Self {
        let id = node.id.to_string();
        let description = node.description.clone().unwrap_or_default();
        let manager = node.manager.as_ref();
        let reachability = |reachable: bool| if reachable { "reachable" } else { "unreachable" };
        Self {
            own: id == own_id,
            id,
            hostname: description.hostname,
            state: node.status.state.as_str(),
            availability: node.spec.availability.as_str(),
            role: node.spec.role.as_str(),
            leader: manager.is_some_and(|manager| manager.leader),
            reachability: manager.map(|manager| reachability(manager.reachable)),
            address: node.status.address.clone(),
            engine_version: description.engine_version,
        }
    }
}

impl Row for NodeRow {
    const HEADS: &'static [&'static str] =
        &["ID", "HOSTNAME", "STATUS", "AVAILABILITY", "MANAGER STATUS", "ENGINE VERSION"];

    fn cells(&self, no_trunc: bool) -> Vec<String> {
        let manager =
            if self.leader { "Leader".to_owned() } else { self.reachability.map(capital).unwrap_or_default() };
        let own = if self.own { " *" } else { "" };
        vec![
            format!("{}{own}", short_id(&self.id, no_trunc)),
            self.hostname.clone(),
            capital(self.state),
            capital(self.availability),
            manager,
            self.engine_version.clone(),
        ]
    }

    fn key(&self, no_trunc: bool) -> String {
        short_id(&self.id, no_trunc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::world;
    use crate::ui::listing::{Look, list};

    #[test]
    fn nodes_are_listed_and_the_own_one_has_a_star() {
        let world = world();
        let own = world.nodes.keys().next().expect("a node").to_string();
        let rows: Vec<NodeRow> = world.nodes.values().map(|node| NodeRow::new(node, &own)).collect();
        insta::assert_snapshot!(list(&rows, Look::default()).expect("renders"));
        insta::assert_json_snapshot!(rows);
    }
}
