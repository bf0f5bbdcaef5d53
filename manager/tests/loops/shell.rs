//! The loops on a real log on disk: a service that is written is placed, and an overtaken decision is taken again.

use std::sync::Arc;
use std::time::Duration;

use berth_manager::loops::{self, LoopMetrics, ReconcilerConfig};
use berth_manager::raft::{DataDir, PlainConnect, RaftNode, RaftSettings};
use berth_manager::store::{Snapshot, Transaction};
use berth_proto::id::{NodeId, ServiceId};
use berth_proto::object::{Meta, Node, NodeStatus, Service};
use berth_proto::spec::{NodeSpec, ServiceMode};
use berth_proto::state::{NodeState, TaskState};
use berth_proto::time::Timestamp;
use berth_trace::Tracer;
use tokio_util::sync::CancellationToken;

struct Cluster {
    raft: RaftNode,
    stop: CancellationToken,
    loops: tokio::task::JoinHandle<Result<(), loops::LoopsError>>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let raft = RaftNode::start(DataDir::open(dir.path()).unwrap(), RaftSettings::default(), Arc::new(PlainConnect))
            .await
            .unwrap();
        let stop = CancellationToken::new();
        let config = ReconcilerConfig::default();
        let (hub, proposer, metrics) = (raft.hub().clone(), raft.proposer().clone(), LoopMetrics::default());
        let loops = tokio::spawn(loops::run(hub, proposer, config, Tracer::off(), metrics, stop.clone()));
        let cluster = Self { raft, stop, loops, _dir: dir };
        let node = Node {
            id: NodeId::from_random(1),
            meta: Meta::default(),
            spec: NodeSpec::default(),
            description: None,
            status: NodeStatus { state: NodeState::Ready, ..NodeStatus::default() },
            manager: None,
            ingress: Vec::new(),
        };
        cluster.write(|tx| tx.create(node.clone())).await;
        cluster
    }

    async fn write(&self, fill: impl Fn(&mut Transaction)) {
        let mut tx = Transaction::new(Timestamp::from(std::time::SystemTime::now()), "test");
        fill(&mut tx);
        self.raft.proposer().propose(tx).await.unwrap();
    }

    async fn create(&self, n: u128, replicas: u64) -> ServiceId {
        let id = ServiceId::from_random(n);
        let service = Service::new(id, crate::sim::spec::service(&format!("s{n}"), "run", replicas));
        self.write(|tx| tx.create(service.clone())).await;
        id
    }

    /// Waits until `done`; panics with the last state seen.
    async fn wait_for(&self, what: &str, done: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let (mut state, mut commits) = self.raft.hub().subscribe();
        let all = async {
            while !done(&state) {
                let _ = commits.next().await;
                state = self.raft.hub().snapshot();
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(60), all).await;
        let tasks: Vec<_> = state.services().flat_map(|s| state.tasks_of_service(s.id)).collect();
        assert!(in_time.is_ok(), "{what}: {tasks:?}");
        state
    }

    async fn stop(self) {
        self.stop.cancel();
        self.loops.await.unwrap().unwrap();
        self.raft.stop().await;
    }
}

fn assigned(state: &Snapshot, id: ServiceId) -> usize {
    state.tasks_of_service(id).filter(|task| task.status.state == TaskState::Assigned).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_placed_scaled_and_removed_on_a_real_log() {
    let cluster = Cluster::start().await;
    let web = cluster.create(7, 100).await;
    cluster.wait_for("placement", |state| assigned(state, web) == 100).await;
    let node = NodeId::from_random(1);
    let state = cluster.raft.hub().snapshot();
    assert_eq!(state.tasks_on_node(node).count(), 100);

    let scaled = |replicas| {
        let mut service = Service::clone(cluster.raft.hub().snapshot().service(web).unwrap());
        Arc::make_mut(&mut service.spec).mode = ServiceMode::Replicated { replicas };
        service
    };
    let to = scaled(130);
    cluster.write(|tx| tx.update(to.clone())).await;
    cluster.wait_for("scale up", |state| assigned(state, web) == 130).await;

    let mut gone = scaled(130);
    gone.pending_delete = true;
    cluster.write(|tx| tx.update(gone.clone())).await;
    let down = |state: &Snapshot| Node {
        status: NodeStatus { state: NodeState::Down, ..NodeStatus::default() },
        ..Node::clone(state.node(node).unwrap())
    };
    let to = down(&cluster.raft.hub().snapshot());
    cluster.write(|tx| tx.update(to.clone())).await;
    cluster.wait_for("removal", |state| state.service(web).is_none()).await;
    cluster.stop().await;
}

/// Writers that touch the service all the time overtake the loops again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_in_between_do_not_keep_the_loops_from_their_work() {
    let cluster = Cluster::start().await;
    let web = cluster.create(7, 1).await;
    for replicas in 2..60 {
        let outcome = cluster
            .raft
            .proposer()
            .write(|state| -> Result<_, berth_manager::raft::ProposeError> {
                let mut service = Service::clone(state.service(web).unwrap());
                Arc::make_mut(&mut service.spec).mode = ServiceMode::Replicated { replicas };
                let mut tx = Transaction::new(Timestamp::from(std::time::SystemTime::now()), "test");
                tx.update(service);
                Ok(Some(tx))
            })
            .await;
        outcome.unwrap();
    }
    cluster.wait_for("the last number", |state| assigned(state, web) == 59).await;
    cluster.stop().await;
}
