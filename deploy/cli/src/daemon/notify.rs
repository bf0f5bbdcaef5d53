//! Tells a service manager that listens at `NOTIFY_SOCKET` what state the daemon is in (sd_notify(3)). Without one it
//! does nothing.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The daemon answers.
pub fn ready() {
    tell("READY=1\n");
}

/// The daemon is on its way out.
pub fn stopping() {
    tell("STOPPING=1\n");
}

fn tell(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let sent = (|| {
        let bytes = path.as_encoded_bytes();
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
    })();
    if let Err(error) = sent {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}
