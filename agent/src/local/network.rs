//! How other nodes are reached, tried out for who asks.

use berth_proto::pb;
use berth_proto::pb::network_check_response::Part;
use futures::StreamExt;
use tonic::Status;

use super::LocalService;
use super::service::Answers;
use crate::probe::{Asked, Here};

/// The most nodes that one call names.
const MAX_PEERS: usize = 10_000;

/// Looks at the nodes named, or at all. Looking ends with the stream, or with the agent.
pub async fn check(
    service: &LocalService,
    request: pb::NetworkCheckRequest,
) -> Result<Answers<pb::NetworkCheckResponse>, Status> {
    let own = service.node.to_string();
    if !request.node_id.is_empty() && request.node_id != own {
        return Err(Status::invalid_argument(format!("this is node {own}, not {}", request.node_id)));
    }
    if request.peers.len() > MAX_PEERS {
        return Err(Status::invalid_argument(format!("at most {MAX_PEERS} nodes at once")));
    }
    let asked = request.peers.into_iter().filter(|peer| peer.node_id != own).map(|peer| {
        let node = peer.node_id.parse().map_err(|error| Status::invalid_argument(format!("node: {error}")))?;
        Ok(Asked { node, control: peer.address })
    });
    let asked = asked.collect::<Result<Vec<_>, Status>>()?;
    let (here, looks) = service.prober.check(asked, request.thorough).await;
    let first = pb::NetworkCheckResponse { part: Some(Part::Here(self::here(service, &here))) };
    let looks = looks.map(|look| Ok(pb::NetworkCheckResponse { part: Some(Part::Look(pb::NetworkLook::from(&look))) }));
    let all = futures::stream::once(std::future::ready(Ok(first))).chain(looks);
    Ok(all.take_until(service.shutdown.clone().cancelled_owned()).boxed())
}

fn here(service: &LocalService, here: &Here) -> pb::NetworkHere {
    let mended = service.network.mended();
    pb::NetworkHere {
        node_id: service.node.to_string(),
        mended: mended.count,
        last_mended: mended.last.into(),
        ..pb::NetworkHere::from(here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Look;
    use berth_proto::id::NodeId;

    #[test]
    fn what_was_seen_survives_the_wire() {
        let mut look = Look::at(NodeId::from_random(3));
        assert_eq!(Look::try_from(pb::NetworkLook::from(&look)).as_ref(), Ok(&look));
        look.address = Some([192, 0, 2, 1].into());
        (look.small, look.large, look.largest) = (crate::probe::Seen::Answered, crate::probe::Seen::Lost, 1400);
        (look.clock, look.is_heard, look.path) = (-5, true, crate::probe::Path::Straight);
        assert_eq!(Look::try_from(pb::NetworkLook::from(&look)).as_ref(), Ok(&look));
        let here = Here { address: look.address, link: "eth0".into(), link_mtu: 1500, ..Here::default() };
        assert_eq!(Here::try_from(pb::NetworkHere::from(&here)).as_ref(), Ok(&here));
        let bad = pb::NetworkLook { address: "x".into(), ..pb::NetworkLook::from(&look) };
        assert!(Look::try_from(bad).is_err());
    }
}
