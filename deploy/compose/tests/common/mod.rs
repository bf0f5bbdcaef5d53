//! Loading texts in memory.
#![allow(clippy::unwrap_used, dead_code)]

use std::path::PathBuf;

use berth_compose::files::Memory;
use berth_compose::{Errors, LoadOptions, Project, Stack, Warning, convert, load_from};

/// Options for `/app/compose.yaml`.
pub fn options() -> LoadOptions {
    LoadOptions::new("/app", [PathBuf::from("compose.yaml")])
}

/// Files under `/app`.
pub fn files(files: &[(&str, &str)]) -> Memory {
    files.iter().fold(Memory::default(), |memory, (name, text)| memory.with(PathBuf::from("/app").join(name), *text))
}

/// Loads one text.
pub fn load(text: &str) -> Result<(Project, Vec<Warning>), Errors> {
    load_from(&options(), &files(&[("compose.yaml", text)]))
}

/// Loads several files, the first one as the Compose file.
pub fn load_files(texts: &[(&str, &str)]) -> Result<(Project, Vec<Warning>), Errors> {
    let mut options = options();
    options.files = vec![PathBuf::from(texts[0].0)];
    load_from(&options, &files(texts))
}

/// Loads files on top of one another.
pub fn load_over(texts: &[(&str, &str)]) -> Result<(Project, Vec<Warning>), Errors> {
    let mut options = options();
    options.files = texts.iter().map(|(name, _)| PathBuf::from(name)).collect();
    load_from(&options, &files(texts))
}

/// One line for each error.
pub fn lines(result: Result<(Project, Vec<Warning>), Errors>) -> Vec<String> {
    match result {
        Ok((project, _)) => panic!("accepted:\n{}", project.to_yaml()),
        Err(errors) => errors.lines().collect(),
    }
}

/// Loads and converts.
pub fn stack(text: &str) -> Result<Stack, Errors> {
    convert(&load(text)?.0)
}

/// The stack, or a panic with the errors.
pub fn good(text: &str) -> Stack {
    stack(text).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The errors, or a panic.
pub fn bad(text: &str) -> Vec<String> {
    match stack(text) {
        Ok(stack) => panic!("accepted: {stack:?}"),
        Err(errors) => errors.lines().collect(),
    }
}
