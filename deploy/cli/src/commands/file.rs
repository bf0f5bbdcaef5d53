//! What configs and secrets have in common: a name, a content, a list.

use std::io::Read;

use crate::flags::common::ListFlags;
use crate::ui::{Failure, OrFail, Outcome, listing, terminal};
use crate::view::resource::FileRow;

/// Prints the rows that match the filters, by name.
pub fn list(mut rows: Vec<FileRow>, list: &ListFlags) -> Outcome {
    let filters = list.filters(&["id", "name", "label", "stack"])?;
    rows.retain(|row| {
        filters.allow("id", |wanted| row.id.starts_with(wanted))
            && filters.allow("name", |wanted| row.name.starts_with(wanted))
            && filters.allow("stack", |wanted| row.stack.as_deref() == Some(wanted))
            && filters.allow_labels("label", &row.labels)
    });
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    terminal::done(listing::list(&rows, list.look())?)
}

/// The content of a file, or of stdin for `-`.
pub fn read_content(file: &str) -> Result<Vec<u8>, Failure> {
    if file != "-" {
        return std::fs::read(file).or_fail(|| format!("cannot read {file}"));
    }
    let mut content = Vec::new();
    std::io::stdin().lock().read_to_end(&mut content).or_fail(|| "cannot read stdin".to_owned())?;
    Ok(content)
}
