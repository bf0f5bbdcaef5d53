//! The plan that `apply` shows before and after it is carried out. Pure.

use berth_proto::pb;
use berth_proto::pb::planned_change::Action;
use serde::Serialize;

use super::foresight::ServiceRow;

/// One line of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct PlanRow {
    /// `create`, `update`, `remove`, `unchanged`; `left` is no longer in the file and stays.
    pub action: &'static str,
    /// `service`, `network`, ….
    pub kind: &'static str,
    /// Name.
    pub name: String,
    /// What changes, field by field.
    pub fields: Vec<FieldRow>,
    /// Where the replicas of a service would go; null but in a dry run.
    pub placement: Option<ServiceRow>,
}

/// One changed field.
#[derive(Debug, Clone, Serialize)]
pub struct FieldRow {
    /// Path in the spec.
    pub path: String,
    /// Value before; null when there was none.
    pub before: Option<String>,
    /// Value after; null when there is none.
    pub after: Option<String>,
}

/// The word for a kind of object.
pub fn kind_word(kind: pb::ObjectKind) -> &'static str {
    match kind {
        pb::ObjectKind::Unspecified => "object",
        pb::ObjectKind::Cluster => "cluster",
        pb::ObjectKind::Node => "node",
        pb::ObjectKind::Service => "service",
        pb::ObjectKind::Task => "task",
        pb::ObjectKind::Network => "network",
        pb::ObjectKind::Volume => "volume",
        pb::ObjectKind::Config => "config",
        pb::ObjectKind::Secret => "secret",
    }
}

/// The rows of a plan, in its order.
pub fn rows(plan: &[pb::PlannedChange]) -> Vec<PlanRow> {
    let field = |change: &pb::FieldChange| FieldRow {
        path: change.path.clone(),
        before: change.before.clone(),
        after: change.after.clone(),
    };
    let row = |change: &pb::PlannedChange| PlanRow {
        action: match change.action() {
            Action::Unchanged => "unchanged",
            Action::Create => "create",
            Action::Update => "update",
            Action::Remove => "remove",
            Action::Left => "left",
        },
        kind: kind_word(change.kind()),
        name: change.name.clone(),
        fields: change.fields.iter().map(field).collect(),
        placement: None,
    };
    plan.iter().map(row).collect()
}

/// The same with where the replicas would go.
pub fn foreseen(plan: &[pb::PlannedChange], placements: Vec<ServiceRow>) -> Vec<PlanRow> {
    let mut rows = rows(plan);
    for placement in placements {
        if let Some(row) = rows.iter_mut().find(|row| row.kind == "service" && row.name == placement.service) {
            row.placement = Some(placement);
        }
    }
    rows
}

/// True when there is nothing to do.
pub fn is_empty(plan: &[pb::PlannedChange]) -> bool {
    plan.iter().all(|change| matches!(change.action(), Action::Unchanged | Action::Left))
}

/// The plan for people: `+` created, `~` changed, `-` removed, and how many stay as they are.
pub fn text(plan: &[pb::PlannedChange]) -> String {
    let rows = rows(plan);
    let mut text = String::new();
    let mut counts = [0usize; 4];
    for row in &rows {
        let (place, sign) = match row.action {
            "create" => (0, '+'),
            "update" => (1, '~'),
            "remove" => (2, '-'),
            "left" => {
                text.push_str(&format!(
                    "= {} {} is no longer in the file and stays (see --prune)\n",
                    row.kind, row.name
                ));
                continue;
            }
            _ => {
                counts[3] += 1;
                continue;
            }
        };
        counts[place] += 1;
        text.push_str(&format!("{sign} {} {}\n", row.kind, row.name));
        for FieldRow { path, before, after } in &row.fields {
            let line = match (before, after) {
                (None, Some(after)) => format!("    {path}: {after} (new)\n"),
                (Some(before), None) => format!("    {path}: {before} -> (removed)\n"),
                (before, after) => {
                    let show = |value: &Option<String>| value.clone().unwrap_or_default();
                    format!("    {path}: {} -> {}\n", show(before), show(after))
                }
            };
            text.push_str(&line);
        }
    }
    let words = ["created", "changed", "removed", "unchanged"];
    let told: Vec<String> =
        words.iter().zip(counts).filter(|(_, n)| *n > 0).map(|(word, n)| format!("{n} {word}")).collect();
    if told.is_empty() {
        text.push_str("nothing to do\n");
    } else {
        text.push_str(&format!("{}\n", told.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(action: Action, name: &str, fields: Vec<pb::FieldChange>) -> pb::PlannedChange {
        let mut change = pb::PlannedChange { name: name.into(), fields, ..Default::default() };
        change.set_action(action);
        change.set_kind(pb::ObjectKind::Service);
        change
    }

    #[test]
    fn a_plan_says_what_is_made_changed_removed_and_left() {
        let field = |path: &str, before: Option<&str>, after: Option<&str>| pb::FieldChange {
            path: path.into(),
            before: before.map(Into::into),
            after: after.map(Into::into),
        };
        let fields = vec![
            field("image", Some("nginx:1"), Some("nginx:2")),
            field("env.A", None, Some("1")),
            field("env.B", Some("2"), None),
        ];
        let plan = [
            change(Action::Create, "shop_db", vec![]),
            change(Action::Update, "shop_web", fields),
            change(Action::Remove, "shop_old", vec![]),
            change(Action::Unchanged, "shop_same", vec![]),
        ];
        insta::assert_snapshot!(text(&plan), @r"
        + service shop_db
        ~ service shop_web
            image: nginx:1 -> nginx:2
            env.A: 1 (new)
            env.B: 2 -> (removed)
        - service shop_old
        1 created, 1 changed, 1 removed, 1 unchanged
        ");
        assert!(!is_empty(&plan) && is_empty(&plan[3..]));
        assert_eq!(text(&plan[3..]), "1 unchanged\n");
        assert_eq!(text(&[]), "nothing to do\n");
    }
}
