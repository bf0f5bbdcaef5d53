//! Rows of `network ls`, `volume ls`, `config ls` and `secret ls`. Pure.

use berth_proto::object::{Config, Meta, Network, Secret, Volume};
use berth_proto::spec::Labels;
use berth_proto::time::Timestamp;
use serde::Serialize;

use crate::ui::Row;
use crate::ui::human::ago;
use crate::ui::listing::short_id;

/// A line of `network ls`.
#[derive(Debug, Clone, Serialize)]
pub struct NetworkRow {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Stack, if it belongs to one.
    pub stack: Option<String>,
    /// Driver.
    pub driver: &'static str,
    /// `cluster` when it spans nodes, else `local`.
    pub scope: &'static str,
    /// No way out.
    pub internal: bool,
    /// What goes from node to node is encrypted.
    pub encrypted: bool,
    /// Subnets that the allocator gave it.
    pub subnets: Vec<String>,
    /// Labels.
    pub labels: Labels,
    /// When it was made.
    pub created_at: Timestamp,
}

impl NetworkRow {
    /// The row of one network.
    pub fn new(network: &Network) -> Self {
        let pools = network.allocation.iter().flat_map(|allocation| &allocation.pools);
        Self {
            id: network.id.to_string(),
            name: network.spec.name.to_string(),
            stack: network.spec.stack.as_ref().map(ToString::to_string),
            driver: network.spec.driver.as_str(),
            scope: network.spec.driver.scope(),
            internal: network.spec.internal,
            encrypted: network.allocation.as_ref().is_some_and(|given| given.encrypted),
            subnets: pools.map(|(subnet, _)| subnet.to_string()).collect(),
            labels: network.spec.labels.clone(),
            created_at: network.meta.created_at,
        }
    }
}

impl Row for NetworkRow {
    const HEADS: &'static [&'static str] = &["NETWORK ID", "NAME", "DRIVER", "SCOPE", "SUBNET"];

    fn cells(&self, no_trunc: bool) -> Vec<String> {
        let texts = [self.name.clone(), self.driver.to_owned(), self.scope.to_owned(), self.subnets.join(", ")];
        [short_id(&self.id, no_trunc)].into_iter().chain(texts).collect()
    }

    fn key(&self, no_trunc: bool) -> String {
        short_id(&self.id, no_trunc)
    }
}

/// A line of `volume ls`.
#[derive(Debug, Clone, Serialize)]
pub struct VolumeRow {
    /// Id; null for a volume that only this node knows.
    pub id: Option<String>,
    /// Name.
    pub name: String,
    /// Stack, if it belongs to one.
    pub stack: Option<String>,
    /// Driver.
    pub driver: String,
    /// Where its files are on this node; null when it has none here.
    pub mountpoint: Option<String>,
    /// Labels.
    pub labels: Labels,
    /// When it was made.
    pub created_at: Option<Timestamp>,
}

impl VolumeRow {
    /// The row of one volume of the cluster.
    pub fn new(volume: &Volume) -> Self {
        Self {
            id: Some(volume.id.to_string()),
            name: volume.spec.name.to_string(),
            stack: volume.spec.stack.as_ref().map(ToString::to_string),
            driver: volume.spec.driver.clone(),
            mountpoint: None,
            labels: volume.spec.labels.clone(),
            created_at: Some(volume.meta.created_at),
        }
    }
}

impl Row for VolumeRow {
    const HEADS: &'static [&'static str] = &["DRIVER", "VOLUME NAME"];

    fn cells(&self, _no_trunc: bool) -> Vec<String> {
        vec![self.driver.clone(), self.name.clone()]
    }

    fn key(&self, _no_trunc: bool) -> String {
        self.name.clone()
    }
}

/// A line of `config ls` or `secret ls`.
#[derive(Debug, Clone, Serialize)]
pub struct FileRow {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Stack, if it belongs to one.
    pub stack: Option<String>,
    /// Labels.
    pub labels: Labels,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
    #[serde(skip)]
    now: Timestamp,
}

impl FileRow {
    /// The row of one config.
    pub fn config(config: &Config, now: Timestamp) -> Self {
        let stack = config.spec.stack.as_ref().map(ToString::to_string);
        Self::new(config.id.to_string(), config.spec.name.to_string(), stack, &config.spec.labels, config.meta, now)
    }

    /// The row of one secret.
    pub fn secret(secret: &Secret, now: Timestamp) -> Self {
        let stack = secret.spec.stack.as_ref().map(ToString::to_string);
        Self::new(secret.id.to_string(), secret.spec.name.to_string(), stack, &secret.spec.labels, secret.meta, now)
    }

    fn new(id: String, name: String, stack: Option<String>, labels: &Labels, meta: Meta, now: Timestamp) -> Self {
        let Meta { created_at, updated_at, .. } = meta;
        Self { id, name, stack, labels: labels.clone(), created_at, updated_at, now }
    }
}

impl Row for FileRow {
    const HEADS: &'static [&'static str] = &["ID", "NAME", "CREATED", "UPDATED"];

    fn cells(&self, no_trunc: bool) -> Vec<String> {
        let since = |at: Timestamp| ago(self.now.since(at));
        vec![short_id(&self.id, no_trunc), self.name.clone(), since(self.created_at), since(self.updated_at)]
    }

    fn key(&self, no_trunc: bool) -> String {
        short_id(&self.id, no_trunc)
    }
}
