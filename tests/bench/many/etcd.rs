//! Debian's `etcd-server` as three members on loopback, with its defaults.

use std::process::{Child, Command, Stdio};

use berth_tests::wait_for;
use prost::Message;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// `etcdserverpb.PutRequest`, the fields that are used.
#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `etcdserverpb.PutResponse`, of which nothing is read.
#[derive(Clone, PartialEq, Message)]
struct PutResponse {}

/// Puts one key.
pub async fn put(channel: Channel, key: String, value: Vec<u8>) -> Result<(), Status> {
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
    let request = Request::new(PutRequest { key: key.into_bytes(), value });
    client.unary(request, path, ProstCodec::<PutRequest, PutResponse>::default()).await.map(|_| ())
}

/// Three members. Dropping them ends them.
pub struct Etcd {
    members: Vec<Child>,
    runtime: tokio::runtime::Runtime,
    _data: tempfile::TempDir,
}

fn port(member: usize, peer: bool) -> usize {
    12379 + member * 10 + usize::from(peer)
}

impl Etcd {
    /// Starts the members and waits until each answers.
    pub fn start() -> Self {
        // Beside the managers' data: the same disk.
        let dir = berth_tests::image::run_dir();
        std::fs::create_dir_all(&dir).expect("the run's directory can be made");
        let data = tempfile::tempdir_in(dir).expect("a directory for etcd");
        let url = |member, peer| format!("http://127.0.0.1:{}", port(member, peer));
        let everybody: Vec<String> = (0..3).map(|member| format!("m{member}={}", url(member, true))).collect();
        let members = (0..3).map(|member| {
            let mut command = Command::new("etcd");
            command.args(["--name", &format!("m{member}"), "--initial-cluster", &everybody.join(",")]);
            command.arg("--data-dir").arg(data.path().join(member.to_string()));
            for (flag, peer) in [("client", false), ("peer", true)] {
                command.args([format!("--listen-{flag}-urls"), url(member, peer)]);
            }
            command.args(["--advertise-client-urls", &url(member, false)]);
            command.args(["--initial-advertise-peer-urls", &url(member, true)]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().expect("Debian's etcd-server is installed")
        });
        let etcd = Self { members: members.collect(), runtime: crate::wire::runtime(), _data: data };
        for member in 0..3 {
            wait_for("etcd to answer", || {
                etcd.runtime.block_on(async { put(etcd.client(member), "up".to_owned(), vec![1]).await })
            });
        }
        etcd
    }

    /// The members' processes.
    pub fn pids(&self) -> Vec<i32> {
        self.members.iter().map(|member| member.id().cast_signed()).collect()
    }

    /// A channel to one member, to be made within a tokio runtime; it connects when it is used.
    pub fn client(&self, member: usize) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", port(member, false)));
        endpoint.expect("an address").connect_lazy()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            // It may have ended by itself; either way it is reaped.
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}
