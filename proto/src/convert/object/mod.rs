//! Objects: [`crate::object`] and their messages in `object.proto`.

mod any;
mod api_token;
mod authority;
mod file;
mod node;
mod resource;
mod service;
mod task;
mod trace;

use crate::convert::{ConvertError, list, optional, parse, required, to_list};
use crate::object::{Cluster, Meta};
use crate::pb;
use crate::time::Timestamp;

impl From<&Meta> for pb::Meta {
    fn from(meta: &Meta) -> Self {
        Self { version: meta.version, created_at: meta.created_at.0, updated_at: meta.updated_at.0 }
    }
}

impl TryFrom<pb::Meta> for Meta {
    type Error = ConvertError;

    fn try_from(meta: pb::Meta) -> Result<Self, ConvertError> {
        Ok(Self {
            version: meta.version,
            created_at: Timestamp(meta.created_at),
            updated_at: Timestamp(meta.updated_at),
        })
    }
}

impl From<&Cluster> for pb::Cluster {
    fn from(cluster: &Cluster) -> Self {
        Self {
            id: cluster.id.to_string(),
            meta: Some((&cluster.meta).into()),
            spec: Some((&cluster.spec).into()),
            authority: cluster.authority.as_ref().map(Into::into),
            tokens: to_list(&cluster.tokens),
        }
    }
}

impl TryFrom<pb::Cluster> for Cluster {
    type Error = ConvertError;

    fn try_from(cluster: pb::Cluster) -> Result<Self, ConvertError> {
        Ok(Self {
            id: parse(&cluster.id, "id")?,
            meta: required(cluster.meta, "meta")?,
            spec: required(cluster.spec, "spec")?,
            authority: optional(cluster.authority, "authority")?,
            tokens: list(cluster.tokens, "tokens")?,
        })
    }
}
