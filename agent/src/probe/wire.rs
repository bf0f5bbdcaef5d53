//! Looks on the wire, and back. Pure.

use std::net::IpAddr;
use std::time::Duration;

use berth_proto::convert::ConvertError;
use berth_proto::pb;
use berth_proto::pb::network_look::Seen as Wire;

use super::look::{Here, Look, Path, Seen};

impl From<&Here> for pb::NetworkHere {
    fn from(here: &Here) -> Self {
        Self {
            node_id: String::new(),
            address: text(here.address),
            entrance: text(here.entrance),
            link: here.link.clone(),
            link_mtu: here.link_mtu,
            tunnel_mtu: here.tunnel_mtu,
            mended: 0,
            last_mended: Vec::new(),
        }
    }
}

impl TryFrom<pb::NetworkHere> for Here {
    type Error = ConvertError;

    fn try_from(here: pb::NetworkHere) -> Result<Self, ConvertError> {
        Ok(Self {
            address: address(&here.address, "here.address")?,
            entrance: address(&here.entrance, "here.entrance")?,
            link: here.link,
            link_mtu: here.link_mtu,
            tunnel_mtu: here.tunnel_mtu,
        })
    }
}

impl From<&Look> for pb::NetworkLook {
    fn from(look: &Look) -> Self {
        Self {
            node_id: look.node.to_string(),
            address: text(look.address),
            entrance: text(look.entrance),
            small: seen(look.small).into(),
            large: seen(look.large).into(),
            echo: seen(look.echo).into(),
            control: seen(look.control).into(),
            largest: look.largest,
            round_trip: u64::try_from(look.round_trip.as_nanos()).unwrap_or(u64::MAX),
            clock: look.clock,
            heard: look.is_heard,
            straight: look.path == Path::Straight,
        }
    }
}

impl TryFrom<pb::NetworkLook> for Look {
    type Error = ConvertError;

    fn try_from(look: pb::NetworkLook) -> Result<Self, ConvertError> {
        let read = |seen: Wire| match seen {
            Wire::Untried => Seen::Untried,
            Wire::Answered => Seen::Answered,
            Wire::Lost => Seen::Lost,
        };
        let node = look.node_id.parse();
        Ok(Self {
            node: node.map_err(|error| bad("look.node_id", format!("{error}")))?,
            small: read(look.small()),
            large: read(look.large()),
            echo: read(look.echo()),
            control: read(look.control()),
            address: address(&look.address, "look.address")?,
            entrance: address(&look.entrance, "look.entrance")?,
            largest: look.largest,
            round_trip: Duration::from_nanos(look.round_trip),
            clock: look.clock,
            is_heard: look.heard,
            path: if look.straight { Path::Straight } else { Path::Tunnel },
        })
    }
}

fn seen(seen: Seen) -> Wire {
    match seen {
        Seen::Untried => Wire::Untried,
        Seen::Answered => Wire::Answered,
        Seen::Lost => Wire::Lost,
    }
}

fn text(address: Option<IpAddr>) -> String {
    address.map(|address| address.to_string()).unwrap_or_default()
}

fn address(text: &str, path: &str) -> Result<Option<IpAddr>, ConvertError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| bad(path, format!("{text:?} is no IP address")))
}

fn bad(path: &str, problem: String) -> ConvertError {
    ConvertError { path: path.to_owned(), problem }
}
