//! The agent with everything real but the manager: tasks from assignment to removal, and what people ask of the node.
//! Needs root, a static busybox, and namespaces.
#![allow(clippy::unwrap_used)]

mod agent_support;

use std::collections::BTreeMap;
use std::time::Duration;

use agent_support::{World, item, shell};
use berth_proto::content::ContentDigest;
use berth_proto::id::{ConfigId, NodeId};
use berth_proto::pb::{self, assignment, exec_input, exec_output};
use berth_proto::spec::{
    BindMount, ContainerSpec, FileMount, HealthTest, Healthcheck, ImageMount, Mount, MountKind, PortConfig, Protocol,
    PublishMode, VolumeMount,
};
use berth_proto::state::{DesiredState, HealthState, NodeRole, TaskState};
use tokio_stream::StreamExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_runs_from_assignment_to_removal() {
    let world = World::new().await;
    let mut spec =
        shell("echo $FROM $SLOT $(hostname) $(pwd); trap 'echo bye; exit 7' TERM; while :; do sleep 0.1; done");
    spec.env = BTreeMap::from([("SLOT".into(), "{{.Service.Name}}-{{.Task.Slot}}".into())]);
    spec.hostname = Some("box".into());
    let task = world.assign(spec).await;
    let running = world.until(task, TaskState::Running).await;
    assert!(running.container.unwrap().pid > 0);
    world.written(task, "image web-10 box /work").await;

    world.want(task, DesiredState::Shutdown).await;
    let ended = world.until(task, TaskState::Shutdown).await;
    assert_eq!(ended.container.unwrap().exit_code, Some(7));
    assert_eq!(world.output(task).await.last().map(String::as_str), Some("bye"), "the log outlives the container");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_life_of_the_agent_adopts_the_same_process() {
    let mut world = World::new().await;
    let kept = world.assign(shell("while :; do echo tick; sleep 0.1; done")).await;
    let gone = world.assign(shell("sleep 600")).await;
    let pid = world.until(kept, TaskState::Running).await.container.unwrap().pid;
    let other = world.until(gone, TaskState::Running).await.container.unwrap().pid;
    world.end().await;
    // It ends while nobody looks.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(other), nix::sys::signal::SIGKILL).unwrap();
    world.begin().await;
    let again = world.until(kept, TaskState::Running).await;
    assert_eq!(again.container.unwrap().pid, pid);
    let failed = world.until(gone, TaskState::Failed).await;
    assert_eq!(failed.container.unwrap().exit_code, Some(137));
    world.written(kept, "tick").await;
    world.want(kept, DesiredState::Shutdown).await;
    world.until(kept, TaskState::Shutdown).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_part_of_the_cluster_is_asked_but_managers_are_known() {
    use NodeRole::{Manager, Worker};
    use tonic::Code::{Ok, PermissionDenied, Unavailable};
    let mut world = World::new().await;
    let known = agent_support::membership();
    world.membership().wait_for(|membership| membership.as_ref() == Some(&known)).await.unwrap();
    let standing = world.standing();
    let check = async |standing: &berth_agent::Standing, number, role| {
        standing.check(NodeId::from_random(number), role).await.map_or_else(|status| status.code(), |()| Ok)
    };
    for (number, role, wanted) in [
        (1, Manager, Ok),
        (2, Worker, Ok),
        (2, Manager, PermissionDenied),
        (3, Manager, Ok),
        (4, Worker, PermissionDenied),
    ] {
        assert_eq!(check(&standing, number, role).await, wanted, "node {number} as {role}");
    }
    world.end().await;
    world.begin_alone().await;
    let standing = world.standing();
    assert_eq!(check(&standing, 1, Manager).await, Ok, "a manager from the records");
    assert_eq!(check(&standing, 2, Worker).await, Unavailable);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_no_manager_at_all_a_new_life_runs_what_it_was_given() {
    let mut world = World::new().await;
    let task = world.assign(shell("i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.1; done")).await;
    let pid = world.until(task, TaskState::Running).await.container.unwrap().pid;
    let known = agent_support::membership();
    world.membership().wait_for(|membership| membership.as_ref() == Some(&known)).await.unwrap();
    world.end().await;
    world.begin_alone().await;
    assert_eq!(world.membership().borrow().as_ref(), Some(&known), "from the records");
    world.knows(task).await;
    let ticks = world.output(task).await.len();
    world.written(task, &format!("tick {}", ticks + 5)).await;
    assert_eq!(exec(&world, task, &["echo", "here"]).await, ("here\n".into(), 0), "the agent has adopted it");
    world.end().await;
    world.begin().await;
    assert_eq!(world.until(task, TaskState::Running).await.container.unwrap().pid, pid);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_of_a_node_that_was_removed_ends_its_containers_and_itself() {
    let mut world = World::new().await;
    let task = world.assign(shell("trap 'echo bye; exit 0' TERM; while :; do sleep 0.1; done")).await;
    let pid = world.until(task, TaskState::Running).await.container.unwrap().pid;
    world.removed().await;
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "its process is gone");
    let left = std::fs::read_dir(world.config.data_dir.join("tasks")).unwrap().count();
    assert_eq!(left, 0, "nothing of the task is left");
    // A life after it knows of nothing to run.
    world.begin().await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_run_is_rejected_with_the_reason() {
    let world = World::new().await;
    let missing = ContainerSpec { command: Some(vec!["nothere".into()]), ..ContainerSpec::default() };
    let no_image = ContainerSpec {
        image: "test/none:1".into(),
        pull_policy: berth_proto::spec::PullPolicy::Never,
        ..ContainerSpec::default()
    };
    let bind = BindMount {
        source: "/no/such/path".into(),
        create_host_path: false,
        propagation: Default::default(),
        non_recursive: false,
    };
    let no_source = ContainerSpec {
        mounts: vec![Mount { target: "/x".into(), read_only: false, kind: MountKind::Bind(bind) }],
        ..shell("true")
    };
    let table = [
        (missing, "nothere"),
        (no_image, "no such image on this node: test/none:1"),
        (no_source, "bind source /no/such/path does not exist on this node"),
        (ContainerSpec { hostname: Some("{{.Nope}}".into()), ..shell("true") }, "unknown placeholder '{{.Nope}}'"),
    ];
    for (spec, expected) in table {
        let task = world.assign(spec).await;
        let status = world.until(task, TaskState::Rejected).await;
        assert!(status.error.contains(expected), "{}", status.error);
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_makes_a_task_running_and_then_fails_it() {
    let world = World::new().await;
    let mut spec = shell("sleep 600");
    spec.healthcheck = Some(Healthcheck {
        test: Some(HealthTest::Shell("echo probing; test -e /tmp/ok".into())),
        interval: Duration::from_millis(200),
        retries: 2,
        ..Healthcheck::default()
    });
    spec.healthcheck.as_mut().unwrap().start_period = Duration::from_secs(60);
    spec.healthcheck.as_mut().unwrap().start_interval = Duration::from_millis(100);
    let task = world.assign(spec).await;
    let starting = world.until_status(task, "starting", |s| s.health == Some(HealthState::Starting)).await;
    assert_eq!(starting.state, TaskState::Starting);
    assert_eq!(exec(&world, task, &["touch", "/tmp/ok"]).await, (String::new(), 0));
    world.until(task, TaskState::Running).await;
    assert_eq!(exec(&world, task, &["sh", "-c", "busybox rm /tmp/ok"]).await.1, 0);
    let failed = world.until(task, TaskState::Failed).await;
    assert!(failed.error.starts_with("unhealthy: "), "{}", failed.error);
    assert!(failed.error.ends_with("the last probe exited with code 1: probing"), "{}", failed.error);
    let request = pb::TaskHealthRequest { task_id: task.to_string() };
    let health = world.node().task_health(request).await.unwrap().into_inner().health.unwrap();
    assert_eq!((health.state(), health.failing_streak), (pb::HealthState::Unhealthy, 2));
    let last = health.probes.last().unwrap();
    assert_eq!((last.exit_code, last.output.as_str()), (Some(1), "probing\n"));
    assert!(health.probes.iter().any(|probe| probe.exit_code == Some(0)), "{health:?}");
    world.finish().await;
}

/// One content of a config or secret, as the managers send it.
fn content(name: &str, digest: u8, data: &'static [u8]) -> pb::AssignedFile {
    let content = pb::Content { digest: vec![digest; 32].into(), data: data.into(), ..Default::default() };
    pb::AssignedFile { id: ConfigId::from_random(1).to_string(), name: name.into(), content: Some(content) }
}

fn mount(file: &pb::AssignedFile, target: &str) -> FileMount {
    let digest = file.content.as_ref().unwrap().digest[..].try_into().unwrap();
    FileMount {
        source: file.name.clone(),
        target: target.into(),
        uid: "0".into(),
        gid: "0".into(),
        mode: 0o444,
        digest: Some(ContentDigest(digest)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_task_sees_exactly_the_content_that_its_spec_names() {
    let world = World::new().await;
    let (old, new) = (content("conf", 1, b"old"), content("conf", 2, b"new"));
    let mut template = content("filled", 3, b"slot {{.Task.Slot}} {{env \"MODE\"}} {{config \"conf\"}}");
    template.content.as_mut().unwrap().template_driver = pb::TemplateDriver::Golang.into();
    let items = [&old, &new, &template].map(|file| item(assignment::Item::Config(file.clone())));
    world.change(items.to_vec(), Vec::new()).await;
    let spec = |file: &pb::AssignedFile| ContainerSpec {
        configs: vec![mount(file, "/conf"), FileMount { mode: 0o4750, ..mount(&template, "/filled") }],
        env: BTreeMap::from([("MODE".into(), "fast".into())]),
        ..shell("cat /conf; echo; cat /filled; echo; stat -c '%u %g %a' /filled; sleep 600")
    };
    for (file, word) in [(&old, "old"), (&new, "new"), (&old, "old")] {
        let task = world.assign(spec(file)).await;
        world.until(task, TaskState::Running).await;
        world.written(task, "0 0 4750").await;
        let said = world.output(task).await;
        assert_eq!(said[0], word);
        assert!(said[1].starts_with("slot ") && said[1].ends_with(&format!(" fast {word}")), "{said:?}");
    }
    // What was withdrawn is not replaced by the other content.
    let key = pb::FileKey { id: old.id.clone(), digest: vec![1; 32].into() };
    let key = pb::AssignmentKey { key: Some(pb::assignment_key::Key::Config(key)) };
    world.change(Vec::new(), vec![key]).await;
    let late = world.assign(spec(&old)).await;
    let status = world.until(late, TaskState::Rejected).await;
    assert!(status.error.contains("the managers did not send this config"), "{}", status.error);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_keep_data_and_secrets_have_their_owner() {
    let world = World::new().await;
    let volume = |name: Option<&str>| {
        MountKind::Volume(VolumeMount {
            name: name.map(|name| name.parse().unwrap()),
            name_template: None,
            no_copy: false,
            subpath: None,
            driver: None,
            driver_options: BTreeMap::new(),
            labels: BTreeMap::new(),
        })
    };
    let key = content("key", 1, b"s3cret");
    world.change(vec![item(assignment::Item::Secret(key.clone()))], Vec::new()).await;
    let spec = |script: &str| ContainerSpec {
        mounts: vec![
            Mount { target: "/data".into(), read_only: false, kind: volume(Some("kept")) },
            Mount { target: "/anon".into(), read_only: false, kind: volume(None) },
        ],
        secrets: vec![FileMount {
            uid: "web".into(),
            gid: "33".into(),
            mode: 0o440,
            ..mount(&key, "/run/secrets/key")
        }],
        ..shell(script)
    };
    let first = world
        .assign(spec(
            "cat /data/seed /run/secrets/key; echo; stat -c '%u %g %a' /run/secrets/key; echo mine > /data/own",
        ))
        .await;
    world.until(first, TaskState::Complete).await;
    assert_eq!(world.output(first).await, ["from the image", "s3cret", "33 33 440"]);
    let second = world.assign(spec("cat /data/own; touch /anon/x; sleep 600")).await;
    world.until(second, TaskState::Running).await;
    world.written(second, "mine").await;

    let volumes = world.node().local_volume_list(pb::LocalVolumeListRequest {}).await.unwrap().into_inner().volumes;
    let named: Vec<_> = volumes.iter().map(|volume| (volume.anonymous, volume.in_use)).collect();
    assert_eq!(named.len(), 2, "the first task's anonymous volume went with it: {volumes:?}");
    let request = pb::LocalVolumeRemoveRequest { names: vec!["kept".into()], force: false };
    let error = world.node().local_volume_remove(request.clone()).await.unwrap_err();
    assert!(error.message().contains("in use by 1 task"), "{error}");
    world.want(second, DesiredState::Shutdown).await;
    world.until(second, TaskState::Shutdown).await;
    let mut removed = world.node().local_volume_remove(request.clone()).await;
    for _ in 0..500 {
        if removed.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        removed = world.node().local_volume_remove(request.clone()).await;
    }
    assert_eq!(removed.unwrap().into_inner().removed, ["kept"]);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_mounted_whole_or_in_part_and_never_written() {
    let world = World::new().await;
    let mount = |target: &str, subpath: Option<&str>| {
        let image = ImageMount { source: agent_support::image::NAME.into(), subpath: subpath.map(str::to_owned) };
        Mount { target: target.into(), read_only: false, kind: MountKind::Image(image) }
    };
    let script = "cat /whole/data/seed /part/seed; touch /whole/x /part/x 2>&1; echo done; sleep 600";
    let mounts = vec![mount("/whole", None), mount("/part", Some("data"))];
    let task = world.assign(ContainerSpec { mounts, ..shell(script) }).await;
    world.until(task, TaskState::Running).await;
    world.written(task, "done").await;
    let lines = world.output(task).await;
    assert_eq!(lines[..2], ["from the image", "from the image"]);
    assert_eq!(lines.iter().filter(|line| line.ends_with("Read-only file system")).count(), 2, "{lines:?}");

    for outside in ["no/such", "../.."] {
        let mounts = vec![mount("/part", Some(outside))];
        let task = world.assign(ContainerSpec { mounts, ..shell("true") }).await;
        let status = world.until(task, TaskState::Rejected).await;
        assert!(status.error.contains("volumes (/part)") && status.error.contains(outside), "{}", status.error);
    }
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_go_in_and_out_of_a_container() {
    let world = World::new().await;
    let task = world.assign(shell("sleep 600")).await;
    world.until(task, TaskState::Running).await;
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o600);
    archive.append_data(&mut header, "sub/file", b"hello".as_slice()).unwrap();
    let target = pb::copy_to_chunk::Target { task_id: task.to_string(), path: "/tmp".into(), keep_owner: false };
    let chunk = |chunk| pb::CopyToChunk { chunk: Some(chunk) };
    let stream = vec![
        chunk(pb::copy_to_chunk::Chunk::Target(target)),
        chunk(pb::copy_to_chunk::Chunk::Data(archive.into_inner().unwrap().into())),
    ];
    world.node().copy_to(tokio_stream::iter(stream)).await.unwrap();
    assert_eq!(exec(&world, task, &["cat", "/tmp/sub/file"]).await, ("hello".into(), 0));
    let request = pb::CopyFromRequest { task_id: task.to_string(), path: "/tmp/sub".into(), follow_link: false };
    let mut chunks = world.node().copy_from(request).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk.unwrap().data);
    }
    let mut archive = tar::Archive::new(&bytes[..]);
    let names: Vec<_> = archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
    assert_eq!(names, ["sub/", "sub/file"]);
    let request = pb::CopyFromRequest { task_id: task.to_string(), path: "/none".into(), follow_link: false };
    assert_eq!(world.node().copy_from(request).await.unwrap_err().code(), tonic::Code::NotFound);

    let request = pb::StatsRequest { task_ids: vec![task.to_string()], interval: 0 };
    let samples: Vec<_> = world.node().stats(request).await.unwrap().into_inner().collect().await;
    let sample = samples[0].as_ref().unwrap();
    assert!(sample.pids >= 1 && sample.memory_bytes > 0, "{sample:?}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_port_answers_while_its_task_runs() {
    let world = World::new().await;
    let port = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    let spec = shell("cd /data; exec httpd -f -p 80");
    let task = world
        .assign_with(spec, |task, _| {
            task.host_ports = vec![PortConfig {
                name: None,
                protocol: Protocol::Tcp,
                target: 80,
                published: Some(port),
                mode: PublishMode::Host,
                host_ip: None,
            }];
        })
        .await;
    world.until(task, TaskState::Running).await;
    let mut answer = String::new();
    for _ in 0..500 {
        answer = get(port).await.unwrap_or_else(|error| error.to_string());
        if answer.contains("from the image") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(answer.contains("from the image"), "{answer}");
    world.want(task, DesiredState::Shutdown).await;
    world.until(task, TaskState::Shutdown).await;
    assert!(get(port).await.is_err());
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_of_a_service_follow_its_replicas() {
    let world = World::new().await;
    let service = berth_proto::id::ServiceId::from_random(77);
    let first = world.assign_with(shell("echo one; sleep 600"), |task, _| task.service = service).await;
    world.until(first, TaskState::Running).await;
    let request = pb::LogsRequest { service_id: Some(service.to_string()), follow: true, ..Default::default() };
    let mut records = world.node().logs(request).await.unwrap().into_inner();
    let next = async |records: &mut tonic::Streaming<pb::LogRecord>| {
        let record = tokio::time::timeout(agent_support::PATIENCE, records.next()).await.expect("no record came");
        String::from_utf8(record.unwrap().unwrap().line.to_vec()).unwrap()
    };
    assert_eq!(next(&mut records).await, "one");
    world.withdraw(first).await;
    let second = world.assign_with(shell("echo two; sleep 600"), |task, _| task.service = service).await;
    assert_eq!(next(&mut records).await, "two");
    world.until(second, TaskState::Running).await;
    drop(records);
    world.finish().await;
}

async fn get(port: u16) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET /seed HTTP/1.0\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// Runs a command in a task; its output and exit code.
async fn exec(world: &World, task: berth_proto::id::TaskId, command: &[&str]) -> (String, i32) {
    let start = pb::ExecStart {
        task_id: task.to_string(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        ..Default::default()
    };
    let inputs = vec![pb::ExecInput { input: Some(exec_input::Input::Start(start)) }];
    let mut outputs = world.node().exec(tokio_stream::iter(inputs)).await.unwrap().into_inner();
    let (mut text, mut code) = (String::new(), None);
    while let Some(output) = outputs.next().await {
        match output.unwrap().output {
            Some(exec_output::Output::Stdout(data) | exec_output::Output::Stderr(data)) => {
                text.push_str(&String::from_utf8_lossy(&data));
            }
            Some(exec_output::Output::ExitCode(exit)) => code = Some(exit),
            _ => {}
        }
    }
    (text, code.expect("an exec says how it ended"))
}
