//! What addresses cost: many tasks on one network, and on many.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::Arc;

use berth_manager::allocator::attach::Attachments;
use berth_manager::allocator::{AllocatorConfig, Book, network};
use berth_manager::orchestrator::{SeededIds, Turn};
use berth_manager::store::{State, Transaction};
use berth_proto::id::{NetworkId, TaskId};
use berth_proto::object::{Meta, Network};
use berth_proto::spec::{ContainerSpec, NetworkAttachmentSpec, NetworkDriver, NetworkSpec, ServiceSpec};
use berth_proto::time::Timestamp;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

const NOW: Timestamp = Timestamp(1_700_000_000_000_000_000);
const TASKS: u128 = 10_000;

fn name(number: u128) -> String {
    format!("net{number}")
}

/// A state with that many overlay networks of both families.
fn state(networks: u128) -> State {
    let mut state = State::default();
    let mut tx = Transaction::new(NOW, "bench");
    for number in 0..networks {
        let spec = NetworkSpec {
            name: name(number).parse().unwrap(),
            driver: NetworkDriver::Overlay,
            ipv6: true,
            ..network::default_network()
        };
        let id = NetworkId::from_random(number + 1);
        tx.create(Network { id, meta: Meta::default(), spec: Arc::new(spec), allocation: None });
    }
    state.apply(1, &tx).unwrap();
    state
}

/// Gives the networks their subnets.
fn allocate(state: &State) -> (Book, Transaction) {
    let mut book = Book::new(AllocatorConfig::default());
    let mut tx = Transaction::new(NOW, "bench");
    let mut ids = SeededIds::new(1);
    let failures = network::decide(&mut book, &mut tx, &mut Turn::new(state, NOW, &mut ids));
    assert!(failures.is_empty(), "{failures:?}");
    (book, tx)
}

fn spec(number: u128) -> ServiceSpec {
    let mut spec = ServiceSpec::new("web".parse().unwrap(), ContainerSpec::default());
    spec.task.networks = vec![NetworkAttachmentSpec {
        network: name(number).parse().unwrap(),
        aliases: Vec::new(),
        ipv4: None,
        ipv6: None,
        priority: 0,
        gateway_priority: 0,
        mac_address: None,
    }];
    spec
}

fn addresses(c: &mut Criterion) {
    for networks in [1, 100] {
        let mut state = state(networks);
        let (book, tx) = allocate(&state);
        state.apply(2, &tx).unwrap();
        let joins: Vec<Attachments> =
            (0..networks).map(|number| Attachments::of(&spec(number), &state).unwrap()).collect();
        c.bench_function(&format!("addresses/{TASKS} tasks over {networks} networks"), |b| {
            b.iter_batched(
                || book.clone(),
                |mut book| {
                    for (number, joins) in (0..TASKS).zip(joins.iter().cycle()) {
                        black_box(joins.give(TaskId::from_random(number), &mut book, NOW).unwrap());
                    }
                    book
                },
                BatchSize::LargeInput,
            );
        });
    }
    let state = state(5_000);
    c.bench_function("subnets/5000 networks", |b| b.iter(|| black_box(allocate(&state))));
}

criterion_group! { name = benches; config = Criterion::default().sample_size(20); targets = addresses }
criterion_main!(benches);
