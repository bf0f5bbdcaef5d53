//! From the call that creates a container to its first instruction: Berth's runtime, Debian's runc on the same OCI
//! configuration, and a bare clone3 with the same namespaces. Rounds alternate between the three.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use berth_agent::runtime::{ContainerConfig, Layers, Mount, Resources, Runtime, ShimRuntime, ShimRuntimeOptions};
use berth_tests::Output;

use crate::bare;
use crate::clock::monotonic;
use crate::figures::Samples;

const ROUNDS: usize = 50;

pub fn run() {
    let dir = tempfile::tempdir().expect("a directory for the bench");
    let lab = Lab::new(dir.path());
    let runtime = tokio::runtime::Runtime::new().expect("a tokio runtime");
    let (mut ours, mut runc, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    // The first round fills caches (system call filter, page cache) and is not counted.
    for round in 0..=ROUNDS {
        let sample = (runtime.block_on(lab.berth(round)), lab.runc(round), lab.bare());
        if round > 0 {
            ours.push(sample.0);
            runc.push(sample.1);
            bare.push(sample.2);
        }
    }
    let ours = Samples::new("create to first instruction: berth", ours);
    let runc = Samples::new("create to first instruction: runc", runc);
    let bare = Samples::new("create to first instruction: bare clone3", bare);
    for samples in [&ours, &runc, &bare] {
        samples.print();
    }
    ours.ratio(&runc);
    ours.ratio(&bare);
}

/// A root filesystem with the probe, and a place where it leaves its stamp.
struct Lab {
    dir: PathBuf,
    root: PathBuf,
    out: PathBuf,
    runtime: ShimRuntime,
}

impl Lab {
    fn new(dir: &Path) -> Self {
        let (root, out) = (dir.join("root"), dir.join("out"));
        for path in [&root, &out, &root.join("bin"), &root.join("proc"), &root.join("out"), &root.join("etc")] {
            fs::create_dir_all(path).expect("the bench's directory is writable");
        }
        let source = berth_tests::image::repository().join("tests/bench/probe.c");
        Output::of(Command::new("gcc").args(["-O2", "-static", "-o"]).arg(root.join("bin/probe")).arg(source), None)
            .ok();
        let options = ShimRuntimeOptions { cgroup_parent: "/berth-bench".into(), ..ShimRuntimeOptions::under(dir) };
        let runtime = ShimRuntime::new(options).expect("the runtime opens");
        Self { dir: dir.to_owned(), root, out, runtime }
    }

    fn config(&self) -> ContainerConfig {
        let mut config = ContainerConfig::new(["/bin/probe", "/out/stamp"]);
        config.hostname = "bench".into();
        config.mounts = vec![Mount::bind(&self.out, "/out")];
        config.resources = Resources {
            memory: Some(64 << 20),
            nano_cpus: Some(500_000_000),
            pids_limit: Some(100),
            ..Resources::default()
        };
        config
    }

    async fn berth(&self, round: usize) -> Duration {
        let id = format!("bench-{round}");
        let begin = monotonic();
        let layers = Layers { lower: vec![self.root.clone()] };
        self.runtime.create(&id, &self.config(), &layers).await.expect("created");
        self.runtime.start(&id).await.expect("started");
        let exit = self.runtime.wait(&id).await.expect("ended");
        assert_eq!(exit.code, Some(0), "the probe failed");
        if round == 0 {
            self.keep_bundle(&id);
        }
        self.runtime.purge(&id).await.expect("purged");
        self.since(begin)
    }

    /// The configuration that Berth made, for runc: the same but for the root and the control group.
    fn keep_bundle(&self, id: &str) {
        let made = find(&self.dir.join("tasks").join(id), "config.json").expect("a bundle has a config.json");
        let text = fs::read(made).expect("readable");
        let mut config: serde_json::Value = serde_json::from_slice(&text).expect("an OCI configuration");
        config["root"]["path"] = self.root.to_str().expect("UTF-8").into();
        config["linux"]["cgroupsPath"] = "/berth-bench/runc".into();
        // runc refuses to raise what this machine's root lacks, as does the kernel; files of the task's own are gone.
        let own = self.dir.join("tasks").display().to_string();
        if let Some(mounts) = config["mounts"].as_array_mut() {
            mounts.retain(|mount| !mount["source"].as_str().is_some_and(|source| source.starts_with(&own)));
        }
        let bundle = self.dir.join("bundle");
        fs::create_dir_all(&bundle).expect("writable");
        fs::write(bundle.join("config.json"), config.to_string()).expect("writable");
    }

    fn runc(&self, round: usize) -> Duration {
        let id = format!("berth-bench-{}-{round}", std::process::id());
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.dir.join("runc")).args(["run", "--bundle"]).arg(self.dir.join("bundle")).arg(id);
        let begin = monotonic();
        Output::of(&mut command, None).ok();
        self.since(begin)
    }

    fn bare(&self) -> Duration {
        let begin = monotonic();
        bare::run(&self.root, &self.out);
        self.since(begin)
    }

    /// Time from `begin` to the stamp that the probe left.
    fn since(&self, begin: u64) -> Duration {
        let path = self.out.join("stamp");
        let stamp: u64 = fs::read_to_string(&path).expect("a stamp").trim().parse().expect("a number");
        fs::remove_file(&path).expect("the stamp is ours");
        Duration::from_nanos(stamp - begin)
    }
}

fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(dir).ok()?.flatten() {
        if entry.file_name() == name {
            return Some(entry.path());
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Some(found) = find(&entry.path(), name)
        {
            return Some(found);
        }
    }
    None
}
