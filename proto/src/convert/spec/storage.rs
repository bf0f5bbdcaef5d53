//! Volumes, configs, secrets.

use crate::convert::{ConvertError, enum_of, from_map, parse, parse_opt, text_opt, to_map};
use crate::pb;
use crate::spec::{ConfigSpec, SecretBytes, SecretSpec, TemplateDriver, VolumeSpec};

impl From<&VolumeSpec> for pb::VolumeSpec {
    fn from(spec: &VolumeSpec) -> Self {
        Self {
            name: spec.name.to_string(),
            stack: text_opt(spec.stack.as_ref()),
            labels: to_map(&spec.labels),
            driver: spec.driver.clone(),
            options: to_map(&spec.options),
        }
    }
}

impl TryFrom<pb::VolumeSpec> for VolumeSpec {
    type Error = ConvertError;

    fn try_from(spec: pb::VolumeSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            name: parse(&spec.name, "name")?,
            stack: parse_opt(spec.stack, "stack")?,
            labels: from_map(spec.labels),
            driver: spec.driver,
            options: from_map(spec.options),
        })
    }
}

impl From<&ConfigSpec> for pb::ConfigSpec {
    fn from(spec: &ConfigSpec) -> Self {
        Self {
            name: spec.name.to_string(),
            stack: text_opt(spec.stack.as_ref()),
            labels: to_map(&spec.labels),
            data: spec.data.clone(),
            template_driver: pb::TemplateDriver::from(spec.template_driver).into(),
        }
    }
}

impl TryFrom<pb::ConfigSpec> for ConfigSpec {
    type Error = ConvertError;

    fn try_from(spec: pb::ConfigSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            name: parse(&spec.name, "name")?,
            stack: parse_opt(spec.stack, "stack")?,
            labels: from_map(spec.labels),
            template_driver: enum_of::<pb::TemplateDriver>(spec.template_driver, "template_driver")?.into(),
            data: spec.data,
        })
    }
}

impl From<&SecretSpec> for pb::SecretSpec {
    fn from(spec: &SecretSpec) -> Self {
        Self {
            name: spec.name.to_string(),
            stack: text_opt(spec.stack.as_ref()),
            labels: to_map(&spec.labels),
            data: spec.data.0.clone(),
            template_driver: pb::TemplateDriver::from(spec.template_driver).into(),
        }
    }
}

impl TryFrom<pb::SecretSpec> for SecretSpec {
    type Error = ConvertError;

    fn try_from(spec: pb::SecretSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            name: parse(&spec.name, "name")?,
            stack: parse_opt(spec.stack, "stack")?,
            labels: from_map(spec.labels),
            template_driver: enum_of::<pb::TemplateDriver>(spec.template_driver, "template_driver")?.into(),
            data: SecretBytes(spec.data),
        })
    }
}

impl From<Option<TemplateDriver>> for pb::TemplateDriver {
    fn from(driver: Option<TemplateDriver>) -> Self {
        match driver {
            None => Self::TemplateNone,
            Some(TemplateDriver::Golang) => Self::Golang,
        }
    }
}

impl From<pb::TemplateDriver> for Option<TemplateDriver> {
    fn from(driver: pb::TemplateDriver) -> Self {
        match driver {
            pb::TemplateDriver::TemplateNone => None,
            pb::TemplateDriver::Golang => Some(TemplateDriver::Golang),
        }
    }
}
