//! Draining a node, and rolling updates over nodes.

use std::time::Instant;

use berth_tests::Cluster;
use berth_tests::image::hello;

use crate::figures::Samples;

const REPLICAS: usize = 20;
const ROUNDS: usize = 5;

/// Tasks that are spread over the nodes, replaced at once and ended at once.
pub fn stack(replicas: usize) -> String {
    with_order(replicas, "stop-first", 1)
}

fn with_order(replicas: usize, order: &str, generation: usize) -> String {
    format!(
        "services:
  web:
    image: berth/hello:1
    command: [sleep, '100000']
    environment: {{ GENERATION: '{generation}' }}
    stop_signal: SIGKILL
    deploy:
      replicas: {replicas}
      restart_policy: {{ delay: 0s }}
      update_config: {{ parallelism: 4, order: {order}, monitor: 1ms }}
      placement: {{ preferences: [{{ spread: node.labels.host }}] }}
"
    )
}

/// All tasks are on one node, which is drained: until the command returns, that is until they run elsewhere.
pub fn drain() {
    let cluster = Cluster::new("bench-drain", 3, 0);
    cluster.host(0).load(&hello());
    let names: Vec<&str> = (0..3).map(|at| cluster.host(at).hostname()).collect();
    for name in &names[1..] {
        cluster.host(0).berth(&["node", "drain", name]).ok();
    }
    cluster.host(0).apply("s", &stack(REPLICAS));
    cluster.host(0).wait_running("s_web", REPLICAS);
    // The image is there from the first round on.
    let mut samples = Vec::new();
    for round in 0..=ROUNDS {
        let (from, to) = (names[round % 3], names[(round + 1) % 3]);
        cluster.host(0).berth(&["node", "activate", to]).ok();
        let begin = Instant::now();
        cluster.host(0).berth(&["node", "drain", from]).ok();
        cluster.host(0).wait_running("s_web", REPLICAS);
        if round > 1 {
            samples.push(begin.elapsed());
        }
    }
    Samples::new("node drained of 20 tasks", samples).print();
}

/// A rolling update of 20 replicas by 4, watched for a millisecond (0 would mean the default, 5 s): until the command returns.
pub fn update() {
    let cluster = Cluster::new("bench-update", 3, 0);
    cluster.host(0).load(&hello());
    for order in ["stop-first", "start-first"] {
        cluster.host(0).apply("s", &with_order(REPLICAS, order, 0));
        let mut samples = Vec::new();
        for round in 1..=ROUNDS {
            let begin = Instant::now();
            cluster.host(0).apply("s", &with_order(REPLICAS, order, round));
            samples.push(begin.elapsed());
        }
        Samples::new(&format!("rolling update of 20 by 4, {order}"), samples).print();
    }
}
