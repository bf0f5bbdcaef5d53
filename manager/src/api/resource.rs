//! Networks, volumes, configs and secrets: created, and removed once nothing uses them. Pure.

use std::sync::Arc;

use berth_proto::id::Id;
use berth_proto::object::{Config, Meta, Network, ObjectKind, ObjectRef, Secret, Volume};
use berth_proto::spec::{ConfigSpec, NetworkSpec, SecretBytes, SecretSpec, VolumeSpec};
use berth_proto::validate::Validate;

use super::find;
use super::refusal::Refused;
use super::service::DrawId;
use crate::allocator::network::overlap;
use crate::store::references::BUILT_IN_NETWORKS;
use crate::store::{Change, Object, State, Transaction};

/// What networks, volumes, configs and secrets have in common.
pub trait Resource: Validate + Sized {
    /// Kind of the object.
    const KIND: ObjectKind;
    /// Its name.
    fn name(&self) -> &str;
    /// True when the name is taken.
    fn is_taken(&self, state: &State) -> bool;
    /// Adds it to the transaction, with `bits` for its id; draws more where it needs more.
    fn put(self, tx: &mut Transaction, bits: u128, draw: DrawId<'_>);
}

macro_rules! resources {
    ($($spec:ident: $object:ident, |$it:ident, $state:ident| $taken:expr, |$id:ident, $draw:ident| $make:expr;)*) => {$(
        impl Resource for $spec {
            const KIND: ObjectKind = ObjectKind::$object;

            fn name(&self) -> &str {
                &self.name
            }

            fn is_taken(&self, $state: &State) -> bool {
                let $it = self;
                $taken
            }

            fn put(self, tx: &mut Transaction, bits: u128, $draw: DrawId<'_>) {
                let ($it, $id) = (self, Id::from_random(bits));
                tx.create($make);
            }
        }
    )*};
}

resources! {
    NetworkSpec: Network,
        |it, state| BUILT_IN_NETWORKS.contains(&it.name.as_str()) || state.network_by_name(&it.name).is_some(),
        |id, _draw| Network { id, meta: Meta::default(), spec: Arc::new(it), allocation: None };
    VolumeSpec: Volume,
        |it, state| state.volume_by_name(&it.name).is_some(),
        |id, _draw| Volume { id, meta: Meta::default(), spec: Arc::new(it) };
    ConfigSpec: Config, |it, state| state.config_by_name(&it.name).is_some(), |id, _draw| Config::new(id, it);
    SecretSpec: Secret,
        |it, state| state.secret_by_name(&it.name).is_some(),
        |id, draw| Secret::new(id, SecretBytes(draw().to_be_bytes().to_vec().into()), it);
}

/// Adds a new object; returns its id.
pub fn create<R: Resource>(state: &State, tx: &mut Transaction, spec: R, draw: DrawId<'_>) -> Result<u128, Refused> {
    check(&spec)?;
    if spec.is_taken(state) {
        return Err(Refused::Taken { kind: R::KIND, name: spec.name().to_owned() });
    }
    let bits = draw();
    spec.put(tx, bits, draw);
    check_subnets(state, tx)?;
    Ok(bits)
}

/// A network that was just added asks for no subnet of another one.
fn check_subnets(state: &State, tx: &Transaction) -> Result<(), Refused> {
    let Some(Change::Put(Object::Network(new))) = tx.changes.last() else { return Ok(()) };
    let beside = tx.changes.iter().filter_map(|change| match change {
        Change::Put(Object::Network(other)) => Some(&**other),
        _ => None,
    });
    match overlap(state, beside, &new.spec) {
        Some(overlap) => Err(Refused::Overlap { name: new.spec.name.to_string(), overlap }),
        None => Ok(()),
    }
}

/// All rules at once.
pub fn check<R: Resource>(spec: &R) -> Result<(), Refused> {
    let refuse = |invalid| Refused::Invalid { what: format!("the spec of {} {}", R::KIND, spec.name()), invalid };
    spec.validate().map_err(refuse)
}

/// Removes what `word` names; the store refuses what is in use. Returns its name and version.
pub fn remove(state: &State, tx: &mut Transaction, kind: ObjectKind, word: &str) -> Result<(String, u64), Refused> {
    Ok(match kind {
        ObjectKind::Network => {
            let network = find::network(state, word)?;
            if BUILT_IN_NETWORKS.contains(&network.spec.name.as_str()) {
                return Err(Refused::BuiltIn { name: network.spec.name.to_string() });
            }
            take(tx, network, |one| one.spec.name.to_string())
        }
        ObjectKind::Volume => take(tx, find::volume(state, word)?, |one| one.spec.name.to_string()),
        ObjectKind::Config => take(tx, find::config(state, word)?, |one| one.spec.name.to_string()),
        ObjectKind::Secret => take(tx, find::secret(state, word)?, |one| one.spec.name.to_string()),
        _ => return Err(Refused::Lacks("kind of a network, volume, config or secret")),
    })
}

fn take<T: crate::store::Stored>(tx: &mut Transaction, object: &Arc<T>, name: impl Fn(&T) -> String) -> (String, u64) {
    tx.remove(&**object);
    (name(object), object.meta().version)
}

/// Removes an object by reference, if it is there.
pub fn remove_ref(state: &State, tx: &mut Transaction, reference: ObjectRef) {
    match reference {
        ObjectRef::Network(id) => state.network(id).iter().for_each(|one| tx.remove(&***one)),
        ObjectRef::Config(id) => state.config(id).iter().for_each(|one| tx.remove(&***one)),
        ObjectRef::Secret(id) => state.secret(id).iter().for_each(|one| tx.remove(&***one)),
        ObjectRef::Volume(id) => state.volume(id).iter().for_each(|one| tx.remove(&***one)),
        ObjectRef::Cluster(_) | ObjectRef::Node(_) | ObjectRef::Service(_) | ObjectRef::Task(_) => {}
    }
}
