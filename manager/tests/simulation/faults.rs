//! What goes wrong, and when it is mended: drawn from the seed. Several things may be wrong at once.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::dice::Dice;
use crate::network::Host;
use crate::world::{AGENTS, MANAGERS, Power, World, all_hosts};

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Nothing reaches the host, and nothing comes from it.
    Cut(Host),
    /// Nothing comes from the first to the second; the other way is open.
    OneWay(Host, Host),
    /// Everything from and to the host takes as long as that, in microseconds.
    Slow(Host, (u64, u64)),
    /// Every connection of the host breaks.
    Reset(Host),
    /// The manager's machine loses its power, and what was not synced.
    Crash(Host),
    /// The manager is stopped as one is stopped.
    Stop(Host),
    /// The manager's disk takes nothing any more.
    DiskFull(Host),
    /// The agent does nothing, its containers run.
    Pause(Host),
}

impl Fault {
    fn draw(dice: &mut Dice) -> Self {
        let (manager, agent, any) = (dice.pick(&MANAGERS), dice.pick(&AGENTS), dice.pick(&all_hosts()));
        let others: Vec<Host> = MANAGERS.into_iter().filter(|other| *other != any).collect();
        let other = dice.pick(&others);
        match dice.roll(0..14) {
            0 | 1 => Self::Cut(manager),
            2 => Self::Cut(agent),
            3 => Self::OneWay(any, other),
            4 => Self::OneWay(other, any),
            5 | 6 => {
                let most = dice.pick(&[50_000, 150_000, 500_000]);
                Self::Slow(any, (most / 5, most))
            }
            7 => Self::Reset(any),
            8..=10 => Self::Crash(manager),
            11 => Self::Stop(manager),
            12 => Self::DiskFull(manager),
            _ => Self::Pause(agent),
        }
    }

    fn begin(self, world: &World, dice: &mut Dice) {
        let network = &world.network;
        match self {
            Self::Cut(host) => network.isolate(host, &all_hosts(), true),
            Self::OneWay(from, to) => network.cut(from, to, true),
            Self::Slow(host, micros) => network.slow_down(host, &all_hosts(), micros),
            Self::Reset(host) => network.reset(host, &all_hosts()),
            Self::Crash(host) => world.crash(host, dice),
            Self::Stop(host) => drop(world.machines[&host].power.send_replace(Power::Stopped)),
            Self::DiskFull(host) => world.machines[&host].disk.refuse(),
            Self::Pause(host) => drop(world.paused[&host].send_replace(true)),
        }
    }

    fn end(self, world: &World, dice: &mut Dice) {
        let network = &world.network;
        match self {
            Self::Cut(host) => {
                network.isolate(host, &all_hosts(), false);
                // Some cuts last longer than connections do.
                if dice.one_in(2) {
                    network.reset(host, &all_hosts());
                }
            }
            Self::OneWay(from, to) => network.cut(from, to, false),
            Self::Slow(host, _) => network.slow_down(host, &all_hosts(), crate::network::USUAL_DELAY),
            Self::Reset(_) => {}
            // Its network heals when what was left of it has ended.
            Self::Crash(host) | Self::Stop(host) => drop(world.machines[&host].power.send_replace(Power::On)),
            Self::DiskFull(host) => world.machines[&host].disk.crash(dice),
            Self::Pause(host) => drop(world.paused[&host].send_replace(false)),
        }
    }

    /// A manager that has crashed is not reached by mending the network.
    fn touches(self, host: Host) -> bool {
        match self {
            Self::Cut(it) | Self::Slow(it, _) | Self::Reset(it) | Self::Crash(it) => it == host,
            Self::Stop(it) | Self::DiskFull(it) | Self::Pause(it) => it == host,
            Self::OneWay(from, to) => from == host || to == host,
        }
    }
}

/// Lets that many things go wrong; returns when most of them are mended.
pub async fn run(world: &World, dice: &mut Dice, count: usize) -> Vec<String> {
    let mut story = Vec::new();
    let mut wrong: BTreeMap<Instant, Fault> = BTreeMap::new();
    let began = Instant::now();
    for _ in 0..count {
        let next = Instant::now() + dice.millis(100..3_000);
        while let Some((end, fault)) = wrong.first_key_value().map(|(end, fault)| (*end, *fault))
            && end <= next
        {
            sleep_until(end).await;
            wrong.remove(&end);
            story.push(format!("{:?} mended {fault:?}", began.elapsed()));
            fault.end(world, dice);
        }
        sleep_until(next).await;
        let fault = Fault::draw(dice);
        let lasts = dice.millis(300..9_000);
        let is_busy =
            wrong.values().any(|other| all_hosts().into_iter().any(|host| other.touches(host) && fault.touches(host)));
        if is_busy {
            continue;
        }
        story.push(format!("{:?} {fault:?} for {lasts:?}", began.elapsed()));
        fault.begin(world, dice);
        wrong.insert(Instant::now() + lasts, fault);
    }
    sleep(Duration::from_secs(1)).await;
    story
}
