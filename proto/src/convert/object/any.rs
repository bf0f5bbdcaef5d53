//! Any object, and references to it.

use std::sync::Arc;

use crate::convert::{At, ConvertError, enum_of};
use crate::object::{Object, ObjectKind, ObjectRef};
use crate::pb;
use pb::object::Object as Any;

macro_rules! any_object {
    ($($variant:ident = $field:literal),* $(,)?) => {
        impl From<&Object> for pb::Object {
            fn from(object: &Object) -> Self {
                let any = match object { $(Object::$variant(object) => Any::$variant((&**object).into())),* };
                Self { object: Some(any) }
            }
        }

        impl TryFrom<pb::Object> for Object {
            type Error = ConvertError;

            fn try_from(message: pb::Object) -> Result<Self, ConvertError> {
                let any = message.object;
                let any = any.ok_or_else(|| ConvertError::new("object", "is missing or newer than this version"))?;
                Ok(match any { $(Any::$variant(object) => Self::$variant(Arc::new(object.try_into().at($field)?))),* })
            }
        }

        impl From<ObjectKind> for pb::ObjectKind {
            fn from(kind: ObjectKind) -> Self {
                match kind { $(ObjectKind::$variant => Self::$variant),* }
            }
        }

        impl TryFrom<pb::ObjectKind> for ObjectKind {
            type Error = ConvertError;

            fn try_from(kind: pb::ObjectKind) -> Result<Self, ConvertError> {
                match kind {
                    $(pb::ObjectKind::$variant => Ok(Self::$variant),)*
                    pb::ObjectKind::Unspecified => Err(ConvertError::new("kind", "is missing")),
                }
            }
        }
    };
}

any_object! {
    Cluster = "cluster",
    Node = "node",
    Service = "service",
    Task = "task",
    Network = "network",
    Volume = "volume",
    Config = "config",
    Secret = "secret",
}

impl From<ObjectRef> for pb::ObjectRef {
    fn from(reference: ObjectRef) -> Self {
        Self { kind: pb::ObjectKind::from(reference.kind()).into(), id: reference.id_text() }
    }
}

impl TryFrom<pb::ObjectRef> for ObjectRef {
    type Error = ConvertError;

    fn try_from(message: pb::ObjectRef) -> Result<Self, ConvertError> {
        let kind = enum_of::<pb::ObjectKind>(message.kind, "kind")?.try_into()?;
        Self::parse(kind, &message.id).map_err(|error| ConvertError::new("id", error))
    }
}
