//! Words that lead to the page of an object, and objects found by the word in a path. Pure.

use std::fmt;

use askama::filters::{Html, HtmlSafe, escape};
use berth_manager::api::{Refused, find};
use berth_manager::store::State;
use berth_proto::id::NodeId;
use berth_proto::object::{Network, Service, Slot, Task};
use tonic::Status;

use crate::problem::Problem;

/// A word that leads to a page.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The word.
    pub text: String,
    /// Where it leads; empty when the object is gone.
    pub path: String,
}

impl Link {
    /// To a node, by its host name.
    pub fn node(state: &State, id: NodeId) -> Self {
        match state.node(id) {
            Some(node) => Self { text: find::host_name(node).into_owned(), path: format!("/nodes/{id}") },
            None => Self { text: id.to_string(), path: String::new() },
        }
    }

    /// To a service.
    pub fn service(service: &Service) -> Self {
        Self { text: service.spec.name.to_string(), path: format!("/services/{}", service.id) }
    }

    /// To a task, as `web.1` or `web.host`.
    pub fn task(state: &State, task: &Task) -> Self {
        let slot = match task.slot {
            Slot::Replica(number) => number.to_string(),
            Slot::Node(node) => Self::node(state, node).text,
        };
        Self { text: format!("{}.{slot}", task.service_name), path: format!("/tasks/{}", task.id) }
    }

    /// To a network.
    pub fn network(network: &Network) -> Self {
        Self { text: network.spec.name.to_string(), path: format!("/networks/{}", network.id) }
    }
}

/// As HTML, escaped.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(text) = escape(&self.text, Html);
        let Ok(path) = escape(&self.path, Html);
        match self.path.is_empty() {
            true => write!(f, "{}", text.0),
            false => write!(f, "<a href=\"{}\">{}</a>", path.0, text.0),
        }
    }
}

impl HtmlSafe for Link {}

/// Links, with commas between them.
pub struct Links<'l>(pub &'l [Link]);

impl fmt::Display for Links<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, link) in self.0.iter().enumerate() {
            write!(f, "{}{link}", if nth == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl HtmlSafe for Links<'_> {}

/// The object that a path names, or why there is none.
pub fn found<T>(result: Result<T, Refused>) -> Result<T, Problem> {
    result.map_err(|refused| Problem::from(Status::from(refused)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_escaped() {
        let link = |path: &str| Link { text: "<b>&".to_owned(), path: path.to_owned() };
        assert_eq!(link("").to_string(), "&#60;b&#62;&#38;");
        assert_eq!(link("/\"x").to_string(), "<a href=\"/&#34;x\">&#60;b&#62;&#38;</a>");
        assert_eq!(Links(&[link(""), link("")]).to_string(), "&#60;b&#62;&#38;, &#60;b&#62;&#38;");
    }
}
