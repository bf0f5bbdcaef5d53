//! Endpoints and published ports.

use crate::convert::{ConvertError, enum_of, enums, list, parse_opt, port, text_opt, to_list};
use crate::pb;
use crate::spec::{EndpointMode, EndpointSpec, PortConfig, Protocol, PublishMode};

enums! {
    EndpointMode = pb::endpoint_spec::Mode { Vip, Dnsrr }
    Protocol = pb::port_config::Protocol { Tcp, Udp }
    PublishMode = pb::port_config::PublishMode { Ingress, Host }
}

impl From<&EndpointSpec> for pb::EndpointSpec {
    fn from(endpoint: &EndpointSpec) -> Self {
        Self { mode: pb::endpoint_spec::Mode::from(endpoint.mode).into(), ports: to_list(&endpoint.ports) }
    }
}

impl TryFrom<pb::EndpointSpec> for EndpointSpec {
    type Error = ConvertError;

    fn try_from(endpoint: pb::EndpointSpec) -> Result<Self, ConvertError> {
        let mode = enum_of::<pb::endpoint_spec::Mode>(endpoint.mode, "mode")?.into();
        Ok(Self { mode, ports: list(endpoint.ports, "ports")? })
    }
}

impl From<&PortConfig> for pb::PortConfig {
    fn from(port: &PortConfig) -> Self {
        Self {
            name: port.name.clone(),
            protocol: pb::port_config::Protocol::from(port.protocol).into(),
            target: port.target.into(),
            published: port.published.map(Into::into),
            mode: pb::port_config::PublishMode::from(port.mode).into(),
            host_ip: text_opt(port.host_ip.as_ref()),
        }
    }
}

impl TryFrom<pb::PortConfig> for PortConfig {
    type Error = ConvertError;

    fn try_from(message: pb::PortConfig) -> Result<Self, ConvertError> {
        Ok(Self {
            name: message.name,
            protocol: enum_of::<pb::port_config::Protocol>(message.protocol, "protocol")?.into(),
            target: port(message.target, "target")?,
            published: message.published.map(|number| port(number, "published")).transpose()?,
            mode: enum_of::<pb::port_config::PublishMode>(message.mode, "mode")?.into(),
            host_ip: parse_opt(message.host_ip, "host_ip")?,
        })
    }
}
