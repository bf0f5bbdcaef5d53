//! How networks, volumes, configs and secrets are removed.

use berth_proto::object::{ObjectKind, ObjectRef};
use berth_proto::pb;
use berth_proto::pb::control_server::Control;

use super::answer::{Answer, By, declined, nothing};
use crate::site::Site;

/// Removes an object that nothing uses; `version` is the one it has to have, 0 for any.
pub async fn remove(site: &Site, by: &By, kind: ObjectKind, id: ObjectRef, version: u64) -> Answer {
    let ids = vec![id.id_text()];
    let request = pb::ObjectRemoveRequest { kind: pb::ObjectKind::from(kind).into(), ids, version };
    let current = || Some(site.manager.hub.snapshot().version(id)).filter(|version| *version != 0);
    site.control.object_remove(by.asks(request)).await.map_err(|status| declined(status, current))?;
    Ok(nothing())
}
