//! A project to specs. Pure: contents of configs and secrets were read when the project was loaded.

mod autoscale;
mod container;
mod deploy;
mod extension;
mod field;
mod mounts;
mod networks;

mod process;
mod service;
mod storage;
mod validate;

use std::collections::{BTreeMap, BTreeSet};

use berth_proto::name::{NetworkName, ServiceName, StackName};
use berth_proto::spec::{ConfigSpec, NetworkSpec, SecretSpec, ServiceSpec, VolumeSpec};

use crate::diag::{Diags, Errors, Warning};
use crate::path::Path;
use crate::problem::Problem;
use crate::project::{Objects, Project};
use crate::source::Span;
use crate::support;

/// What a project asks for. Lists are sorted by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Stack {
    /// Its name.
    pub name: StackName,
    /// Services.
    pub services: Vec<ServiceSpec>,
    /// Networks to make; those that no active service uses are left out.
    pub networks: Vec<NetworkSpec>,
    /// Volumes to make; likewise.
    pub volumes: Vec<VolumeSpec>,
    /// Configs to make; likewise.
    pub configs: Vec<ConfigSpec>,
    /// Secrets to make; likewise.
    pub secrets: Vec<SecretSpec>,
    /// What must be there already.
    pub externals: Vec<External>,
    /// What has no effect, or another one than thought.
    pub warnings: Vec<Warning>,
}

/// Something marked `external` that a service uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct External {
    /// What it is.
    pub kind: ExternalKind,
    /// Its full name.
    pub name: String,
    /// `file:line:column` where it is named, for messages.
    pub place: String,
}

/// Kinds of things that can be external.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExternalKind {
    /// A network.
    Network,
    /// A volume.
    Volume,
    /// A config.
    Config,
    /// A secret.
    Secret,
}

/// Converts a project.
///
/// # Errors
/// Everything that Berth refuses, at once.
pub fn convert(project: &Project) -> Result<Stack, Errors> {
    let mut converter = Converter {
        project,
        diags: Diags::with_sources(project.sources.clone()),
        used: Used::default(),
        networks: BTreeMap::new(),
    };
    support::obey(project, &mut converter.diags);
    let stack = converter.stack();
    let (warnings, _) = converter.diags.finish()?;
    let stack = stack.expect("a project without a good name has noted an error");
    Ok(Stack { warnings, ..stack })
}

/// Keys of the objects that active services use.
#[derive(Default)]
struct Used {
    networks: BTreeSet<String>,
    volumes: BTreeSet<String>,
    configs: BTreeSet<String>,
    secrets: BTreeSet<String>,
}

struct Converter<'p> {
    project: &'p Project,
    diags: Diags,
    used: Used,
    /// Full names by key, for networks that have a good one.
    networks: BTreeMap<&'p str, NetworkName>,
}

impl<'p> Converter<'p> {
    fn stack(&mut self) -> Option<Stack> {
        let name = self.name::<StackName>(&self.project.name, &Path::Root.key("name"), Span::default())?;
        let project = self.project;
        let root = Path::Root.key("networks");
        for (key, network) in &project.networks {
            let text = network.str_at("name").unwrap_or(key);
            if let Some(full) = self.name(text, &root.key(key), network.span) {
                self.networks.insert(key, full);
            }
        }
        let mut services: Vec<ServiceSpec> =
            project.services.iter().filter_map(|(key, node)| self.service(&name, key, node)).collect();
        self.links(&mut services);
        services.sort_by(|a, b| a.name.cmp(&b.name));
        let mut stack = Stack {
            networks: self.network_specs(&name),
            volumes: self.volume_specs(&name),
            configs: self.config_specs(&name),
            secrets: self.secret_specs(&name),
            externals: self.externals(),
            name,
            services,
            warnings: Vec::new(),
        };
        let project = self.project;
        self.distinct(
            "networks",
            "network",
            &project.networks,
            stack.networks.iter().map(|spec| &*spec.name).collect(),
        );
        self.distinct("volumes", "volume", &project.volumes, stack.volumes.iter().map(|spec| &*spec.name).collect());
        self.distinct("configs", "config", &project.configs, stack.configs.iter().map(|spec| &*spec.name).collect());
        self.distinct("secrets", "secret", &project.secrets, stack.secrets.iter().map(|spec| &*spec.name).collect());
        stack.networks.sort_by(|a, b| a.name.cmp(&b.name));
        stack.volumes.sort_by(|a, b| a.name.cmp(&b.name));
        stack.configs.sort_by(|a, b| a.name.cmp(&b.name));
        stack.secrets.sort_by(|a, b| a.name.cmp(&b.name));
        Some(stack)
    }

    /// Refuses two objects of a kind with one full name.
    fn distinct(&mut self, kind: &str, what: &str, objects: &Objects, names: Vec<&str>) {
        let root = Path::Root.key(kind);
        let mut first: BTreeMap<&str, &str> = BTreeMap::new();
        for (key, node) in objects {
            let Some(name) = node.str_at("name").filter(|name| names.contains(name)) else { continue };
            if let Some(other) = first.insert(name, key) {
                let reason = format!("`{other}` and `{key}` are both the {what} `{name}`");
                self.diags.error(&root.key(key), node.span, Problem::Refused(reason));
            }
        }
    }

    /// A checked name, or a noted error.
    fn name<N>(&mut self, text: &str, path: &Path<'_>, span: Span) -> Option<N>
    where
        N: std::str::FromStr<Err = berth_proto::name::ParseNameError>,
    {
        match text.parse() {
            Ok(name) => Some(name),
            Err(error) => {
                self.diags.error(path, span, error);
                None
            }
        }
    }

    /// `<stack>_<service>`.
    fn service_name(&mut self, key: &str, path: &Path<'_>, span: Span) -> Option<ServiceName> {
        let full = format!("{}_{key}", self.project.name);
        self.name(&full, path, span)
    }
}
