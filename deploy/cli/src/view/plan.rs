//! The plan that `apply` shows before and after it is carried out. Pure.

use berth_http::api::model::{FieldChange, PlanAction, PlannedChange};
use berth_proto::pb;

/// The plan for people: `+` created, `~` changed, `-` removed, and how many stay as they are.
pub fn text(plan: &[pb::PlannedChange]) -> String {
    let rows = PlannedChange::all(plan, None);
    let mut text = String::new();
    let mut counts = [0usize; 4];
    for row in &rows {
        let (place, sign) = match row.action {
            PlanAction::Create => (0, '+'),
            PlanAction::Update => (1, '~'),
            PlanAction::Remove => (2, '-'),
            PlanAction::Left => {
                text.push_str(&format!(
                    "= {} {} is no longer in the file and stays (see --prune)\n",
                    row.kind, row.name
                ));
                continue;
            }
            PlanAction::Unchanged => {
                counts[3] += 1;
                continue;
            }
        };
        counts[place] += 1;
        text.push_str(&format!("{sign} {} {}\n", row.kind, row.name));
        for FieldChange { path, before, after } in &row.fields {
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
    use berth_http::api::model::is_empty;
    use berth_proto::pb::planned_change::Action;

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
