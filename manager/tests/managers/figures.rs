//! What tasks use, on its way from an agent through a manager that does not lead to the one that does, and to what is decided
//! from it.

use std::time::Duration;

use berth_manager::store::Snapshot;
use berth_proto::object::{Service, TaskStatus};
use berth_proto::pb::{self, agent_message::Message as FromAgent};
use berth_proto::spec::{Autoscale, RequestTarget, ServiceMode};
use berth_proto::state::{NodeRole, TaskState};

use crate::store_support::{service, service_spec};
use crate::support::{Agent, Managers, now};

/// A service whose replicas are to get ten requests per second.
fn scaled() -> Service {
    let mut spec = service_spec("web");
    spec.mode = ServiceMode::Replicated { replicas: 1 };
    let requests = RequestTarget { target: 10, metric: "hits".into(), port: 80, path: "/".into() };
    spec.autoscale = Some(Autoscale { requests: Some(requests), ..Autoscale::between(1, 3) });
    service(rand::random(), spec)
}

/// The task has been running for a minute.
fn runs(task: &str) -> FromAgent {
    let at = berth_proto::time::Timestamp(now().0 - 60_000_000_000);
    let status = TaskStatus { state: TaskState::Running, at, ..TaskStatus::default() };
    let report = pb::TaskReport { task_id: task.to_owned(), status: Some((&status).into()), host_ports: Vec::new() };
    FromAgent::Status(pb::StatusBatch { sequence: 1, reports: vec![report] })
}

/// Its counter after so many seconds.
fn counted(task: &str, seconds: u64, requests: f64) -> FromAgent {
    let at = Duration::from_secs(seconds).as_nanos() as u64;
    let figures = pb::TaskFigures { task_id: task.to_owned(), at, cpu: 0, memory: 0, requests: Some(requests) };
    FromAgent::Figures(pb::Figures { tasks: vec![figures] })
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_told_to_a_follower_make_the_leader_scale() {
    let managers = Managers::of(2).await;
    let node = managers.add_node(NodeRole::Worker).await;
    let follower = managers.followers().await[0];
    let mut agent = Agent::connect(node, managers.members[&follower].address).await;
    let web = scaled();
    managers
        .write(follower, |state, tx| {
            if state.service(web.id).is_none() {
                tx.create(web.clone());
            }
        })
        .await;
    let heard = agent.until("its task", |heard| !heard.tasks.is_empty() && !heard.measures.is_empty()).await;
    assert_eq!(heard.measures, [web.id.to_string()].into(), "it is asked for figures");
    let task = heard.tasks.into_keys().next().unwrap();
    agent.say(runs(&task)).await;
    let decided = |state: &Snapshot| state.service(web.id).is_some_and(|service| service.autoscaled.is_some());
    let telling = async {
        for step in 1.. {
            agent.say(counted(&task, 5 * step, 150.0 * step as f64)).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = telling => unreachable!("it goes on for ever"),
        () = managers.wait(follower, "a number", decided) => {}
    }
    let state = managers.state(follower);
    let service = state.service(web.id).unwrap();
    assert_eq!(service.replicas(), Some(3));
    assert_eq!(service.autoscaled.as_ref().unwrap().reason, "30 requests/s of 10: 1 → 3 replicas");
}
