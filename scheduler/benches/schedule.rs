//! How fast groups are placed, workload by workload. Not run in CI; `cargo run --release -p berth-scheduler --example
//! report` prints the same and how well it packs.
#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code, reason = "shared with the report, which uses all of it")]
#[path = "../examples/report/workload.rs"]
mod workload;

use std::sync::Arc;

use berth_proto::id::{NodeId, ServiceId, TaskId};
use berth_proto::state::NodeState;
use berth_scheduler::{ClusterView, Demand, schedule};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use workload::*;

/// (a) Equal nodes, equal tasks of one service.
fn equal_tasks(c: &mut Criterion) {
    let mut bench = c.benchmark_group("equal");
    bench.sample_size(10);
    for (nodes, tasks) in [(1_000, 10_000), (10_000, 100_000), (10_000, 1_000_000), (100_000, 1_000_000)] {
        let view = view(&equal(nodes, 256));
        bench.throughput(Throughput::Elements(tasks));
        for (name, demand) in [("packed", reserve(CPU, GIB)), ("spread", Demand::default())] {
            let groups = [group(1, demand, 0, tasks)];
            bench.bench_function(format!("{name}/{nodes} nodes/{tasks} tasks"), |b| {
                b.iter(|| schedule(&view, &groups, NOW).placements.len())
            });
        }
    }
}

/// (b) and (c): 20 shapes of nodes, 1,000 services; then with constraints and hierarchical spread.
fn mixed(c: &mut Criterion) {
    let mut bench = c.benchmark_group("mixed");
    bench.sample_size(10);
    let mut random = Random(42);
    let nodes = mixed_nodes(10_000, &mut random);
    let free = mixed_services(&nodes, 1_000, 0.7, &mut random);
    let view = view(&nodes);
    for (name, groups) in [("free", free.clone()), ("constrained", constrained(&free))] {
        bench.throughput(Throughput::Elements(groups.iter().map(|group| group.tasks.len() as u64).sum()));
        bench.bench_function(name, |b| b.iter(|| schedule(&view, &groups, NOW).placements.len()));
    }
}

/// A cluster of equal nodes of 20 cpus with so many tasks of one cpu on each.
fn filled(per_node: u128) -> ClusterView {
    let mut view = view(&equal(10_000, 20));
    let demand = Arc::new(reserve(CPU, GIB));
    for n in 0..10_000 * per_node {
        let (service, on) = (ServiceId::from_random(n % 1_000), NodeId::from_random(n % 10_000 + 1));
        view.upsert_task(&running(TaskId::from_random(n), service, on), &demand);
    }
    view
}

/// (d) One task of one of 1,000 services at a time on nodes that are 95 % full.
fn steady(c: &mut Criterion) {
    let view = filled(19);
    let mut next = 1_000_000u128;
    c.bench_function("steady/one task on 10000 nodes 95 % full", |b| {
        b.iter_batched(
            || {
                next += 1;
                let mut one = [group(next % 1_000, reserve(CPU, GIB), next, 1)];
                one[0].wanted = 190;
                one
            },
            |groups| schedule(&view, &groups, NOW).placements.len(),
            BatchSize::SmallInput,
        )
    });
}

/// (e) The tasks of one node in ten are placed again.
fn loss(c: &mut Criterion) {
    let mut view = filled(16);
    for n in (1..=10_000u128).step_by(10) {
        let mut lost = view.node(NodeId::from_random(n)).unwrap().as_ref().clone();
        lost.status.state = NodeState::Down;
        view.upsert_node(Arc::new(lost));
    }
    let groups: Vec<_> = (0..1_000).map(|n| group(n, reserve(CPU, GIB), 1_000_000 + n * 16, 16)).collect();
    c.bench_function("loss/16000 tasks of 1000 services", |b| {
        b.iter(|| schedule(&view, &groups, NOW).placements.len())
    });
}

/// (f) Tasks of a higher priority on full nodes.
fn preemption(c: &mut Criterion) {
    let view = filled(20);
    let mut bench = c.benchmark_group("preemption");
    bench.sample_size(10);
    for tasks in [1, 1_000] {
        let groups = [group(5_000, Demand { priority: 10, ..reserve(2 * CPU, 2 * GIB) }, 1_000_000, tasks)];
        bench.throughput(Throughput::Elements(tasks));
        bench.bench_function(format!("{tasks} tasks"), |b| b.iter(|| schedule(&view, &groups, NOW).placements.len()));
    }
}

criterion_group!(benches, equal_tasks, mixed, steady, loss, preemption);
criterion_main!(benches);
