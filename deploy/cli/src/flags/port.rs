//! `--publish`: `[ip:]published:target[/protocol]`, ranges, and the long form `published=…,target=…`. Pure.

use std::net::IpAddr;

use berth_proto::spec::{PortConfig, Protocol, PublishMode};

/// What one `--publish` says; a range makes several ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published(pub Vec<PortConfig>);

/// Reads one value of `--publish`.
pub fn parse_publish(text: &str) -> Result<Published, String> {
    if text.contains('=') { long(text) } else { short(text) }.map(Published)
}

/// Reads what `--publish-rm` names: a target port with an optional protocol.
pub fn parse_target(text: &str) -> Result<(u16, Protocol), String> {
    let (port, protocol) = split_protocol(text)?;
    Ok((parse_port(port)?, protocol))
}

fn long(text: &str) -> Result<Vec<PortConfig>, String> {
    let mut target = None;
    let mut port = PortConfig {
        name: None,
        protocol: Protocol::Tcp,
        target: 0,
        published: None,
        mode: PublishMode::Ingress,
        host_ip: None,
    };
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("{part:?} is not of the form key=value"))?;
        match key {
            "target" => target = Some(parse_port(value)?),
            "published" => port.published = Some(parse_port(value)?),
            "protocol" => port.protocol = parse_protocol(value)?,
            "mode" if value == "ingress" => port.mode = PublishMode::Ingress,
            "mode" if value == "host" => port.mode = PublishMode::Host,
            "mode" => return Err(format!("mode {value:?} is not ingress or host")),
            "name" => port.name = Some(value.to_owned()),
            _ => return Err(format!("unknown part {key:?}; use target, published, protocol, mode, name")),
        }
    }
    port.target = target.ok_or("target=… is missing")?;
    Ok(vec![port])
}

fn short(text: &str) -> Result<Vec<PortConfig>, String> {
    let (ports, protocol) = split_protocol(text)?;
    let (rest, target) = ports.rsplit_once(':').unwrap_or(("", ports));
    let (host_ip, published) = match rest.rsplit_once(':') {
        Some((ip, published)) => {
            let bare = ip.trim_start_matches('[').trim_end_matches(']');
            let ip: IpAddr = bare.parse().map_err(|_| format!("{ip:?} is not an address"))?;
            (Some(ip), published)
        }
        None => (None, rest),
    };
    let targets = parse_range(target)?;
    let outside = if published.is_empty() { None } else { Some(parse_range(published)?) };
    if outside.as_ref().is_some_and(|outside| outside.len() != targets.len()) {
        return Err(format!("{published} and {target} are ranges of different length"));
    }
    let port = |(at, target): (usize, u16)| PortConfig {
        name: None,
        protocol,
        target,
        published: outside.as_ref().map(|outside| outside[at]),
        mode: PublishMode::Ingress,
        host_ip,
    };
    Ok(targets.into_iter().enumerate().map(port).collect())
}

fn split_protocol(text: &str) -> Result<(&str, Protocol), String> {
    match text.split_once('/') {
        Some((ports, protocol)) => Ok((ports, parse_protocol(protocol)?)),
        None => Ok((text, Protocol::Tcp)),
    }
}

fn parse_protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Err("protocol sctp is not supported yet".to_owned()),
        _ => Err(format!("protocol {text:?} is not tcp or udp")),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| format!("{text:?} is not a port between 1 and 65535"))
}

fn parse_range(text: &str) -> Result<Vec<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (parse_port(first)?, parse_port(last)?);
    if last < first {
        return Err(format!("port range {text} runs backwards"));
    }
    Ok((first..=last).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<Vec<String>, String> {
        let Published(ports) = parse_publish(text)?;
        let show = |port: PortConfig| {
            let ip = port.host_ip.map(|ip| format!("{ip} ")).unwrap_or_default();
            format!("{ip}{:?}->{}/{:?}/{:?}", port.published, port.target, port.protocol, port.mode)
        };
        Ok(ports.into_iter().map(show).collect())
    }

    #[test]
    fn ports_are_read_in_every_form() {
        for (text, ports) in [
            ("8080:80", &["Some(8080)->80/Tcp/Ingress"][..]),
            ("80", &["None->80/Tcp/Ingress"]),
            ("53:53/udp", &["Some(53)->53/Udp/Ingress"]),
            ("127.0.0.1:80:8080", &["127.0.0.1 Some(80)->8080/Tcp/Ingress"]),
            ("[::1]:80:8080", &["::1 Some(80)->8080/Tcp/Ingress"]),
            ("80-81:90-91", &["Some(80)->90/Tcp/Ingress", "Some(81)->91/Tcp/Ingress"]),
            ("published=80,target=8080,protocol=udp,mode=host", &["Some(80)->8080/Udp/Host"]),
        ] {
            assert_eq!(shown(text).expect(text), ports, "{text}");
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in ["", "0:80", "80:70000", "80-81:90", "81-80:81-80", "x:80:80", "published=80", "80/xyz", "a=b"] {
            assert!(parse_publish(text).is_err(), "{text}");
        }
    }
}
