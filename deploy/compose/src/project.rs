//! A loaded Compose project: the canonical model, everything resolved, every value with the place it was written at.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use crate::node::{Map, Node, Value};
use crate::print;
use crate::source::Sources;

/// What a config or secret holds. `Debug` shows no bytes.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing could be read, and why.
    Missing(String),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "<{} bytes>", bytes.len()),
            Self::Missing(reason) => write!(f, "<missing: {reason}>"),
        }
    }
}

/// Name and node of things of one kind.
pub type Objects = BTreeMap<String, Node>;

/// A loaded Compose project.
#[derive(Debug, Clone)]
pub struct Project {
    /// Its name; also the name of the stack.
    pub name: String,
    /// What relative paths started from.
    pub working_dir: PathBuf,
    /// Active services.
    pub services: Objects,
    /// Services whose profiles are not active.
    pub disabled: Objects,
    /// Networks.
    pub networks: Objects,
    /// Volumes.
    pub volumes: Objects,
    /// Configs.
    pub configs: Objects,
    /// Secrets.
    pub secrets: Objects,
    /// Models.
    pub models: Objects,
    /// `x-…` at the top.
    pub extensions: Objects,
    /// Active profiles.
    pub profiles: Vec<String>,
    /// What configs hold; none for external ones.
    pub config_contents: BTreeMap<String, Content>,
    /// What secrets hold; none for external ones.
    pub secret_contents: BTreeMap<String, Content>,
    /// False: `${…}` was left as it is.
    pub interpolated: bool,
    /// The texts that spans refer to.
    pub sources: Sources,
}

impl Project {
    /// From a normalised model.
    pub(crate) fn new(name: String, working_dir: PathBuf, model: Node, profiles: Vec<String>) -> Self {
        let mut model = match model.value {
            Value::Map(map) => map,
            _ => Map::new(),
        };
        let mut take = |key: &str| -> Objects {
            match model.remove(key).map(|node| node.value) {
                // What is said about a thing as a whole points at its name.
                Some(Value::Map(map)) => {
                    map.into_entries().map(|(name, span, node)| (name, Node { span, ..node })).collect()
                }
                _ => Objects::new(),
            }
        };
        let (services, networks, volumes) = (take("services"), take("networks"), take("volumes"));
        let (configs, secrets, models) = (take("configs"), take("secrets"), take("models"));
        let extensions = model.into_entries().filter(|(key, ..)| key.starts_with("x-"));
        let extensions = extensions.map(|(key, _, node)| (key, node)).collect();
        let (services, disabled) = services.into_iter().partition(|(_, service)| is_active(service, &profiles));
        Self {
            name,
            working_dir,
            services,
            disabled,
            networks,
            volumes,
            configs,
            secrets,
            models,
            extensions,
            profiles,
            config_contents: BTreeMap::new(),
            secret_contents: BTreeMap::new(),
            interpolated: true,
            sources: Sources::default(),
        }
    }

    /// Takes away what services would not wait for anyway: optional dependencies on services that are not active.
    pub(crate) fn drop_disabled_dependencies(&mut self) {
        for service in self.services.values_mut() {
            let Some(service) = service.as_map_mut() else { continue };
            let Some(depends_on) = service.get_mut("depends_on").and_then(Node::as_map_mut) else { continue };
            depends_on.retain(|name, _| !self.disabled.contains_key(name));
            if depends_on.is_empty() {
                service.remove("depends_on");
            }
        }
    }

    /// The canonical file: long forms, sorted, variables filled in. Loading it gives the same project again.
    pub fn to_yaml(&self) -> String {
        print::project(self)
    }

    /// Names of the active services.
    pub fn service_names(&self) -> impl Iterator<Item = &str> {
        self.services.keys().map(String::as_str)
    }

    /// Names of the volumes, as the file calls them.
    pub fn volume_names(&self) -> impl Iterator<Item = &str> {
        self.volumes.keys().map(String::as_str)
    }

    /// Names of the networks, as the file calls them.
    pub fn network_names(&self) -> impl Iterator<Item = &str> {
        self.networks.keys().map(String::as_str)
    }

    /// Images of the active services, each once.
    pub fn images(&self) -> BTreeSet<&str> {
        self.services.values().filter_map(|service| service.str_at("image")).collect()
    }

    /// Every profile that a service names, active or not.
    pub fn profile_names(&self) -> BTreeSet<&str> {
        let services = self.services.values().chain(self.disabled.values());
        services.flat_map(|service| service.items("profiles")).filter_map(Node::as_str).collect()
    }
}

fn is_active(service: &Node, profiles: &[String]) -> bool {
    let own = service.items("profiles");
    own.is_empty()
        || own.iter().filter_map(Node::as_str).any(|name| profiles.iter().any(|active| active == name || active == "*"))
}
