//! What one pass of the loops costs: making, addressing and placing many tasks, and one event among many tasks.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/sim/mod.rs"]
mod sim;

use std::hint::black_box;

use berth_manager::loops::{Reconciler, ReconcilerConfig};
use berth_proto::id::ServiceId;
use berth_proto::spec::ServiceMode;
use berth_proto::state::TaskState;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use sim::Sim;
use sim::spec::service;

/// Many services of 20 replicas each, all assigned.
fn filled(tasks: u64) -> (Sim, Vec<ServiceId>) {
    let mut sim = Sim::with_nodes(1, 100);
    let services = (0..tasks / 20).map(|n| sim.create(service(&format!("s{n}"), "run", 20))).collect();
    sim.settle();
    (sim, services)
}

fn passes(c: &mut Criterion) {
    for tasks in [100, 10_000] {
        let mut sim = Sim::with_nodes(1, 100);
        sim.settle();
        sim.create(service("web", "run", tasks));
        let ids = sim.ids.clone();
        c.bench_function(&format!("new/{tasks} tasks of one service"), |b| {
            b.iter_batched(
                || sim.loops.clone(),
                |mut loops| black_box(loops.pass(&sim.state, sim.now, &mut ids.clone())),
                BatchSize::LargeInput,
            );
        });
    }
    let (mut sim, services) = filled(10_000);
    assert!(sim.tasks(services[0]).iter().all(|task| task.status.state == TaskState::Assigned));
    c.bench_function("load/10000 tasks of 500 services", |b| {
        b.iter(|| Reconciler::load(&sim.state, ReconcilerConfig::default(), sim.now));
    });
    let mut full = sim.loops.clone();
    c.bench_function("full pass/10000 tasks of 500 services", |b| {
        b.iter(|| {
            full.mark_everything(&sim.state);
            full.pass(&sim.state, sim.now, &mut sim.ids.clone())
        });
    });
    let one = services[250];
    sim.update(one, |spec| spec.mode = ServiceMode::Replicated { replicas: 21 });
    let ids = sim.ids.clone();
    c.bench_function("scale one of 500 services by one", |b| {
        b.iter_batched(
            || sim.loops.clone(),
            |mut loops| black_box(loops.pass(&sim.state, sim.now, &mut ids.clone())),
            BatchSize::LargeInput,
        );
    });
}

criterion_group! { name = benches; config = Criterion::default().sample_size(20); targets = passes }
criterion_main!(benches);
