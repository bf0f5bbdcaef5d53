//! Files to a [`Project`]: read, fill in, include, extend, merge, check, resolve, normalise. Files are read only through
//! [`Files`]; the environment is an argument.

mod env;
mod extends;
mod include;
mod name;
mod normalise;
mod resolve;
mod rules;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path as FilePath, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::diag::{Diags, Errors, Warning};
use crate::dotenv::Vars;
use crate::files::{Disk, Files};
use crate::node::{Map, Node, Value};
use crate::path::Path;
use crate::problem::Problem;
use crate::project::Project;
use crate::schema::{Shape, check, top};
use crate::source::{FileId, Span};
use crate::{interpolate, merge, yaml};

/// Names that are looked for when no file is given, with the overrides that go on top.
const DEFAULT_FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
const DEFAULT_OVERRIDES: [&str; 4] =
    ["compose.override.yaml", "compose.override.yml", "docker-compose.override.yml", "docker-compose.override.yaml"];

/// What to load and in which surroundings.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Compose files, later ones over earlier ones; `-` is standard input. Empty: those of `COMPOSE_FILE`, else the usual
    /// names in `working_dir` and above it.
    pub files: Vec<PathBuf>,
    /// Absolute directory that relative arguments start from.
    pub working_dir: PathBuf,
    /// What relative paths in the files start from; default the directory of the first file.
    pub project_dir: Option<PathBuf>,
    /// Name of the project (stack); default `COMPOSE_PROJECT_NAME`, then `name:`, then the project directory's name.
    pub project_name: Option<String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Files with more variables, below `env`; default `.env` in the project directory, when there.
    pub env_files: Vec<PathBuf>,
    /// Active profiles, besides `COMPOSE_PROFILES`; `*` is all.
    pub profiles: Vec<String>,
    /// False: `${…}` stays as it is.
    pub interpolate: bool,
}

impl LoadOptions {
    /// For one file, with an empty environment.
    pub fn new(working_dir: impl Into<PathBuf>, files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            files: files.into_iter().collect(),
            working_dir: working_dir.into(),
            project_dir: None,
            project_name: None,
            env: BTreeMap::new(),
            env_files: Vec::new(),
            profiles: Vec::new(),
            interpolate: true,
        }
    }
}

/// Loads from this machine's files.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(options: &LoadOptions) -> Result<(Project, Vec<Warning>), Errors> {
    load_from(options, &Disk)
}

/// Loads from any files.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load_from(options: &LoadOptions, files: &dyn Files) -> Result<(Project, Vec<Warning>), Errors> {
    let mut loader = Loader {
        files,
        diags: Diags::default(),
        interpolate: options.interpolate,
        texts: HashMap::new(),
        trees: HashMap::new(),
    };
    let project = loader.project(options);
    let (warnings, sources) = loader.diags.finish()?;
    let mut project = project.expect("a load without a project has noted an error");
    project.sources = sources;
    project.interpolated = options.interpolate;
    Ok((project, warnings))
}

/// What a model is loaded in: its directory and its variables.
#[derive(Clone)]
struct Scope {
    dir: PathBuf,
    env: Rc<Vars>,
}

impl Scope {
    fn join(&self, path: &str) -> PathBuf {
        resolve::absolute(&self.dir, path, &self.env)
    }
}

/// One document of a file, filled in, its merge tags taken out.
#[derive(Clone)]
struct Document {
    root: Node,
    resets: Vec<Vec<String>>,
}

struct Loader<'f> {
    files: &'f dyn Files,
    diags: Diags,
    interpolate: bool,
    texts: HashMap<PathBuf, Option<(FileId, Arc<str>)>>,
    trees: HashMap<PathBuf, Rc<Vec<Node>>>,
}

impl Loader<'_> {
    fn project(&mut self, options: &LoadOptions) -> Option<Project> {
        let files = self.compose_files(options)?;
        let dir = match (&options.project_dir, files.first()) {
            (Some(dir), _) => options.working_dir.join(dir),
            (None, Some(file)) if file != FilePath::new("-") => {
                file.parent().map_or_else(|| options.working_dir.clone(), FilePath::to_path_buf)
            }
            _ => options.working_dir.clone(),
        };
        let dir = resolve::clean(&dir);
        let mut env = self.environment(options, &dir);
        let name = self.project_name(options, &files, &dir, &env);
        if let Some(name) = &name {
            env.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
        }
        let scope = Scope { dir, env: Rc::new(env) };
        let mut model = self.model(&files, &scope, &mut Vec::new());
        if self.diags.count() == 0 && model.as_map().is_none_or(Map::is_empty) {
            self.diags.error_outside(Problem::Empty);
        }
        let name = name.unwrap_or_default();
        normalise::normalise(&mut model, &name);
        let profiles = env::profiles(&options.profiles, &scope.env);
        let mut project = Project::new(name, scope.dir.clone(), model, profiles);
        rules::check(&project, &mut self.diags);
        project.drop_disabled_dependencies();
        self.resolve_services(&mut project, &scope);
        self.read_contents(&mut project, &scope);
        Some(project)
    }

    /// The given files as absolute paths, or the usual ones.
    fn compose_files(&mut self, options: &LoadOptions) -> Option<Vec<PathBuf>> {
        if !options.files.is_empty() {
            let absolute = |file: &PathBuf| match file.as_path() == FilePath::new("-") {
                true => file.clone(),
                false => resolve::clean(&options.working_dir.join(file)),
            };
            return Some(options.files.iter().map(absolute).collect());
        }
        if let Some(list) = options.env.get("COMPOSE_FILE").filter(|list| !list.is_empty()) {
            let separator = options.env.get("COMPOSE_PATH_SEPARATOR").map_or(":", String::as_str);
            let files = list.split(separator).filter(|file| !file.is_empty());
            return Some(files.map(|file| resolve::clean(&options.working_dir.join(file))).collect());
        }
        let mut dir = Some(options.working_dir.as_path());
        while let Some(here) = dir {
            let first = |names: &[&str]| names.iter().map(|name| here.join(name)).find(|path| self.files.is_file(path));
            if let Some(file) = first(&DEFAULT_FILES) {
                let over = first(&DEFAULT_OVERRIDES);
                return Some(std::iter::once(file).chain(over).collect());
            }
            dir = here.parent();
        }
        let dir = options.working_dir.display().to_string();
        self.diags.error_outside(Problem::NoFile { dir }).hint("name one with -f FILE");
        None
    }

    /// Reads a text once; an error is noted once.
    fn text(&mut self, file: &FilePath) -> Option<(FileId, Arc<str>)> {
        if let Some(known) = self.texts.get(file) {
            return known.clone();
        }
        let read = self.files.read(file).map_err(|error| error.to_string());
        let text = read.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned()));
        let known = match text {
            Ok(text) => {
                let text: Arc<str> = text.into();
                Some((self.diags.sources.add(file.display().to_string(), Arc::clone(&text)), text))
            }
            Err(reason) => {
                self.diags.error_outside(Problem::Read { path: file.display().to_string(), reason });
                None
            }
        };
        self.texts.insert(file.to_path_buf(), known.clone());
        known
    }

    /// The documents of a file as they are written; parsed once.
    fn parsed(&mut self, file: &FilePath) -> Rc<Vec<Node>> {
        if let Some(known) = self.trees.get(file) {
            return Rc::clone(known);
        }
        let mut roots = Vec::new();
        if let Some((id, text)) = self.text(file) {
            roots = yaml::parse(&text, id, &mut self.diags);
            for root in roots.iter().filter(|root| root.as_map().is_none() && !root.is_bad()) {
                self.diags.error(&Path::Root, root.span, Problem::NotAMapping(root.kind()));
            }
            roots.retain(|root| root.as_map().is_some());
        }
        let roots = Rc::new(roots);
        self.trees.insert(file.to_path_buf(), Rc::clone(&roots));
        roots
    }

    /// The documents of a file, filled in.
    fn documents(&mut self, file: &FilePath, env: &Vars) -> Vec<Document> {
        let mut documents = Vec::new();
        for mut root in self.parsed(file).iter().cloned() {
            if self.interpolate {
                let lookup = |name: &str| env.get(name).cloned();
                interpolate::tree(&mut root, &Path::Root, &lookup, &mut self.diags);
            }
            let mut resets = Vec::new();
            merge::take_tags(&mut root, &mut Vec::new(), &mut resets);
            documents.push(Document { root, resets });
        }
        documents
    }

    /// Several files as one checked model with absolute paths.
    fn model(&mut self, files: &[PathBuf], scope: &Scope, including: &mut Vec<PathBuf>) -> Node {
        let mut model = Node::new(Value::Map(Map::new()), Span::default());
        for file in files {
            for mut document in self.documents(file, &scope.env) {
                including.push(file.clone());
                self.include(&mut document, scope, including);
                including.pop();
                merge::reset(&mut model, &document.resets);
                self.extend(&mut document, file, scope);
                model = merge::merge(model, document.root, &Path::Root, &mut self.diags);
                merge::unique(&mut model, &Path::Root);
                self.check(&mut model, &Shape::Object(&top::FILE), &Path::Root);
                self.drop_version(&mut model);
                merge::unique(&mut model, &Path::Root);
            }
        }
        rules::check_objects(&model, &mut self.diags);
        normalise::build_defaults(&mut model);
        resolve::paths(&mut model, &scope.dir, &scope.env);
        model
    }

    fn check(&mut self, node: &mut Node, shape: &Shape, path: &Path<'_>) {
        check::check(node, shape, path, !self.interpolate, &mut self.diags);
    }

    fn drop_version(&mut self, model: &mut Node) {
        let Some(map) = model.as_map_mut() else { return };
        let span = map.key_span("version");
        if map.remove("version").is_some() {
            let message = "`version` is obsolete and has no meaning, take it away";
            self.diags.warn(&Path::Root.key("version"), span, message);
        }
    }
}
