//! Services that wait for one another in a circle would never start, or restart each other for ever. Pure.

use std::collections::{BTreeMap, BTreeSet};

use berth_proto::spec::ServiceSpec;

use super::refusal::Refused;
use crate::store::{Change, Object, State, Transaction};

/// Refuses a transaction after which a service that it writes depends on itself, by way of others or not.
pub fn check(state: &State, tx: &Transaction) -> Result<(), Refused> {
    let written: BTreeMap<&str, &ServiceSpec> = tx
        .changes
        .iter()
        .filter_map(|change| match change {
            Change::Put(Object::Service(service)) => Some((service.spec.name.as_str(), &*service.spec)),
            _ => None,
        })
        .collect();
    let spec = |name: &str| -> Option<&ServiceSpec> {
        written.get(name).copied().or_else(|| state.service_by_name(name).map(|service| &*service.spec))
    };
    for start in written.values().filter(|spec| !spec.depends_on.is_empty()) {
        if let Some(chain) = circle(start, spec) {
            return Err(Refused::Circle { chain });
        }
    }
    Ok(())
}

/// The way from a service back to itself, its name first and last. A walk without recursion: a chain may be long.
fn circle<'s>(start: &'s ServiceSpec, spec: impl Fn(&str) -> Option<&'s ServiceSpec>) -> Option<Vec<String>> {
    let next = |spec: &'s ServiceSpec| spec.depends_on.keys().map(|name| name.as_str());
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut trail: Vec<(&str, Vec<&str>)> = vec![(start.name.as_str(), next(start).collect())];
    while let Some((_, rest)) = trail.last_mut() {
        let Some(name) = rest.pop() else {
            trail.pop();
            continue;
        };
        if name == start.name.as_str() {
            return Some(trail.iter().map(|(name, _)| *name).chain([name]).map(str::to_owned).collect());
        }
        if let Some(spec) = spec(name).filter(|_| seen.insert(name)) {
            trail.push((name, next(spec).collect()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use berth_proto::id::Id;
    use berth_proto::object::Service;
    use berth_proto::spec::{ContainerSpec, DependencyCondition, DependsOn};
    use berth_proto::time::Timestamp;

    fn write(services: &[(&str, &[&str])]) -> Transaction {
        let mut tx = Transaction::new(Timestamp(1), "test");
        for (number, (name, on)) in (1..).zip(services) {
            let mut spec = ServiceSpec::new(name.parse().unwrap(), ContainerSpec::default());
            let condition = DependencyCondition::ServiceStarted;
            let depends = DependsOn { condition, restart: true, required: true };
            spec.depends_on = on.iter().map(|name| (name.parse().unwrap(), depends)).collect();
            tx.create(Service::new(Id::from_random(number), spec));
        }
        tx
    }

    #[test]
    fn a_circle_is_refused_with_the_way_around_it() {
        let state = State::default();
        let circle = write(&[("a", &["b"]), ("b", &["c", "d"]), ("c", &["a"]), ("d", &[])]);
        let refused = check(&state, &circle).unwrap_err().to_string();
        assert_eq!(refused, "services depend on each other in a circle: a -> b -> c -> a");
        assert!(check(&state, &write(&[("a", &["a"])])).is_err());
        let diamond = write(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"]), ("d", &[])]);
        assert!(check(&state, &diamond).is_ok());
    }

    #[test]
    fn services_that_are_there_count_too() {
        let mut state = State::default();
        state.apply(1, &write(&[("a", &["b"]), ("b", &[])])).unwrap();
        assert!(check(&state, &write(&[("b", &["a"])])).is_err());
        assert!(check(&state, &write(&[("c", &["a"])])).is_ok());
    }
}
