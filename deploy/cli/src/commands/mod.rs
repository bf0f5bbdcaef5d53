//! One file per command: its flags, and what it does.

pub mod apply;
pub mod attach;
mod chunks;
pub mod cluster;
pub mod completion;
pub mod config;
pub mod cp;
pub mod events;
pub mod exec;
mod file;
pub mod image;
pub mod logs;
pub mod network;
pub mod node;
mod object;
pub mod reset;
pub mod scale;
pub mod secret;
pub mod service;
pub mod stack;
pub mod stats;
pub mod task;
pub mod token;
pub mod version;
pub mod volume;

use clap::Subcommand;

use crate::cli::Context;
use crate::daemon::DaemonArgs;
use crate::ui::{Failure, Outcome};

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the cluster as a Compose file says
    Apply(apply::ApplyArgs),
    /// Check a Compose file and print it in full, or manage configs
    Config(config::ConfigArgs),
    /// Manage stacks
    #[command(subcommand)]
    Stack(stack::StackCommand),
    /// Manage services
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Set the number of tasks of services
    Scale(scale::ScaleArgs),
    /// Look at tasks
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Show the output of a task or of all tasks of a service
    Logs(logs::LogsArgs),
    /// Run a command in a running task
    Exec(exec::ExecArgs),
    /// Attach to the input and output of a running task
    Attach(attach::AttachArgs),
    /// Show what tasks use
    Stats(stats::StatsArgs),
    /// Copy files between a task and this machine
    Cp(cp::CpArgs),
    /// Manage the images of this node
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Manage nodes
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Manage networks
    #[command(subcommand)]
    Network(network::NetworkCommand),
    /// Manage volumes
    #[command(subcommand)]
    Volume(volume::VolumeCommand),
    /// Manage secrets
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// Manage the tokens of the HTTP API and the dashboard
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Show what happens in the cluster
    Events(events::EventsArgs),
    /// Manage the cluster: init, join, leave, tokens, certificates, backups
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Run the node's daemon in the foreground
    Daemon(DaemonArgs),
    /// End every container of a data directory and remove all of it
    Reset(reset::ResetArgs),
    /// Print a completion script for a shell
    Completion(completion::CompletionArgs),
    /// Print the versions of this program and of the daemon
    Version(version::VersionArgs),
}

impl Command {
    /// What its span is called; `None` for one that starts no task.
    pub fn traced_name(&self) -> Option<&'static str> {
        match self {
            Self::Apply(_) => Some("berth apply"),
            Self::Scale(_) => Some("berth scale"),
            Self::Service(command) => command.traced_name(),
            _ => None,
        }
    }

    /// Runs it.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Apply(args) => apply::run(args, context).await,
            Self::Config(args) => config::run(args, context).await,
            Self::Stack(command) => command.run(context).await,
            Self::Service(command) => command.run(context).await,
            Self::Scale(args) => scale::run(args, context).await,
            Self::Task(command) => command.run(context).await,
            Self::Logs(args) => logs::run(args, context).await,
            Self::Exec(args) => exec::run(args, context).await,
            Self::Attach(args) => attach::run(args, context).await,
            Self::Stats(args) => stats::run(args, context).await,
            Self::Cp(args) => cp::run(args, context).await,
            Self::Image(command) => command.run(context).await,
            Self::Node(command) => command.run(context).await,
            Self::Network(command) => command.run(context).await,
            Self::Volume(command) => command.run(context).await,
            Self::Secret(command) => command.run(context).await,
            Self::Token(command) => command.run(context).await,
            Self::Events(args) => events::run(args, context).await,
            Self::Cluster(command) => command.run(context).await,
            Self::Daemon(_) => Err(Failure::usage("the daemon cannot be run from here")),
            Self::Reset(args) => reset::run(args).await,
            Self::Completion(args) => completion::run(args),
            Self::Version(args) => version::run(args, context).await,
        }
    }
}
