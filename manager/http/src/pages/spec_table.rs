//! A spec as a table: a line for each field that says something. Pure.

use berth_proto::spec::ServiceSpec;
use serde_json::Value;

/// A field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its path, with dots and indices.
    pub path: String,
    /// What it is set to.
    pub value: String,
}

/// The fields of a spec, in its order; those that are empty or off are left out.
pub fn lines(spec: &ServiceSpec) -> Vec<Line> {
    let mut lines = Vec::new();
    match serde_json::to_value(spec) {
        Ok(value) => flatten(&value, &mut String::new(), &mut lines),
        Err(error) => lines.push(Line { path: "spec".to_owned(), value: error.to_string() }),
    }
    lines
}

fn flatten(value: &Value, path: &mut String, lines: &mut Vec<Line>) {
    let mut line = |value: String| lines.push(Line { path: path.clone(), value });
    match value {
        Value::Null | Value::Bool(false) => {}
        Value::Bool(true) => line("yes".to_owned()),
        Value::String(text) if text.is_empty() => {}
        Value::String(text) => line(text.clone()),
        Value::Number(number) => line(number.to_string()),
        // A command and the like reads better in one line.
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_string) => {
            let words: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            line(words.join(" "));
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                within(path, &format!("[{index}]"), |path| flatten(item, path, lines));
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                let step = if path.is_empty() { name.clone() } else { format!(".{name}") };
                within(path, &step, |path| flatten(field, path, lines));
            }
        }
    }
}

fn within(path: &mut String, step: &str, then: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push_str(step);
    then(path);
    path.truncate(length);
}

#[cfg(test)]
mod tests {
    use berth_proto::spec::ContainerSpec;

    use super::*;

    #[test]
    fn fields_that_say_nothing_are_left_out() {
        let container = ContainerSpec {
            image: "nginx:1".into(),
            command: Some(vec!["sh".into(), "-c".into(), "true".into()]),
            env: [("A".to_owned(), "1".to_owned())].into(),
            ..ContainerSpec::default()
        };
        let spec = ServiceSpec::new("web".parse().expect("a name"), container);
        let lines = lines(&spec);
        let value = |path: &str| lines.iter().find(|line| line.path == path).map(|line| line.value.as_str());
        assert_eq!(value("name"), Some("web"));
        assert_eq!(value("task.container.command"), Some("sh -c true"));
        assert_eq!(value("task.container.env.A"), Some("1"));
        assert_eq!(value("mode.replicated.replicas"), Some("1"));
        assert_eq!((value("stack"), value("task.container.read_only")), (None, None));
    }
}
