//! How long a file with a thousand services takes: to load, to print, to convert, to compare.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::path::PathBuf;

use berth_compose::diff::{Present, plan};
use berth_compose::files::Memory;
use berth_compose::{LoadOptions, convert, load_from};
use criterion::{Criterion, criterion_group, criterion_main};

fn thousand() -> String {
    let mut text = "name: big\nservices:\n".to_owned();
    for n in 0..1000 {
        text.push_str(&format!(
            "  s{n}:\n    image: registry.example.org/team/app:${{TAG:-1}}\n    environment: [A={n}, \"B=${{TAG}}\", C]\n    \
             ports: [\"{}:80\"]\n    volumes: [\"data:/data\", \"./conf:/conf:ro\"]\n    networks: [front]\n    \
             depends_on: [s{}]\n    healthcheck: {{test: curl -f localhost, interval: 10s}}\n    \
             deploy: {{replicas: 3, resources: {{limits: {{cpus: \"0.5\", memory: 64M}}}}}}\n",
            10_000 + n,
            if n == 0 { 999_999 } else { n - 1 }
        ));
    }
    text.replace("    depends_on: [s999999]\n", "") + "networks: {front: }\nvolumes: {data: }\n"
}

fn bench(criterion: &mut Criterion) {
    let files = Memory::default().with("/app/compose.yaml", thousand());
    let mut options = LoadOptions::new("/app", [PathBuf::from("compose.yaml")]);
    options.env.insert("TAG".to_owned(), "7".to_owned());
    let (project, _) = load_from(&options, &files).unwrap();
    let stack = convert(&project).unwrap();
    let present = Present { services: stack.services.iter().collect(), ..Present::default() };
    let mut group = criterion.benchmark_group("thousand services");
    group.sample_size(10);
    group.bench_function("load", |bench| bench.iter(|| load_from(black_box(&options), &files).unwrap()));
    group.bench_function("print", |bench| bench.iter(|| black_box(&project).to_yaml()));
    group.bench_function("convert", |bench| bench.iter(|| convert(black_box(&project)).unwrap()));
    group.bench_function("plan", |bench| bench.iter(|| plan(black_box(&stack), &present, true)));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
