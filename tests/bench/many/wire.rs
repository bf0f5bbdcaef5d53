//! A client of a host's daemon that needs no process a call: the daemon's socket, through the host's root directory.

use std::path::PathBuf;

use berth_proto::pb;
use berth_proto::pb::control_client::ControlClient;
use berth_tests::Host;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

/// The `Control` service of a host's daemon.
pub fn control(host: &Host) -> ControlClient<Channel> {
    let socket = PathBuf::from(format!("/proc/{}/root/run/berth/berth.sock", host.namespace_pid()));
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    ControlClient::new(Endpoint::from_static("http://berth.sock").connect_with_connector_lazy(connector))
}

/// One small write: a config of 16 bytes.
pub async fn write(client: &mut ControlClient<Channel>, name: String) -> Result<(), Status> {
    let spec = pb::ConfigSpec { name, data: vec![7; 16].into(), ..pb::ConfigSpec::default() };
    client.config_create(pb::ConfigCreateRequest { spec: Some(spec) }).await.map(|_| ())
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a tokio runtime")
}
