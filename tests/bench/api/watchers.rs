//! Many who watch while many tasks change: whether each of them sees everything, and how long after the manager itself.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hasher};
use std::time::Instant;

use berth_proto::object::Task;
use berth_proto::pb::{self, control_client::ControlClient};
use berth_proto::state::TaskState;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::figures::Samples;
use crate::process::{cpu, forget_peak, memory, peak};
use crate::wire::write;
use crate::world::{ADDRESS, World, create};

const WATCHERS: usize = 500;
const TASKS: u64 = 1_000;
const ROUNDS: usize = 3;
/// A change of a config is where the comparison begins, and another where it ends. It is in front in the data of an event.
const MARK: &[u8] = b"\"kind\":\"config\"";
const FRONT: usize = 120;

/// A task and what became of it: a state, or [`GONE`].
type Step = (String, String);
const GONE: &str = "removed";

/// Prints the figures.
pub async fn run(manager: i32, world: &mut World) {
    println!("{WATCHERS} watchers while {TASKS} tasks are created and start; the manager before: {}", memory(manager));
    forget_peak(manager);
    let used = cpu(manager);
    let (mut own, mut last, mut behind) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let truth = Truth::begin(&mut world.control).await;
        let mut watchers = watch(&world.token).await;
        create_and_mark(&mut world.control, round, truth.running, manager).await;
        let truth = truth.seen.await.expect("the manager's watch does not end");
        let mut seen = Vec::new();
        while let Some(watcher) = watchers.join_next().await {
            seen.push(watcher.expect("a watcher does not end"));
        }
        compare(&seen, &truth);
        own.push(truth.last - truth.begin);
        last.extend(seen.iter().map(|seen| seen.last - truth.begin));
        behind.extend(seen.iter().map(|seen| seen.last.saturating_duration_since(truth.last)));
    }
    Samples::new(&format!("{TASKS} tasks, until the last change is committed"), own).print();
    Samples::new("  a watcher, until it has the last change", last).print();
    Samples::new("  and so long after the manager's own watch", behind).print();
    let (used, peak) = (cpu(manager) - used, peak(manager));
    println!(
        "  the manager: {used:.1?} of processor, at most {peak:.1} MiB resident; without them {}",
        memory(manager)
    );
}

/// Between two marks: a service whose tasks all come to run.
async fn create_and_mark(
    control: &mut ControlClient<Channel>,
    round: usize,
    running: oneshot::Receiver<()>,
    manager: i32,
) {
    write(control, format!("begin-{round}")).await.expect("a config is made");
    create(control, &format!("watched{round}"), TASKS).await;
    running.await.expect("the manager's watch does not end");
    println!("  with the watchers: {}", memory(manager));
    write(control, format!("end-{round}")).await.expect("a config is made");
}

/// What the manager itself says happened.
struct Truth {
    /// All tasks run.
    running: oneshot::Receiver<()>,
    seen: tokio::task::JoinHandle<Told>,
}

struct Told {
    begin: Instant,
    last: Instant,
    steps: Vec<Step>,
}

impl Truth {
    /// Over the API of the command line, which shares nothing with the watchers but the commits.
    async fn begin(control: &mut ControlClient<Channel>) -> Self {
        let kinds = vec![pb::ObjectKind::Task.into(), pb::ObjectKind::Config.into()];
        let request = pb::WatchRequest { kinds, after_index: None };
        let events = control.watch(request).await.expect("the manager is watched").into_inner();
        let (tell, running) = oneshot::channel();
        Self { running, seen: tokio::spawn(Self::follow(events, tell)) }
    }

    async fn follow(mut events: Streaming<pb::WatchEvent>, tell: oneshot::Sender<()>) -> Told {
        let (mut tell, mut running) = (Some(tell), BTreeSet::new());
        let mut told: Option<Told> = None;
        loop {
            let event = events.message().await.expect("the watch goes on").expect("the watch goes on");
            let action = event.action();
            assert_ne!(action, pb::watch_event::Action::Resync, "the manager's own watch missed something");
            match event.object.and_then(|object| object.object) {
                Some(pb::object::Object::Config(_)) => match told.take() {
                    None => told = Some(Told { begin: Instant::now(), last: Instant::now(), steps: Vec::new() }),
                    Some(told) => return told,
                },
                Some(pb::object::Object::Task(task)) => {
                    let Some(told) = &mut told else { continue };
                    let task = Task::try_from(task).expect("a task");
                    let is_gone = action == pb::watch_event::Action::Removed;
                    if task.status.state == TaskState::Running {
                        running.insert(task.id);
                    }
                    told.steps.push((task.id.to_string(), if is_gone { GONE.to_owned() } else { word(&task) }));
                    told.last = Instant::now();
                }
                _ => {}
            }
            if running.len() as u64 == TASKS
                && let Some(tell) = tell.take()
            {
                // Whoever waits for it does so to the end.
                let _ = tell.send(());
            }
        }
    }
}

/// A task's state, as it is in JSON.
fn word(task: &Task) -> String {
    let state = serde_json::to_value(task.status.state).expect("a state is a word");
    state.as_str().expect("a state is a word").to_owned()
}

/// What one watcher saw between the marks.
struct Seen {
    /// Of all the data, byte by byte: watchers of the same are sent the same.
    digest: u64,
    events: usize,
    last: Instant,
    /// The data itself, of one of them.
    kept: Vec<Vec<u8>>,
}

/// Returns once all are told where they begin.
async fn watch(token: &str) -> JoinSet<Seen> {
    let (ready, mut readies) = mpsc::channel(WATCHERS);
    let mut watchers = JoinSet::new();
    for number in 0..WATCHERS {
        watchers.spawn(one(token.to_owned(), number == 0, ready.clone()));
    }
    for _ in 0..WATCHERS {
        readies.recv().await.expect("the watchers hold on to it");
    }
    watchers
}

async fn one(token: String, keeps: bool, ready: mpsc::Sender<()>) -> Seen {
    let mut stream = TcpStream::connect(ADDRESS).await.expect("the daemon serves HTTP");
    // Version 1.0: the body comes as it is, without chunks, and ends with the connection.
    let request = format!(
        "GET /api/v1/watch?kind=task&kind=config HTTP/1.0\r\nHost: {ADDRESS}\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("the daemon reads");
    let mut lines = BufReader::with_capacity(64 << 10, stream);
    let mut line = Vec::new();
    let (mut status, mut event) = (Vec::new(), Vec::new());
    let (mut hasher, mut has_begun) = (DefaultHasher::new(), false);
    let mut seen = Seen { digest: 0, events: 0, last: Instant::now(), kept: Vec::new() };
    let mut ready = Some(ready);
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line).await.expect("the stream can be read");
        assert!(read > 0, "the stream has ended after {:?}", String::from_utf8_lossy(&status));
        if status.is_empty() {
            status.clone_from(&line);
            assert!(status.windows(5).any(|part| part == b" 200 "), "{:?}", String::from_utf8_lossy(&status));
        } else if let Some(name) = line.strip_prefix(b"event: ") {
            assert!(!name.starts_with(b"resync"), "a watcher missed something, and was told");
            event = name.to_vec();
            if let Some(ready) = ready.take() {
                ready.send(()).await.expect("all are waited for");
            }
        } else if let Some(data) = line.strip_prefix(b"data: ").filter(|_| event.starts_with(b"change")) {
            if data[..data.len().min(FRONT)].windows(MARK.len()).any(|part| part == MARK) {
                if has_begun {
                    return Seen { digest: hasher.finish(), ..seen };
                }
                has_begun = true;
            } else if has_begun {
                hasher.write(data);
                seen.events += 1;
                seen.last = Instant::now();
                if keeps {
                    seen.kept.push(data.to_vec());
                }
            }
        }
    }
}

/// All of them saw what happened, all of it, in order.
fn compare(seen: &[Seen], truth: &Told) {
    assert_eq!(seen.len(), WATCHERS);
    let first = seen.iter().find(|seen| !seen.kept.is_empty()).expect("one keeps what it sees");
    let same = seen.iter().filter(|seen| (seen.digest, seen.events) == (first.digest, first.events)).count();
    assert_eq!(same, WATCHERS, "they saw the same");
    let steps: Vec<Step> = first.kept.iter().flat_map(|data| steps(data)).collect();
    let differs = steps.iter().zip(&truth.steps).position(|(seen, happened)| seen != happened);
    assert_eq!((differs, steps.len()), (None, truth.steps.len()), "they saw what happened");
    println!("  {WATCHERS} watchers: each saw all {} changes, in {} events", steps.len(), first.events);
}

fn steps(data: &[u8]) -> Vec<Step> {
    let data: Value = serde_json::from_slice(data).expect("an event is JSON");
    let changes = data["changes"].as_array().expect("changes are a list");
    let step = |change: &Value| {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let is_gone = change["object"].is_null();
        let state = if is_gone { GONE.to_owned() } else { text(&change["object"]["state"]) };
        (text(&change["id"]), state)
    };
    changes.iter().map(step).collect()
}
