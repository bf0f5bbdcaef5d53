//! What the scheduler says before anything happens: where the replicas of an apply would go, which moves would help. Pure.

use berth_http::api::model::{NodeLoss, NodeShare, Placement, Refusal};
use berth_proto::pb;
use serde::Serialize;

/// A foresight for people.
pub fn text(foresight: &pb::Foresight) -> String {
    let services = Placement::all(foresight);
    if services.is_empty() {
        return String::new();
    }
    let mut text = "where the replicas would go, as things are now:\n".to_owned();
    for service in &services {
        text.push_str(&format!("  {}\n", service.service));
        for NodeShare { node, stay, come, why } in &service.nodes {
            let counts = match (stay, come) {
                (0, come) => format!("{come} new"),
                (stay, 0) => format!("{stay} stay"),
                (stay, come) => format!("{stay} stay, {come} new"),
            };
            let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
            text.push_str(&format!("    {node}: {counts}{why}\n"));
        }
        for Refusal { replicas, why } in &service.refusals {
            text.push_str(&format!("    nowhere: {replicas}: {why}\n"));
        }
        if !service.evicts.is_empty() {
            text.push_str(&format!("    would take the place of {}\n", service.evicts.join(", ")));
        }
        for NodeLoss { node, homeless } in &service.losses {
            text.push_str(&format!("    after the loss of {node}: no place for {homeless}\n"));
        }
    }
    if foresight.losses_tried > 0 && foresight.losses.is_empty() {
        text.push_str("after the loss of any one node every replica finds a place again\n");
    }
    text
}

/// Why a task is where it is or has no node, in sentences.
pub fn explanation(answer: &pb::TaskExplainResponse, is_there: bool) -> Vec<String> {
    use pb::task_explain_response::Outcome;
    match &answer.outcome {
        Some(Outcome::Placed(placed)) => {
            let verb = if is_there { "is" } else { "would go to" };
            let mut lines = vec![format!(
                "Of {} nodes that qualify, as things are now, it {verb} {}: {}.",
                placed.candidates, placed.node, placed.why
            )];
            lines.extend(placed.next_node.as_ref().map(|next| format!("Next best is {next}: {}.", placed.next_why)));
            lines
        }
        Some(Outcome::Unplaced(unplaced)) => {
            let mut lines = vec![format!("No node takes it. Of {} nodes:", unplaced.nodes)];
            lines.extend(unplaced.removed.iter().map(|removed| format!("  {} {}", removed.nodes, removed.why)));
            if !unplaced.nearest.is_empty() {
                lines.push("Nearest:".to_owned());
                lines.extend(unplaced.nearest.iter().map(|near| format!("  {} {}", near.node, near.misses.join(", "))));
            }
            if !unplaced.fixes.is_empty() {
                lines.push("It would fit:".to_owned());
                lines.extend(unplaced.fixes.iter().map(|fix| format!("  {fix}")));
            }
            lines
        }
        None => Vec::new(),
    }
}

/// A proposal of moves.
#[derive(Debug, Clone, Serialize)]
pub struct RebalanceRow {
    /// In the order in which they can be made.
    pub moves: Vec<MoveRow>,
    /// Nodes with tasks, before and after.
    pub used_nodes: [u32; 2],
    /// Share of the scarcest resource that is held on the fullest node, before and after.
    pub fullest: [f64; 2],
}

/// One task from one node to another.
#[derive(Debug, Clone, Serialize)]
pub struct MoveRow {
    /// Full name of the task.
    pub task: String,
    /// Host name of the node where it is.
    pub from: String,
    /// Host name of the node where it would go.
    pub to: String,
}

/// The rows of a proposal.
pub fn rebalance_rows(answer: &pb::ClusterRebalanceResponse) -> RebalanceRow {
    let share = |millionths: u32| f64::from(millionths) / 1e6;
    let row = |one: &pb::PlannedMove| MoveRow { task: one.task.clone(), from: one.from.clone(), to: one.to.clone() };
    RebalanceRow {
        moves: answer.moves.iter().map(row).collect(),
        used_nodes: [answer.used_before, answer.used_after],
        fullest: [share(answer.level_before), share(answer.level_after)],
    }
}

/// A proposal for people.
pub fn rebalance_text(answer: &pb::ClusterRebalanceResponse) -> String {
    let RebalanceRow { moves, used_nodes: [before, after], fullest } = rebalance_rows(answer);
    if moves.is_empty() {
        return "no move would help\n".to_owned();
    }
    let lines = moves.iter().map(|MoveRow { task, from, to }| format!("{task}: {from} -> {to}\n"));
    let percent = fullest.map(|share| format!("{:.1} %", share * 100.0));
    let bill = format!(
        "{} moves; nodes with tasks: {before} -> {after}; fullest node: {} -> {}\n",
        moves.len(),
        percent[0],
        percent[1]
    );
    lines.chain([bill]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unplaced() -> pb::Unplaced {
        pb::Unplaced {
            text: "no node fits: 2 nodes: 2 lack 4GiB memory (most left: 1.4GiB)".into(),
            nodes: 2,
            removed: vec![pb::RemovedNodes { nodes: 2, why: "lack 4GiB memory (most left: 1.4GiB)".into() }],
            nearest: vec![pb::NearNode { node: "n1".into(), misses: vec!["lacks 4GiB memory".into()] }],
            fixes: vec!["if reserve-memory <= 1.4GiB".into()],
        }
    }

    #[test]
    fn a_foresight_names_nodes_refusals_victims_and_losses() {
        let node =
            |node: &str, stay, come, why: &str| pb::PlannedNode { node: node.into(), stay, come, why: why.into() };
        let foresight = pb::Foresight {
            services: vec![pb::PlannedService {
                service: "web".into(),
                nodes: vec![node("n1", 1, 2, "best of 2 nodes: 40.0 % full"), node("n2", 1, 0, "")],
                refusals: vec![pb::PlannedRefusal { replicas: 3, reason: Some(unplaced()) }],
                evicts: vec!["batch.1.x".into()],
            }],
            losses_tried: 2,
            losses: vec![pb::NodeLoss {
                node: "n1".into(),
                homeless: vec![pb::Homeless { service: "web".into(), tasks: 2 }],
            }],
        };
        insta::assert_snapshot!(text(&foresight), @r"
        where the replicas would go, as things are now:
          web
            n1: 1 stay, 2 new (best of 2 nodes: 40.0 % full)
            n2: 1 stay
            nowhere: 3: no node fits: 2 nodes: 2 lack 4GiB memory (most left: 1.4GiB)
            would take the place of batch.1.x
            after the loss of n1: no place for 2
        ");
        assert_eq!(text(&pb::Foresight::default()), "");
    }

    #[test]
    fn a_task_without_a_node_says_what_would_help() {
        let outcome = Some(pb::task_explain_response::Outcome::Unplaced(unplaced()));
        insta::assert_snapshot!(explanation(&pb::TaskExplainResponse { outcome }, false).join("\n"), @r"
        No node takes it. Of 2 nodes:
          2 lack 4GiB memory (most left: 1.4GiB)
        Nearest:
          n1 lacks 4GiB memory
        It would fit:
          if reserve-memory <= 1.4GiB
        ");
    }

    #[test]
    fn moves_come_with_their_bill() {
        let one = pb::PlannedMove { task: "web.1.x".into(), service: "web".into(), from: "n1".into(), to: "n2".into() };
        let answer = pb::ClusterRebalanceResponse {
            moves: vec![one],
            used_before: 3,
            used_after: 2,
            level_before: 500_000,
            level_after: 750_000,
        };
        insta::assert_snapshot!(rebalance_text(&answer), @r"
        web.1.x: n1 -> n2
        1 moves; nodes with tasks: 3 -> 2; fullest node: 50.0 % -> 75.0 %
        ");
        assert_eq!(rebalance_text(&pb::ClusterRebalanceResponse::default()), "no move would help\n");
    }
}
