//! Lists as tables, JSON arrays or YAML: rows in, text out. Pure.

use comfy_table::{Table, presets};
use serde::Serialize;

use super::failure::Failure;

/// How a list or an object is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            _ if text.contains("{{") => {
                Err("Go templates are not supported; use `--format json` and a tool such as jq".to_owned())
            }
            _ => Err("use table, json or yaml".to_owned()),
        }
    }
}

/// One line of a list.
pub trait Row: Serialize {
    /// Column heads, upper case.
    const HEADS: &'static [&'static str];

    /// One cell for each head.
    fn cells(&self, no_trunc: bool) -> Vec<String>;

    /// What `-q` prints.
    fn key(&self, no_trunc: bool) -> String;
}

/// How a list is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// Format.
    pub format: Format,
    /// Only the keys.
    pub quiet: bool,
    /// Cut nothing.
    pub no_trunc: bool,
}

/// The text of a list, with its last newline; empty for an empty `-q` list.
pub fn list<R: Row>(rows: &[R], look: Look) -> Result<String, Failure> {
    if look.quiet {
        return Ok(rows.iter().map(|row| row.key(look.no_trunc) + "\n").collect());
    }
    match look.format {
        Format::Table => {
            let cells = rows.iter().map(|row| row.cells(look.no_trunc));
            Ok(columns(R::HEADS, cells))
        }
        Format::Json | Format::Yaml => data(&rows, look.format),
    }
}

/// A value as JSON (indented) or YAML. `Table` falls back to JSON, as `inspect` does.
pub fn data<T: Serialize + ?Sized>(value: &T, format: Format) -> Result<String, Failure> {
    let bad = |error: &dyn std::error::Error| Failure::new(format!("cannot write the answer: {error}"));
    match format {
        Format::Yaml => serde_yaml::to_string(value).map_err(|error| bad(&error)),
        Format::Json | Format::Table => {
            let mut text = serde_json::to_string_pretty(value).map_err(|error| bad(&error))?;
            text.push('\n');
            Ok(text)
        }
    }
}

/// Left-aligned columns, three spaces apart, no blanks at line ends.
pub fn columns(heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(heads.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// The first 12 characters of an id, or all of it.
pub fn short_id(id: &str, no_trunc: bool) -> String {
    if no_trunc { id.to_owned() } else { id.chars().take(12).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Pair {
        id: &'static str,
        name: &'static str,
    }

    impl Row for Pair {
        const HEADS: &'static [&'static str] = &["ID", "NAME"];
        fn cells(&self, no_trunc: bool) -> Vec<String> {
            vec![short_id(self.id, no_trunc), self.name.to_owned()]
        }
        fn key(&self, no_trunc: bool) -> String {
            short_id(self.id, no_trunc)
        }
    }

    const PAIRS: [Pair; 2] = [Pair { id: "0123456789abcdef", name: "web" }, Pair { id: "x", name: "" }];

    #[test]
    fn a_list_is_a_table_an_array_or_keys() {
        let look = Look::default();
        insta::assert_snapshot!(list(&PAIRS, look).expect("renders"), @r"
        ID             NAME
        0123456789ab   web
        x
        ");
        let json = list(&PAIRS, Look { format: Format::Json, ..look }).expect("renders");
        assert!(json.starts_with("[\n  {\n    \"id\": \"0123456789abcdef\""), "{json}");
        assert_eq!(list(&PAIRS, Look { quiet: true, ..look }).expect("renders"), "0123456789ab\nx\n");
        assert_eq!(list::<Pair>(&[], look).expect("renders"), "ID   NAME\n");
        assert_eq!(list::<Pair>(&[], Look { format: Format::Json, ..look }).expect("renders"), "[]\n");
    }

    #[test]
    fn a_go_template_is_refused_with_a_way_out() {
        let error = "{{.ID}}".parse::<Format>().expect_err("refused");
        assert!(error.contains("--format json"), "{error}");
    }
}
