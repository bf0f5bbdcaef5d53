//! Speed and quality of the scheduler in figures: `cargo run --release -p berth-scheduler --example report`.
//!
//! Times are those of one core; run it on a machine that does nothing else. Names as arguments pick figures: `equal` (a),
//! `mixed` (b), `online` (b, each task by itself: minutes), `heuristics` (other orders and fits on b: minutes), `constrained` (c),
//! `steady` (d), `loss` (e), `preemption` (f).

mod memory;
mod packing;
mod workload;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_proto::id::{NodeId, ServiceId, TaskId};
use berth_proto::object::Node;
use berth_proto::state::NodeState;
use berth_scheduler::{ClusterView, Demand, Plan, TaskGroup, TaskRequest, schedule};
use packing::{Fit, Order};
use workload::*;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    let all: [(&str, fn()); 8] = [
        ("equal", equal_tasks),
        ("mixed", mixed),
        ("online", online),
        ("heuristics", heuristics),
        ("constrained", constrained_tasks),
        ("steady", steady),
        ("loss", loss),
        ("preemption", preemption),
    ];
    for (name, figure) in all {
        if chosen.is_empty() || chosen.iter().any(|chosen| chosen == name) {
            figure();
        }
    }
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let result = run();
    (result, begin.elapsed())
}

/// How long this thread has been on a processor: what matters when the machine has other work. Exact to a tick of the
/// kernel, so only for long runs.
fn on_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default())
}

/// A plan with how long it took: by the clock, and on the processor.
type Run = (Plan, Duration, Duration);

fn once(run: impl FnOnce() -> Plan) -> Run {
    let before = on_cpu();
    let (plan, took) = timed(run);
    (plan, took, on_cpu() - before)
}

/// The median of five runs.
fn median(mut run: impl FnMut() -> Plan) -> Run {
    let mut runs: Vec<Run> = (0..5).map(|_| once(&mut run)).collect();
    runs.sort_by_key(|(_, _, cpu)| *cpu);
    runs.swap_remove(2)
}

fn say(name: &str, (plan, took, cpu): &Run) {
    let (placed, refused) =
        (plan.placements.len(), plan.refusals.iter().map(|refusal| refusal.tasks.len()).sum::<usize>());
    let rate = |time: &Duration| placed as f64 / time.as_secs_f64().max(1e-9);
    print!("{name:44} {placed:>8} placed {refused:>6} refused {took:>10.2?} {:>11.0}/s", rate(took));
    println!(" ({cpu:.2?} on the processor, {:.0}/s)", rate(cpu));
}

fn equal_tasks() {
    println!("(a) equal nodes and equal tasks of one service");
    let sizes = [(1_000, 100_000), (10_000, 100_000), (10_000, 1_000_000), (100_000, 100_000), (100_000, 1_000_000)];
    for (nodes, tasks) in sizes {
        let before = memory::live();
        let view = view(&equal(nodes, 256));
        let bytes = (memory::live() - before) as f64 / nodes as f64;
        for (name, demand) in [("packed", reserve(CPU, GIB)), ("spread", Demand::default())] {
            let groups = [group(1, demand, 0, tasks)];
            let run = median(|| schedule(&view, &groups, NOW));
            say(&format!("  {name}, {nodes} nodes, {tasks} tasks"), &run);
        }
        println!("  {bytes:.0} bytes a node, the node itself included");
    }
}

fn used(plan: &Plan) -> usize {
    plan.placements.iter().map(|placement| placement.node).collect::<BTreeSet<_>>().len()
}

/// 10,000 nodes in 20 shapes, 1,000 services with heavy tails; and the fewest nodes that could hold them.
struct Mixed {
    nodes: Vec<Node>,
    groups: Vec<TaskGroup>,
    bound: f64,
}

impl Mixed {
    fn new(letter: char, what: &str) -> Self {
        let mut random = Random(42);
        let nodes = mixed_nodes(10_000, &mut random);
        let groups = mixed_services(&nodes, 1_000, 0.7, &mut random);
        let bound = packing::bound(&nodes, &groups);
        println!("({letter}) 10000 nodes in 20 shapes, 1000 services with heavy tails, {what}");
        Self { nodes, groups, bound }
    }

    /// Percent above the bound.
    fn against(&self, used: usize) -> f64 {
        (used as f64 / self.bound - 1.0) * 100.0
    }

    fn say_used(&self, plan: &Plan) {
        let used = used(plan);
        println!("  nodes used: {used}, {:+.2} % of the bound of {:.1}", self.against(used), self.bound);
    }
}

fn mixed() {
    let mixed = Mixed::new('b', "all at once");
    let view = view(&mixed.nodes);
    let run = median(|| schedule(&view, &mixed.groups, NOW));
    say("  all at once", &run);
    mixed.say_used(&run.0);
}

fn online() {
    let mixed = Mixed::new('b', "one at a time, shuffled");
    let run = one_by_one(view(&mixed.nodes), &mixed.groups);
    say("  one at a time", &run);
    mixed.say_used(&run.0);
}

fn heuristics() {
    let mixed = Mixed::new('b', "by other orders and fits");
    for order in [Order::Dominant, Order::Sum, Order::Shuffled] {
        for fit in [Fit::First, Fit::Dominant, Fit::Dot, Fit::Norm] {
            let ((used, homeless), took) = timed(|| packing::pack(&mixed.nodes, &mixed.groups, order, fit));
            let name = format!("{order:?} order, {fit:?} fit");
            println!("  {name:30} {used:>6} nodes {:+.2} %, {homeless} homeless, {took:.1?}", mixed.against(used));
        }
    }
}

fn constrained_tasks() {
    let mixed = Mixed::new('c', "with constraints and hierarchical spread");
    let view = view(&mixed.nodes);
    let groups = constrained(&mixed.groups);
    let run = median(|| schedule(&view, &groups, NOW));
    say("  all at once", &run);
}

/// Each task as it comes, with the view kept up to date in between.
fn one_by_one(mut view: ClusterView, groups: &[TaskGroup]) -> Run {
    let each = groups.iter().flat_map(|group| group.tasks.iter().map(move |request| (group, *request)));
    let mut tasks: Vec<(&TaskGroup, TaskRequest)> = each.collect();
    Random(5).shuffle(&mut tasks);
    once(|| {
        let mut all = Plan::default();
        for (group, request) in tasks {
            let one = [TaskGroup { tasks: vec![request], ..shallow(group) }];
            let plan = schedule(&view, &one, NOW);
            for placement in &plan.placements {
                view.upsert_task(&running(placement.task, placement.service, placement.node), &group.demand);
            }
            all.placements.extend(plan.placements);
            all.refusals.extend(plan.refusals);
        }
        all
    })
}

fn shallow(group: &TaskGroup) -> TaskGroup {
    let TaskGroup { service, spec_version, demand, wanted, .. } = group;
    TaskGroup {
        service: *service,
        spec_version: *spec_version,
        demand: demand.clone(),
        tasks: Vec::new(),
        wanted: *wanted,
    }
}

/// A cluster of equal nodes of 20 cpus, with so many tasks of one cpu on each.
fn filled(nodes: u128, per_node: u128, priority: i32) -> ClusterView {
    let mut view = view(&equal(nodes, 20));
    let demand = Arc::new(Demand { priority, ..reserve(CPU, GIB) });
    for n in 0..nodes * per_node {
        let task =
            running(TaskId::from_random(n), ServiceId::from_random(n % 1_000), NodeId::from_random(n % nodes + 1));
        view.upsert_task(&task, &demand);
    }
    view
}

fn steady() {
    println!("(d) one task at a time on 10000 nodes that are 95 % full");
    let before = memory::live();
    let mut view = filled(10_000, 0, 0);
    let bare = memory::live() - before;
    let full = filled(10_000, 19, 0);
    let bytes = (memory::live() - before - 2 * bare) as f64 / 190_000.0;
    view.clone_from(&full);
    drop(full);
    let mut times = Vec::new();
    let mut updates = Duration::ZERO;
    for n in 0..20_000u128 {
        // One of 1,000 services gets a task, another task ends.
        let mut one = [group(n % 1_000, reserve(CPU, GIB), 1_000_000 + n, 1)];
        one[0].wanted = 190;
        let (plan, took) = timed(|| schedule(&view, &one, NOW));
        times.push(took);
        let placed = &plan.placements[0];
        let task = running(placed.task, placed.service, placed.node);
        let ((), took) = timed(|| {
            view.upsert_task(&task, &one[0].demand);
            view.remove_task(TaskId::from_random(n));
        });
        updates += took;
    }
    times.sort_unstable();
    println!(
        "  p50 {:.2?}, p99 {:.2?}, worst {:.2?}; {:.2?} to follow a change; {bytes:.0} bytes a task",
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times[times.len() - 1],
        updates / 40_000
    );
}

fn loss() {
    println!("(e) one node in ten is lost, at 80 % full");
    let mut view = filled(10_000, 16, 0);
    for n in (1..=10_000u128).step_by(10) {
        let lost = Node { ..Node::clone(view.node(NodeId::from_random(n)).expect("it is there")) };
        let mut lost = lost;
        lost.status.state = NodeState::Down;
        view.upsert_node(Arc::new(lost));
    }
    // What ran there is replaced: 16 tasks of each of the lost nodes.
    let groups: Vec<TaskGroup> =
        (0..1_000u128).map(|service| group(service, reserve(CPU, GIB), 1_000_000 + service * 16, 16)).collect();
    let run = median(|| schedule(&view, &groups, NOW));
    say("  replacing 16000 tasks of 1000 services", &run);
}

fn preemption() {
    println!("(f) preemption in a full cluster of 10000 nodes");
    let view = filled(10_000, 20, 0);
    let demand = Demand { priority: 10, ..reserve(2 * CPU, 2 * GIB) };
    for tasks in [1, 1_000, 10_000] {
        let groups = [group(5_000, demand.clone(), 1_000_000, tasks)];
        let run = median(|| schedule(&view, &groups, NOW));
        let victims: usize = run.0.placements.iter().map(|placement| placement.evicts.len()).sum();
        say(&format!("  {tasks} tasks of two cpus, {victims} victims"), &run);
    }
}
