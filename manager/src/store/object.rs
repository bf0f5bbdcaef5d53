//! What all kinds of objects have in common, as a trait, so that each kind is kept by the same code.
//!
//! [`Object`], [`ObjectRef`] and [`ObjectKind`] come from `berth-proto`.

use std::sync::Arc;

use berth_proto::id::{Id, kind};
use berth_proto::object::{Cluster, Config, Meta, Network, Node, Secret, Service, Task, Volume};

pub use berth_proto::object::{Object, ObjectKind, ObjectRef};

/// One kind of object.
pub trait Stored: Clone + PartialEq + Send + Sync + 'static {
    /// Marker of the kind's ids.
    type Kind;

    /// Its id.
    fn id(&self) -> Id<Self::Kind>;
    /// Its version and times.
    fn meta(&self) -> &Meta;
    /// The same, to stamp them.
    fn meta_mut(&mut self) -> &mut Meta;
    /// The name that no other object of its kind may have; `None` for kinds without one.
    fn unique_name(&self) -> Option<&str>;
    /// A reference to the object with that id.
    fn reference(id: Id<Self::Kind>) -> ObjectRef;
    /// The object as one of any kind.
    fn into_object(object: Arc<Self>) -> Object;
}

macro_rules! stored {
    ($($kind:ident: |$it:ident| $name:expr;)*) => {$(
        impl Stored for $kind {
            type Kind = kind::$kind;

            fn id(&self) -> Id<kind::$kind> {
                self.id
            }
            fn meta(&self) -> &Meta {
                &self.meta
            }
            fn meta_mut(&mut self) -> &mut Meta {
                &mut self.meta
            }
            fn unique_name(&self) -> Option<&str> {
                let $it = self;
                $name
            }
            fn reference(id: Id<kind::$kind>) -> ObjectRef {
                ObjectRef::$kind(id)
            }
            fn into_object(object: Arc<Self>) -> Object {
                Object::$kind(object)
            }
        }
    )*};
}

stored! {
    Cluster: |_it| None;
    Node: |_it| None;
    Service: |it| Some(it.spec.name.as_str());
    Task: |_it| None;
    Network: |it| Some(it.spec.name.as_str());
    Volume: |it| Some(it.spec.name.as_str());
    Config: |it| Some(it.spec.name.as_str());
    Secret: |it| Some(it.spec.name.as_str());
}
