//! How fast groups are placed: equal nodes and equal tasks, and one task at a time on a nearly full cluster.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;

use berth_proto::id::{NodeId, TaskId};
use berth_proto::state::TaskState;
use berth_scheduler::{Demand, TaskRequest, schedule};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use support::*;

fn equal(c: &mut Criterion) {
    let mut bench = c.benchmark_group("equal");
    for (nodes, tasks) in [(1_000u128, 10_000u128), (10_000, 100_000), (10_000, 1_000_000)] {
        let view = view((1..=nodes).map(|n| node(n, 256, 256)));
        bench.throughput(Throughput::Elements(tasks as u64));
        bench.sample_size(10);
        for (name, demand) in [("packed", reserve(1, 1)), ("spread", Demand::default())] {
            let groups = [group(1, demand, 0..tasks)];
            bench.bench_function(format!("{name}/{nodes} nodes/{tasks} tasks"), |b| {
                b.iter(|| schedule(&view, &groups, NOW).placements.len())
            });
        }
    }
}

/// One task of one of 1,000 services at a time on 10,000 nodes that are 95 % full.
fn steady(c: &mut Criterion) {
    let mut view = view((1..=10_000).map(|n| node(n, 20, 20)));
    let demand = Arc::new(reserve(1, 1));
    for n in 0..190_000u128 {
        let on = Some(NodeId::from_random(n % 10_000 + 1));
        view.upsert_task(&task(n, n % 1_000, on, TaskState::Running), &demand);
    }
    let mut next = 1_000_000u128;
    c.bench_function("steady/one task on 10000 nodes 95 % full", |b| {
        b.iter_batched(
            || {
                next += 1;
                let mut one = group(next % 1_000, reserve(1, 1), 0..190);
                one.tasks = vec![TaskRequest { task: TaskId::from_random(next), bound_to: None }];
                [one]
            },
            |groups| schedule(&view, &groups, NOW).placements.len(),
            BatchSize::SmallInput,
        )
    });
}

criterion_group!(benches, equal, steady);
criterion_main!(benches);
