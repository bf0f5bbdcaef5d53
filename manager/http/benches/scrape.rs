//! A scrape of a manager with 1,000 services and 10,000 tasks that run: how long it takes, how many bytes it has.
//!
//! `cargo bench -p berth-http --bench scrape`; the cluster is made by its own loops first, which takes a minute.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use berth_metrics::Format;
use berth_proto::id::Id;
use berth_proto::object::Service;
use berth_proto::spec::{ContainerSpec, ServiceMode, ServiceSpec};
use berth_proto::state::TaskState;
use criterion::{Criterion, criterion_group, criterion_main};
use support::Server;
use tokio::runtime::Runtime;

const SERVICES: u64 = 1_000;
const REPLICAS: u64 = 10;

fn service(number: u64) -> Service {
    let container = ContainerSpec { image: "example.org/app:1".into(), ..ContainerSpec::default() };
    let mut spec = ServiceSpec::new(format!("service-{number}").parse().unwrap(), container);
    spec.mode = ServiceMode::Replicated { replicas: REPLICAS };
    Service::new(Id::from_random(rand::random()), spec)
}

fn scrape(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let (server, _agent) = runtime.block_on(async {
        let server = Server::start().await;
        let agent = server.node("worker").await;
        for first in (0..SERVICES).step_by(100) {
            let services: Vec<Service> = (first..first + 100).map(service).collect();
            server.write(|_, tx| services.iter().for_each(|service| tx.create(service.clone()))).await;
            let wanted = (first + 100) * REPLICAS;
            server.until("tasks to run", |state| state.count_in_state(TaskState::Running) == wanted).await;
        }
        (server, agent)
    });
    let text = |format| runtime.block_on(server.site.metrics.text(format));
    println!(
        "a scrape has {} bytes, {} lines",
        text(Format::Prometheus).len(),
        text(Format::Prometheus).lines().count()
    );
    criterion.bench_function("scrape of 1,000 services and 10,000 tasks", |bench| {
        bench.iter(|| text(Format::Prometheus).len());
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = scrape
}
criterion_main!(benches);
