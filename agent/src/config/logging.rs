//! Log driver and options of a service, as the runtime's own log files take them.
//!
//! Owns which drivers and options there are.

use berth_proto::spec::LogSpec;

use super::ConfigError;
use crate::runtime::LogConfig;

/// The log settings in force; pushes what is wrong onto `errors`.
pub fn resolve(spec: &LogSpec, errors: &mut Vec<ConfigError>) -> LogConfig {
    let mut config = LogConfig::default();
    match spec.driver.as_str() {
        "" | "local" | "json-file" => {}
        "none" => config.disabled = true,
        other => {
            let reason = format!("{other:?} is not supported; there are local, json-file and none");
            errors.push(ConfigError::new("logging.driver", reason));
        }
    }
    for (key, value) in &spec.options {
        let field = || format!("logging.options.{key}");
        match key.as_str() {
            "max-size" => match parse_size(value) {
                Some(size) if size > 0 => config.max_size = size,
                _ => errors.push(ConfigError::new(field(), format!("{value:?} is no size; use e.g. 10m"))),
            },
            "max-file" => match value.parse() {
                Ok(count) if count > 0 => config.max_file = count,
                _ => errors.push(ConfigError::new(field(), format!("{value:?} is no count of 1 or more"))),
            },
            _ => errors.push(ConfigError::new(field(), "is not supported; there are max-size and max-file")),
        }
    }
    config
}

/// `10m`, `1g`, `500k`, `1024`, `5mb`; powers of 1024, as Docker reads it.
fn parse_size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_and_options_are_read_or_refused() {
        let spec = |driver: &str, options: &[(&str, &str)]| LogSpec {
            driver: driver.into(),
            options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        };
        let mut errors = Vec::new();
        let config = resolve(&spec("json-file", &[("max-size", "10m"), ("max-file", "3")]), &mut errors);
        assert_eq!((config.max_size, config.max_file, errors.len()), (10 << 20, 3, 0));
        assert!(resolve(&spec("none", &[]), &mut errors).disabled && errors.is_empty());
        resolve(&spec("syslog", &[("max-size", "big"), ("tag", "x")]), &mut errors);
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["logging.driver", "logging.options.max-size", "logging.options.tag"]);
    }
}
