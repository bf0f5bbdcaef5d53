//! Random clusters, services and mishaps by seed. The invariants of `sim::check` hold all the way, and once everything is
//! left alone, every service comes to what its spec asks for. A failing seed is in the panic and repeats.

use std::time::Duration;

use berth_manager::orchestrator::{IdSource, SeededIds};
use berth_proto::id::ServiceId;
use berth_proto::object::UpdateProgress;
use berth_proto::spec::{FailureAction, PublishMode, ServiceMode, UpdateOrder};
use berth_proto::state::{Availability, NodeState, TaskState};

use crate::sim::Sim;
use crate::sim::spec::*;

/// Seeds of one run; `BERTH_SIM_SEEDS` runs more, `BERTH_SIM_SEED` just that one.
const SEEDS: u64 = 4;
const STEPS: usize = 50;

struct World {
    sim: Sim,
    dice: SeededIds,
    services: Vec<ServiceId>,
    nodes: u128,
    named: u64,
}

impl World {
    fn roll(&mut self, sides: u64) -> u64 {
        (self.dice.bits() % u128::from(sides)) as u64
    }

    fn some_service(&mut self) -> Option<ServiceId> {
        let alive = |id: &ServiceId| self.sim.state.service(*id).is_some_and(|service| !service.pending_delete);
        let services: Vec<ServiceId> = self.services.iter().copied().filter(alive).collect();
        if services.is_empty() {
            return None;
        }
        let at = self.roll(services.len() as u64);
        Some(services[at as usize])
    }

    fn create(&mut self) {
        self.named += 1;
        let image = ["run", "run", "run", "run-crash:400", "done:300", "reject"][self.roll(6) as usize];
        let name = format!("s{}", self.named);
        let replicas = self.roll(12);
        let mut spec = match self.roll(6) {
            0 => global(&name, image),
            1 => job(&name, "done:200", self.roll(4), replicas),
            _ => service(&name, image, replicas),
        };
        spec.task.resources.reservations.memory = self.roll(3) << 29;
        spec.update.order = [UpdateOrder::StopFirst, UpdateOrder::StartFirst][self.roll(2) as usize];
        spec.update.parallelism = self.roll(4);
        spec.update.monitor = ms(200);
        spec.rollback.monitor = ms(200);
        spec.update.failure_action =
            [FailureAction::Pause, FailureAction::Continue, FailureAction::Rollback][self.roll(3) as usize];
        spec.task.restart.delay = ms(self.roll(300));
        if self.roll(4) == 0 {
            spec.task.restart.max_attempts = Some(2);
        }
        if self.roll(4) == 0 {
            spec = publish(spec, 80, None, PublishMode::Ingress);
        }
        if self.roll(6) == 0 {
            spec = publish(spec, 81, Some(9000 + self.named as u16), PublishMode::Host);
        }
        let id = self.sim.create(spec);
        self.services.push(id);
    }

    fn update(&mut self, id: ServiceId) {
        match self.roll(5) {
            0 => {
                let replicas = self.roll(14);
                self.sim.update(id, |spec| {
                    if let ServiceMode::Replicated { .. } = spec.mode {
                        spec.mode = ServiceMode::Replicated { replicas };
                    }
                });
            }
            1 => self.sim.update(id, |spec| spec.task.force_update += 1),
            2 => {
                let node = self.roll(self.nodes as u64) + 1;
                let constraint = format!("node.hostname!=host{node}").parse().unwrap();
                self.sim.update(id, |spec| spec.task.placement.constraints = vec![constraint]);
            }
            _ => {
                let image = ["run:1", "run:2", "run-crash:100", "reject", "hang"][self.roll(5) as usize].to_owned();
                if !self.sim.service(id).spec.mode.is_job() {
                    self.sim.update(id, |spec| spec.task.container.image = image);
                }
            }
        }
    }

    fn step(&mut self) {
        let node = u128::from(self.roll(self.nodes as u64)) + 1;
        match self.roll(16) {
            0 | 1 => self.create(),
            2..=5 => {
                if let Some(id) = self.some_service() {
                    self.update(id);
                }
            }
            6 => {
                if let Some(id) = self.some_service() {
                    self.sim.remove(id);
                }
            }
            7 => {
                let back = self.some_service().filter(|id| self.sim.service(*id).previous.is_some());
                if let Some(id) = back {
                    self.sim.roll_back(id);
                }
            }
            8 => self.sim.node_state(node, NodeState::Down),
            9 => self.sim.node_state(node, NodeState::Ready),
            10 => {
                let availability = [Availability::Active, Availability::Drain, Availability::Pause];
                let availability = availability[self.roll(3) as usize];
                self.sim.availability(node, availability);
            }
            11 => {
                self.nodes += 1;
                self.sim.add_node(self.nodes);
            }
            12 => self.sim.restart_manager(),
            13 => {
                if let Some(id) = self.some_service() {
                    self.sim.settle();
                    self.sim.overtake(id);
                }
            }
            _ => {}
        }
        let pause = [0, 1, 5, 20, 50, 200, 1_000, 20_000][self.roll(8) as usize];
        self.sim.run(Duration::from_millis(pause));
    }

    /// Everything is left alone and mended: what is asked for must come about.
    fn converge(&mut self) {
        for node in 1..=self.nodes {
            self.sim.node_state(node, NodeState::Ready);
            self.sim.availability(node, Availability::Active);
        }
        for _ in 0..8 {
            self.nodes += 1;
            self.sim.add_node(self.nodes);
        }
        for id in self.services.clone() {
            if self.sim.state.service(id).is_some_and(|service| !service.pending_delete) {
                self.sim.update(id, |spec| {
                    if !spec.mode.is_job() {
                        spec.task.container.image = "run:last".into();
                    }
                    spec.task.force_update += 1;
                    spec.task.placement.constraints.clear();
                    spec.task.resources.reservations.memory = 0;
                });
            }
        }
        self.sim.run(secs(150));
        for id in self.services.clone() {
            self.check(id);
        }
    }

    fn check(&self, id: ServiceId) {
        let sim = &self.sim;
        let Some(service) = sim.state.service(id) else { return };
        assert!(!service.pending_delete, "{} was to be removed\n{}", service.spec.name, sim.table());
        let running = sim.running(id).len();
        let of_run = |state: TaskState| {
            let iteration = service.job.map(|job| job.iteration);
            let tasks = sim.tasks(id).into_iter();
            tasks.filter(|task| task.job_iteration == iteration && task.status.state == state).count() as u64
        };
        let ports_per_node = service.spec.endpoint.ports.iter().any(|port| port.mode == PublishMode::Host);
        let wanted = match service.spec.mode {
            ServiceMode::Replicated { replicas } if ports_per_node => replicas.min(self.nodes as u64),
            ServiceMode::Replicated { replicas } => replicas,
            ServiceMode::Global => self.nodes as u64,
            ServiceMode::ReplicatedJob { total_completions, .. } => {
                assert_eq!(of_run(TaskState::Complete), total_completions, "{}", sim.table());
                return;
            }
            ServiceMode::GlobalJob => return,
        };
        assert_eq!(running as u64, wanted, "{}\n{}", service.spec.name, sim.table());
        let images = sim.images(id);
        assert!(images.keys().all(|image| image == "run:last"), "{images:?}\n{}", sim.table());
        let unfinished = service.update.as_ref().filter(|update| update.progress != UpdateProgress::Completed);
        let stuck_on_ports = ports_per_node && (running as u64) < wanted.max(running as u64 + 1);
        assert!(unfinished.is_none() || stuck_on_ports, "{unfinished:?}\n{}", sim.table());
    }
}

fn run(seed: u64) {
    let sim = Sim::with_nodes(seed, 3);
    let mut world = World { sim, dice: SeededIds::new(seed), services: Vec::new(), nodes: 3, named: 0 };
    for _ in 0..STEPS {
        world.step();
    }
    world.converge();
}

#[test]
fn random_mishaps_break_no_invariant_and_heal() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("BERTH_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("BERTH_SIM_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| run(seed));
        if let Err(panic) = outcome {
            eprintln!("BERTH_SIM_SEED={seed} repeats this");
            std::panic::resume_unwind(panic);
        }
    }
}
