//! `kill -9` at any moment loses no acknowledged write and leaves no half of a transaction.
//!
//! A child process (this test binary again) writes from several tasks at once and says so on a pipe after each
//! acknowledgement; the parent kills it at random moments, many times, on one data directory.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::store_support::{config, open, small_log, tx};

const DIR: &str = "BERTH_TEST_KILL_DIR";
const ROUND: &str = "BERTH_TEST_KILL_ROUND";
/// Kills of one run; `BERTH_KILL_ROUNDS` asks for more.
const ROUNDS: u64 = 60;
const WRITERS: u64 = 8;

/// Id of one of the two objects of a write.
fn object_id(round: u64, writer: u64, number: u64, half: u64) -> u128 {
    (u128::from(round) << 64) | (u128::from(writer) << 40) | (u128::from(number) << 1) | u128::from(half)
}

/// Not a test of its own: what the child does.
#[test]
#[ignore = "runs in the child process of acknowledged_writes_survive_kill"]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let round: u64 = std::env::var(ROUND).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async move {
        let node = open(Path::new(&dir), small_log()).await.unwrap();
        let writers = (0..WRITERS).map(|writer| {
            let proposer = node.proposer().clone();
            tokio::spawn(async move {
                for number in 0.. {
                    let mut tx = tx(1);
                    for half in 0..2 {
                        let name = format!("r{round}-w{writer}-n{number}-{half}");
                        tx.create(config(object_id(round, writer, number, half), &name, vec![half as u8; 300]));
                    }
                    proposer.propose(tx).await.unwrap();
                    let ack = format!("ack {writer} {number}\n");
                    std::io::stdout().lock().write_all(ack.as_bytes()).unwrap();
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    });
}

fn start(dir: &Path, round: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["kill::child", "--exact", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs the child for a random while; returns the writes that it was told are safe.
fn run_and_kill(dir: &Path, round: u64, random: &mut StdRng) -> Vec<(u64, u64)> {
    let mut child = start(dir, round);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (send, lines_in) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| send.send(line).unwrap()));
    let mut acked = Vec::new();
    // A third dies by the clock, wherever it is (also while it opens the log); the others after some writes.
    let by_clock = random.random_range(0..3) == 0;
    let deadline = Instant::now() + Duration::from_micros(random.random_range(0..60_000));
    let enough = if by_clock { usize::MAX } else { random.random_range(1..60) };
    let limit = if by_clock { deadline } else { Instant::now() + Duration::from_secs(60) };
    let parse = |line: String| {
        let mut words = line.strip_prefix("ack ")?.split(' ').map(|word| word.parse().unwrap());
        Some((words.next()?, words.next()?))
    };
    while acked.len() < enough {
        match lines_in.recv_timeout(limit.saturating_duration_since(Instant::now())) {
            Ok(line) => acked.extend(parse(line)),
            Err(_) => break,
        }
    }
    if !by_clock {
        std::thread::sleep(Duration::from_micros(random.random_range(0..3_000)));
        assert!(acked.len() >= enough, "round {round}: the child wrote only {} of {enough} in time", acked.len());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap();
    acked.extend(lines_in.try_iter().filter_map(parse));
    acked
}

#[test]
fn acknowledged_writes_survive_kill() {
    let seed: u64 = std::env::var("BERTH_TEST_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("BERTH_TEST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir_in(
        std::env::var_os("CARGO_TARGET_TMPDIR").unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into()),
    )
    .unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (mut acks, mut empty_rounds, mut opening) = (0, 0, Duration::ZERO);
    let rounds = std::env::var("BERTH_KILL_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    for round in 1..=rounds {
        let acked = run_and_kill(dir.path(), round, &mut random);
        acks += acked.len();
        empty_rounds += usize::from(acked.is_empty());
        runtime.block_on(async {
            let begun = Instant::now();
            let node = open(dir.path(), small_log()).await.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
            opening += begun.elapsed();
            let state = node.hub().snapshot();
            for (writer, number) in acked {
                for half in 0..2 {
                    let found = state.config(crate::store_support::id(object_id(round, writer, number, half)));
                    assert!(
                        found.is_some(),
                        "round {round}: write {number} of writer {writer} was acknowledged and is lost"
                    );
                }
            }
            let of_this_round = state.configs().filter(|config| config.id.as_u128() >> 64 == u128::from(round));
            let halves = of_this_round.fold([0, 0], |mut halves, config| {
                halves[(config.id.as_u128() & 1) as usize] += 1;
                halves
            });
            assert_eq!(halves[0], halves[1], "round {round}: half of a transaction is there");
            // Keep it small: the next rounds start from an almost empty state.
            if round % 10 == 0 {
                for config in state.configs() {
                    let mut tx = tx(2);
                    tx.remove(&**config);
                    node.proposer().propose(tx).await.unwrap();
                }
            }
            node.stop().await;
        });
    }
    println!(
        "{rounds} kills, {acks} acknowledged writes, {empty_rounds} kills before the first write, {opening:?} opening"
    );
    assert!(acks > 0, "nothing was written at all");
}
