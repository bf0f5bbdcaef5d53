//! Images made from Debian's packages by `tests/images/build.sh` and `deploy/examples/hello-image.sh`, built once and
//! shared by all tests of a run.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

use crate::Output;

/// The repository's root.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

/// Where what a run makes is kept: `$CARGO_TARGET_DIR/e2e`, or `target/e2e`.
pub fn run_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("a running test has a path");
    let target = exe.ancestors().nth(3).expect("target/<profile>/deps/<test>");
    target.join("e2e")
}

/// Archive of the image `berth/hello:1`: busybox, with a web server as its command.
pub fn hello() -> PathBuf {
    archive("hello", &["deploy/examples/hello-image.sh"], &["deploy/examples/hello-image.sh", "deploy/mkimage.sh"])
}

/// A Compose file of a service `web` from [`hello`] that answers with `v<version>` at port 8080 and is started before the one
/// it takes the place of is stopped; `deploy` says more.
pub fn versions(version: u32, deploy: &str) -> String {
    format!(
        "services:
  web:
    image: berth/hello:1
    environment: {{ GREETING: v{version} }}
    ports: [\"8080:80\"]
    healthcheck: {{ test: [CMD, wget, -q, -O, /dev/null, 'http://127.0.0.1/'], start_period: 20s, start_interval: 100ms }}
    stop_grace_period: 1s
    deploy: {{ {deploy}, update_config: {{ order: start-first, parallelism: 1, monitor: 100ms }} }}
"
    )
}

/// Archive of `berth-test/<name>:1`, one of nginx, redis, postgres, socat, iperf3.
pub fn debian(name: &str) -> PathBuf {
    let recipe = format!("tests/images/{name}.sh");
    archive(name, &["tests/images/build.sh", name], &["tests/images/build.sh", &recipe, "deploy/mkimage.sh"])
}

/// Builds the archive unless it is there and newer than what it is made by.
fn archive(name: &str, command: &[&str], sources: &[&str]) -> PathBuf {
    let dir = run_dir().join("images");
    std::fs::create_dir_all(&dir).expect("the run's directory can be made");
    let out = dir.join(format!("{name}.tar"));
    let lock = File::create(dir.join(format!("{name}.lock"))).expect("a lock file can be made");
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).expect("a lock can be taken");
    let modified = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
    let newest = sources.iter().filter_map(|source| modified(&repository().join(source))).max();
    if modified(&out) < newest {
        let script = repository().join(command[0]);
        Output::of(Command::new(script).args(&command[1..]).arg(&out), None).ok();
    }
    out
}
