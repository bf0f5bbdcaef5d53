//! Real Compose files: each gets the verdict that Docker Compose 2.40.3 gives it.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use berth_compose::files::{Disk, Files, Memory};
use berth_compose::{LoadOptions, Project, load_from};

struct Entry {
    file: String,
    accepted: bool,
    fill: bool,
    env_files: Vec<String>,
}

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn index() -> Vec<Entry> {
    let index = std::fs::read_to_string(dir().join("INDEX.tsv")).unwrap();
    let entry = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        Entry {
            file: columns[0].to_owned(),
            accepted: match columns[6] {
                "accept" => true,
                "reject" => false,
                other => panic!("verdict {other}"),
            },
            fill: columns[7] == "1",
            env_files: columns[8].split_whitespace().map(str::to_owned).collect(),
        }
    };
    index.lines().skip(1).map(entry).collect()
}

/// The corpus file, what stands beside it, and empty files where the index says so.
struct Beside {
    made: Memory,
    beside: PathBuf,
    root: PathBuf,
}

impl Beside {
    fn real(&self, path: &Path) -> Option<PathBuf> {
        let inside = path.strip_prefix(&self.root).ok()?;
        [self.beside.join(inside), dir().join(inside)].into_iter().find(|path| path.is_file())
    }
}

impl Files for Beside {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        match self.real(path) {
            Some(real) => Disk.read(&real),
            None => self.made.read(path),
        }
    }

    fn is_file(&self, path: &Path) -> bool {
        self.real(path).is_some() || self.made.is_file(path)
    }
}

fn verdict(entry: &Entry) -> Result<Project, String> {
    let root = PathBuf::from("/project/app");
    let made = entry.env_files.iter().fold(Memory::default(), |made, name| made.with(root.join(name), ""));
    let files = Beside { made, beside: dir().join("beside").join(&entry.file), root: root.clone() };
    let mut options = LoadOptions::new(&root, [PathBuf::from(&entry.file)]);
    if entry.fill {
        let text = std::fs::read_to_string(dir().join(&entry.file)).unwrap();
        options.env.extend(variables(&text).map(|name| (name.to_owned(), "1".to_owned())));
    }
    load_from(&options, &files).map(|(project, _)| project).map_err(|errors| errors.to_string())
}

/// Names after `$` and `${`.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    let name = |part: &str| part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
    text.split('$').skip(1).map(move |part| part.strip_prefix('{').unwrap_or(part)).map(move |part| &part[..name(part)])
}

#[test]
fn every_file_gets_its_verdict() {
    let entries = index();
    assert_eq!(entries.len(), 60);
    let mut wrong = Vec::new();
    for entry in &entries {
        match (verdict(entry), entry.accepted) {
            (Ok(_), true) | (Err(_), false) => {}
            (Ok(_), false) => wrong.push(format!("{}: accepted", entry.file)),
            (Err(errors), true) => wrong.push(format!("{}: refused\n{errors}", entry.file)),
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), entries.len(), wrong.join("\n"));
}

#[test]
fn the_printed_file_loads_to_the_same_printed_file() {
    for entry in index().iter().filter(|entry| entry.accepted) {
        let printed = verdict(entry).unwrap().to_yaml();
        let files = Memory::default().with("/project/app/again.yaml", printed.clone());
        let options = LoadOptions::new("/project/app", [PathBuf::from("again.yaml")]);
        let again = load_from(&options, &files).map(|(project, _)| project.to_yaml());
        assert_eq!(again.map_err(|errors| errors.to_string()), Ok(printed), "{}", entry.file);
    }
}

#[test]
fn refusals_say_why() {
    let why = |file: &str| {
        let entry = index().into_iter().find(|entry| entry.file.ends_with(file)).unwrap();
        verdict(&entry).unwrap_err()
    };
    insta::assert_snapshot!("vikunja", why("vikunja.yaml"));
    insta::assert_snapshot!("transcriber", why("transcriber.yml"));
    insta::assert_snapshot!("full_example", why("full-example.yml"));
    insta::assert_snapshot!("override_alone", why("docker-compose.override.yml"));
}
