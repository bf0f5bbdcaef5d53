//! Volumes, configs, secrets.

use super::Checker;
use crate::spec::{ConfigSpec, SecretSpec, TemplateDriver, VolumeSpec};
use crate::template::{Scope, Template, TemplateError};

/// Most bytes of a config (Docker Swarm's figure).
pub const MAX_CONFIG: usize = 1000 * 1024;
/// Most bytes of a secret (Docker Swarm's figure).
pub const MAX_SECRET: usize = 500 * 1024;

pub(super) fn check_volume(spec: &VolumeSpec, check: &mut Checker) {
    check.labels("labels", &spec.labels);
    check.rule("driver", spec.driver == "local", || {
        format!("volume driver {:?} is not supported, only local is", spec.driver)
    });
    for option in spec.options.keys() {
        check.rule("options", ["type", "o", "device"].contains(&option.as_str()), || {
            format!("{option:?} is not an option of the local driver: type, o and device are")
        });
    }
    let device = spec.options.contains_key("device");
    let typed = spec.options.contains_key("type") || spec.options.contains_key("o");
    check.rule("options", !device || typed, || "device needs type or o beside it".to_owned());
}

pub(super) fn check_config(spec: &ConfigSpec, check: &mut Checker) {
    check.labels("labels", &spec.labels);
    size(spec.data.len(), MAX_CONFIG, check);
    placeholders(spec.template_driver, &spec.data, check);
}

pub(super) fn check_secret(spec: &SecretSpec, check: &mut Checker) {
    check.labels("labels", &spec.labels);
    size(spec.data.0.len(), MAX_SECRET, check);
    placeholders(spec.template_driver, &spec.data.0, check);
}

fn placeholders(driver: Option<TemplateDriver>, data: &[u8], check: &mut Checker) {
    if driver.is_none() {
        return;
    }
    // The error names a placeholder, which is no secret; the text around it is not shown.
    match std::str::from_utf8(data).map(|text| Template::parse(text, Scope::File)) {
        Ok(Ok(_)) => {}
        Ok(Err(TemplateError::Unclosed { .. })) => check.rule("data", false, || "has '{{' without '}}'".to_owned()),
        Ok(Err(error)) => check.rule("data", false, || error.to_string()),
        Err(_) => check.rule("data", false, || "is not UTF-8 text, which a template has to be".to_owned()),
    }
}

fn size(bytes: usize, limit: usize, check: &mut Checker) {
    check.rule("data", bytes <= limit, || format!("has {bytes} bytes, at most {limit} are allowed"));
}
