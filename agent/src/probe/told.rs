//! What the log was told of the ways to other nodes: each change once, and none that the next look takes back. Pure.

use std::collections::BTreeMap;

use berth_proto::id::NodeId;

use super::diagnosis::Finding;

/// What is to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// This is wrong now.
    Wrong(Vec<Finding>),
    /// Nothing is wrong any more.
    Right,
}

/// What was said of each node.
#[derive(Debug, Default)]
pub struct Told {
    nodes: BTreeMap<NodeId, (Vec<String>, Vec<String>)>,
}

impl Told {
    /// Takes a look's findings in; each is named by its kind, so that figures in it may change. Said is what two looks in a row see.
    pub fn note(&mut self, node: NodeId, findings: Vec<Finding>) -> Option<News> {
        // Figures change from look to look.
        let kind = |finding: &Finding| finding.problem.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
        let kinds: Vec<String> = findings.iter().map(kind).collect();
        let (last, said) = self.nodes.entry(node).or_default();
        let is_seen_again = *last == kinds;
        last.clone_from(&kinds);
        if !is_seen_again || *said == kinds {
            return None;
        }
        *said = kinds;
        Some(if findings.is_empty() { News::Right } else { News::Wrong(findings) })
    }

    /// Forgets nodes that are gone.
    pub fn retain(&mut self, is_there: impl Fn(NodeId) -> bool) {
        self.nodes.retain(|node, _| is_there(*node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::diagnosis::Level;

    #[test]
    fn what_two_looks_see_is_said_once() {
        let (node, mut told) = (NodeId::from_random(1), Told::default());
        let wrong = |seconds: u32| {
            vec![Finding { level: Level::Warning, problem: format!("{seconds} s off"), advice: String::new() }]
        };
        assert_eq!(told.note(node, Vec::new()), None, "nothing was ever wrong");
        assert_eq!(told.note(node, wrong(2)), None);
        assert_eq!(told.note(node, wrong(3)), Some(News::Wrong(wrong(3))));
        assert_eq!(told.note(node, wrong(4)), None);
        assert_eq!(told.note(node, Vec::new()), None);
        assert_eq!(told.note(node, wrong(5)), None);
        assert_eq!(told.note(node, wrong(5)), None, "it was never taken back");
        assert_eq!(told.note(node, Vec::new()), None);
        assert_eq!(told.note(node, Vec::new()), Some(News::Right));
    }
}
