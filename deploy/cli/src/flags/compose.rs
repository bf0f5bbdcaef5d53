//! Which Compose files to load, and in which surroundings. Used by `apply` and `config`.

use std::path::PathBuf;

use berth_compose::{LoadOptions, Project};
use clap::Args;

use crate::ui::failure::USAGE;
use crate::ui::{Failure, OrFail, terminal};

/// Compose files and what they are read with.
#[derive(Debug, Clone, Args)]
pub struct ComposeFlags {
    /// Compose file, `-` is stdin; later ones are merged over earlier ones [default: compose.yaml here or above]
    #[arg(short, long, value_name = "FILE", visible_short_alias = 'c', alias = "compose-file")]
    pub file: Vec<PathBuf>,
    /// File with variables for the Compose file [default: .env beside it]
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Profile to activate
    #[arg(long, value_name = "NAME")]
    pub profile: Vec<String>,
    /// Directory that relative paths start from [default: that of the first file]
    #[arg(long, value_name = "DIR")]
    pub project_directory: Option<PathBuf>,
}

impl ComposeFlags {
    /// Reads the files; warnings go to stderr.
    pub fn load(&self, stack: Option<&str>, interpolate: bool) -> Result<Project, Failure> {
        let options = LoadOptions {
            files: self.file.clone(),
            working_dir: std::env::current_dir().or_fail(|| "cannot find the working directory".to_owned())?,
            project_dir: self.project_directory.clone(),
            project_name: stack.map(str::to_owned),
            // Variables that are not text cannot be meant by a text file.
            env: std::env::vars_os()
                .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            env_files: self.env_file.clone(),
            profiles: self.profile.clone(),
            interpolate,
        };
        let (project, warnings) = berth_compose::load(&options).map_err(|errors| wrong(&errors))?;
        for warning in warnings {
            terminal::warn(warning.to_string());
        }
        Ok(project)
    }
}

/// Errors in Compose files: they bring their own lines, with places and hints.
pub fn wrong(errors: &berth_compose::Errors) -> Failure {
    let no_file = errors.items().iter().any(|error| matches!(error.problem, berth_compose::Problem::NoFile { .. }));
    let failure = Failure::preformatted(errors.to_string());
    if no_file { failure.exit_with(USAGE) } else { failure }
}
