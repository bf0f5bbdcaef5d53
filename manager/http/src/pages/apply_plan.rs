//! A plan as the apply page shows it: what is created, changed with old and new values, removed, where replicas would go. Pure.

use berth_compose::Stack;
use berth_proto::object::ObjectKind;
use berth_proto::pb;
use berth_proto::pb::planned_change::Action;

use super::human::count;

/// A plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What is done, in order.
    pub changes: Vec<Change>,
    /// Of the stack, not in the text any more, and left there: `network x`.
    pub left: Vec<String>,
    /// Objects that are as they should be.
    pub unchanged: usize,
    /// Where replicas would go.
    pub services: Vec<pb::PlannedService>,
    /// Nodes after whose loss replicas would find no place.
    pub losses: Vec<Loss>,
    /// Versions that it was made from, as [`expected`] reads them.
    pub expected: String,
}

/// What is done with one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `+`, `~` or `−`.
    pub sign: char,
    /// Class for its colour.
    pub class: &'static str,
    /// `create`, `change` or `remove`.
    pub word: &'static str,
    /// `service`, `network`, ….
    pub kind: &'static str,
    /// Full name.
    pub name: String,
    /// Changed fields.
    pub fields: Vec<Field>,
}

/// A changed field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its path, without what all of them have in common.
    pub path: String,
    /// What it was.
    pub before: Option<String>,
    /// What it will be.
    pub after: Option<String>,
}

/// The loss of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Host name.
    pub node: String,
    /// `2 tasks of shop_web`.
    pub homeless: String,
}

impl Plan {
    /// From the answer to a dry run.
    pub fn new(stack: &Stack, answer: pb::StackApplyResponse) -> Self {
        let expected = versions(stack, &answer);
        let of = |action: Action| answer.plan.iter().filter(move |change| change.action() == action);
        let left = of(Action::Left).map(|change| format!("{} {}", kind(change), change.name)).collect();
        let unchanged = of(Action::Unchanged).count();
        let foresight = answer.foresight.unwrap_or_default();
        Self {
            changes: answer.plan.iter().filter_map(Change::new).collect(),
            left,
            unchanged,
            services: foresight.services,
            losses: foresight.losses.iter().map(Loss::new).collect(),
            expected,
        }
    }

    /// There is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// `2 created, 1 changed`.
    pub fn summary(&self) -> String {
        let parts = [("create", "created"), ("change", "changed"), ("remove", "removed")];
        let count = |word: &str| self.changes.iter().filter(|change| change.word == word).count();
        let told = parts.iter().map(|(word, done)| (count(word), done)).filter(|(number, _)| *number > 0);
        told.map(|(number, done)| format!("{number} {done}")).collect::<Vec<_>>().join(", ")
    }
}

impl Change {
    fn new(change: &pb::PlannedChange) -> Option<Self> {
        let (sign, class, word) = match change.action() {
            Action::Create => ('+', "diff-create", "create"),
            Action::Update => ('~', "diff-change", "change"),
            Action::Remove => ('−', "diff-remove", "remove"),
            Action::Unchanged | Action::Left => return None,
        };
        let fields = change.fields.iter().map(Field::new).collect();
        Some(Self { sign, class, word, kind: kind(change), name: change.name.clone(), fields })
    }
}

impl Field {
    fn new(change: &pb::FieldChange) -> Self {
        let short = change.path.strip_prefix("task.").unwrap_or(&change.path);
        let short = short.strip_prefix("container.").unwrap_or(short);
        Self { path: short.to_owned(), before: change.before.clone(), after: change.after.clone() }
    }
}

impl Loss {
    fn new(loss: &pb::NodeLoss) -> Self {
        let homeless =
            loss.homeless.iter().map(|one| format!("{} of {}", count(one.tasks as usize, "task"), one.service));
        Self { node: loss.node.clone(), homeless: homeless.collect::<Vec<_>>().join(", ") }
    }
}

fn kind(change: &pb::PlannedChange) -> &'static str {
    ObjectKind::try_from(change.kind()).map_or("object", ObjectKind::as_str)
}

/// Spec versions of the services that the plan was made from, 0 for those that are not there: `shop_web=12 shop_db=0`.
fn versions(stack: &Stack, answer: &pb::StackApplyResponse) -> String {
    let version = |name: &str| {
        let named = |service: &&pb::Service| service.spec.as_ref().is_some_and(|spec| spec.name == name);
        answer.services.iter().find(named).map_or(0, |service| service.spec_version)
    };
    let pairs = stack.services.iter().map(|spec| format!("{}={}", spec.name, version(&spec.name)));
    pairs.collect::<Vec<_>>().join(" ")
}

/// The versions again, as the control API takes them. What makes no sense expects what no service has.
pub fn expected(text: &str) -> impl Iterator<Item = (String, u64)> + '_ {
    text.split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, version)| (name.to_owned(), version.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(action: Action, name: &str) -> pb::PlannedChange {
        let mut change = pb::PlannedChange { name: name.into(), ..Default::default() };
        change.set_action(action);
        change.set_kind(pb::ObjectKind::Service);
        change
    }

    #[test]
    fn a_plan_tells_what_is_done_and_what_it_was_made_from() {
        let mut changed = change(Action::Update, "shop_web");
        let path = "task.container.image".to_owned();
        changed.fields = vec![pb::FieldChange { path, before: Some("a:1".into()), after: Some("a:2".into()) }];
        let plan = vec![change(Action::Create, "shop_db"), changed, change(Action::Left, "shop_old")];
        let (stack, _) =
            crate::compose_file::read(b"services: {web: {image: a}, db: {image: b}}", Some("shop")).expect("a stack");
        let spec = stack.services.iter().find(|spec| &*spec.name == "shop_web").map(Into::into);
        let service = pb::Service { spec, spec_version: 12, ..Default::default() };
        let answer = pb::StackApplyResponse { plan, services: vec![service], ..Default::default() };
        let plan = Plan::new(&stack, answer);
        assert_eq!(plan.summary(), "1 created, 1 changed");
        assert_eq!(plan.left, ["service shop_old"]);
        assert_eq!(plan.changes[1].fields[0].path, "image");
        let versions: Vec<_> = expected(&plan.expected).collect();
        assert_eq!(versions, [("shop_db".to_owned(), 0), ("shop_web".to_owned(), 12)]);
        assert_eq!(expected("a=x b").collect::<Vec<_>>(), [("a".to_owned(), u64::MAX)]);
    }
}
