//! Any object, and a reference to any object.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Cluster, Config, Meta, Network, Node, Secret, Service, Task, Volume};
use crate::id::{ClusterId, ConfigId, NetworkId, NodeId, SecretId, ServiceId, TaskId, VolumeId};

macro_rules! any_object {
    ($($variant:ident($id:ty) = $word:literal),* $(,)?) => {
        /// One object of any kind; cheap to clone.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Object {
            $(#[doc = concat!("A ", $word, ".")] $variant(Arc<$variant>)),*
        }

        /// Which object; the id of any kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum ObjectRef {
            $(#[doc = concat!("A ", $word, ".")] $variant($id)),*
        }

        /// Kinds of objects.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum ObjectKind {
            $(#[doc = concat!("A ", $word, ".")] $variant),*
        }

        impl Object {
            /// Its reference.
            pub fn reference(&self) -> ObjectRef {
                match self { $(Self::$variant(object) => ObjectRef::$variant(object.id)),* }
            }

            /// Its version and times.
            pub fn meta(&self) -> Meta {
                match self { $(Self::$variant(object) => object.meta),* }
            }

            /// The same object with other version and times.
            #[must_use]
            pub fn with_meta(mut self, meta: Meta) -> Self {
                match &mut self { $(Self::$variant(object) => Arc::make_mut(object).meta = meta),* }
                self
            }
        }

        impl ObjectRef {
            /// Its kind.
            pub fn kind(self) -> ObjectKind {
                match self { $(Self::$variant(_) => ObjectKind::$variant),* }
            }

            /// A reference of that kind from the text of an id.
            pub fn parse(kind: ObjectKind, id: &str) -> Result<Self, crate::id::ParseIdError> {
                Ok(match kind { $(ObjectKind::$variant => Self::$variant(id.parse()?)),* })
            }

            /// The text of the id.
            pub fn id_text(self) -> String {
                match self { $(Self::$variant(id) => id.to_string()),* }
            }
        }

        impl ObjectKind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word for it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        $(
            impl From<$variant> for Object {
                fn from(object: $variant) -> Self {
                    Self::$variant(Arc::new(object))
                }
            }
            impl From<Arc<$variant>> for Object {
                fn from(object: Arc<$variant>) -> Self {
                    Self::$variant(object)
                }
            }
            impl From<$id> for ObjectRef {
                fn from(id: $id) -> Self {
                    Self::$variant(id)
                }
            }
        )*
    };
}

any_object! {
    Cluster(ClusterId) = "cluster",
    Node(NodeId) = "node",
    Service(ServiceId) = "service",
    Task(TaskId) = "task",
    Network(NetworkId) = "network",
    Volume(VolumeId) = "volume",
    Config(ConfigId) = "config",
    Secret(SecretId) = "secret",
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> ObjectKind {
        self.reference().kind()
    }

    /// The name that is unique among its kind; `None` for kinds without one.
    pub fn unique_name(&self) -> Option<&str> {
        match self {
            Self::Service(service) => Some(&service.spec.name),
            Self::Network(network) => Some(&network.spec.name),
            Self::Volume(volume) => Some(&volume.spec.name),
            Self::Config(config) => Some(&config.spec.name),
            Self::Secret(secret) => Some(&secret.spec.name),
            Self::Cluster(_) | Self::Node(_) | Self::Task(_) => None,
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.id_text())
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
