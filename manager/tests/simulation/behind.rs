//! What the simulation has found, as tests of their own: managers that are behind the others, or have lost them.

use std::time::Duration;

use berth_manager::api::ControlApi;
use berth_manager::manager::ControlHandle;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::state::NodeState;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Request};

use crate::dice::Dice;
use crate::network::Host;
use crate::sim::spec;
use crate::world::{AGENTS, MANAGERS, Power, World, all_hosts, node_of};
use crate::{CONVERGENCE, simulate};

/// Microseconds that everything from and to a manager takes that is to be behind.
const LATE: (u64, u64) = (150_000, 200_000);

fn api(world: &World, host: Host) -> ControlApi {
    ControlApi::new(handle(world, host), "simulation")
}

fn handle(world: &World, host: Host) -> ControlHandle {
    world.machines[&host].ready.borrow().clone().unwrap()
}

fn leader(world: &World) -> Host {
    MANAGERS.into_iter().find(|host| handle(world, *host).members.leads()).unwrap()
}

/// A follower that is behind from now on, and the leader.
fn fall_behind(world: &World) -> (Host, Host) {
    let leader = leader(world);
    let follower = MANAGERS.into_iter().find(|host| *host != leader).unwrap();
    world.network.slow_down(follower, &all_hosts(), LATE);
    (follower, leader)
}

async fn create(world: &World, host: Host, replicas: u64) {
    let spec = Some((&spec::service("web", "run", replicas)).into());
    api(world, host).service_create(Request::new(pb::ServiceCreateRequest { spec })).await.unwrap();
}

async fn scale(world: &World, host: Host, replicas: u64) -> u64 {
    let target = pb::service_scale_request::Target { service: "web".to_owned(), replicas };
    let request = pb::ServiceScaleRequest { targets: vec![target] };
    let scaled = api(world, host).service_scale(Request::new(request)).await.unwrap().into_inner();
    scaled.services[0].meta.as_ref().unwrap().version
}

async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let end = Instant::now() + CONVERGENCE;
    while !reached() {
        assert!(Instant::now() < end, "waited for {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_change_through_a_manager_that_is_behind_finds_what_was_acknowledged_before() {
    simulate(async |alarm| {
        let world = World::start(&mut Dice::new(1), alarm, 40).await;
        let (follower, leader) = fall_behind(&world);
        create(&world, leader, 1).await;
        // It does not know the service yet.
        scale(&world, follower, 2).await;
        let scaled = scale(&world, leader, 3).await;
        // Here there are two still, and so nothing to do.
        let again = scale(&world, follower, 2).await;
        assert!(again > scaled, "acknowledged at {again} without being done; before it was {scaled}");
    });
}

#[test]
fn an_agent_that_calls_a_manager_that_is_behind_keeps_its_tasks() {
    simulate(async |alarm| {
        let world = World::start(&mut Dice::new(1), alarm, 40).await;
        let leader = leader(&world);
        let follower = MANAGERS.into_iter().find(|host| *host != leader).unwrap();
        let is_ready = |host: Host| {
            let state = handle(&world, follower).hub.snapshot();
            state.node(node_of(host)).is_some_and(|node| node.status.state == NodeState::Ready)
        };
        until("nodes that are ready", || AGENTS.into_iter().all(is_ready)).await;
        world.network.isolate(follower, &MANAGERS, true);
        create(&world, leader, 8).await;
        until("tasks that run", || world.checks.up().len() == 8).await;
        let before = world.checks.up();
        // Agents call again and again, some of them the one that knows of no task. No node is down before this has passed.
        for _ in 0..6 {
            for agent in AGENTS {
                world.network.reset(agent, &all_hosts());
            }
            sleep(Duration::from_millis(500)).await;
            assert_eq!(world.checks.up(), before, "a task was ended");
        }
    });
}

#[test]
fn a_leader_that_has_lost_the_others_stops() {
    simulate(async |alarm| {
        let world = World::start(&mut Dice::new(1), alarm, 40).await;
        let leader = leader(&world);
        // It wants to write down which nodes it does not hear any more.
        world.network.isolate(leader, &all_hosts(), true);
        sleep(Duration::from_secs(6)).await;
        world.machines[&leader].power.send_replace(Power::Stopped);
        until("the end of the manager", || !*world.machines[&leader].runs.borrow()).await;
    });
}

#[test]
fn a_write_of_a_leader_that_has_lost_the_others_ends() {
    simulate(async |alarm| {
        let world = World::start(&mut Dice::new(1), alarm, 40).await;
        let leader = leader(&world);
        world.network.isolate(leader, &MANAGERS, true);
        let spec = pb::ConfigSpec { name: "unanswered".to_owned(), data: "?".into(), ..pb::ConfigSpec::default() };
        let api = api(&world, leader);
        let create = api.config_create(Request::new(pb::ConfigCreateRequest { spec: Some(spec) }));
        let created = timeout(CONVERGENCE, create).await.expect("an answer");
        assert_eq!(created.unwrap_err().code(), Code::Unavailable);
    });
}
