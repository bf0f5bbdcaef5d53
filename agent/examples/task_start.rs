//! Measures starts: create to the command's `execve`, as JSON lines of nanoseconds.
//!
//! `task_start ROOTFS [COUNT] [NETNS]`: containers with limits, the default filter and a network namespace
//! (a new one, or the prepared one at NETNS), one after the other. `start_ns` ends when the word that the
//! command was executed has come back, so it is an upper bound of its first instruction.

use std::path::PathBuf;
use std::time::Instant;

use berth_agent::runtime::{
    ContainerConfig, Layers, NetworkMode, Runtime, RuntimeError, ShimRuntime, ShimRuntimeOptions,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rootfs = PathBuf::from(arguments.first().ok_or("usage: task_start ROOTFS [COUNT] [NETNS]")?);
    let count: usize = arguments.get(1).map_or(Ok(50), |text| text.parse())?;
    let dir = tempfile::tempdir()?;
    let runtime = ShimRuntime::new(ShimRuntimeOptions {
        tasks_dir: dir.path().join("tasks"),
        runtime_dir: dir.path().join("runtime"),
        cgroup_parent: format!("/berth-bench-{}", std::process::id()),
    })?;
    let mut config = ContainerConfig::new(["/bin/busybox", "sleep", "1000"]);
    config.resources.memory = Some(64 << 20);
    config.resources.nano_cpus = Some(1_000_000_000);
    config.resources.pids_limit = Some(100);
    if let Some(path) = arguments.get(2) {
        config.network = NetworkMode::Path(path.into());
    }
    let layers = Layers { lower: vec![rootfs] };
    // The first one compiles the filter.
    start(&runtime, "warm-up", &config, &layers).await?;
    for number in 0..count {
        println!("{}", start(&runtime, &format!("t{number}"), &config, &layers).await?);
    }
    Ok(())
}

async fn start(
    runtime: &ShimRuntime,
    id: &str,
    config: &ContainerConfig,
    layers: &Layers,
) -> Result<serde_json::Value, RuntimeError> {
    let begin = Instant::now();
    let created = runtime.create(id, config, layers).await?;
    let create = begin.elapsed();
    runtime.start(id).await?;
    let total = begin.elapsed();
    let shim = std::fs::read_to_string(format!("/proc/{}/status", created.pid))
        .ok()
        .and_then(|status| status.lines().find_map(|line| line.strip_prefix("PPid:").map(|pid| pid.trim().to_owned())))
        .and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok())
        .unwrap_or_default();
    let memory = |name: &str| -> Option<u64> {
        let line = shim.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().strip_suffix(" kB")?.parse().ok()
    };
    let begin = Instant::now();
    runtime.purge(id).await?;
    Ok(serde_json::json!({
        "create_ns": create.as_nanos() as u64,
        "start_ns": total.as_nanos() as u64,
        "purge_ns": begin.elapsed().as_nanos() as u64,
        "shim_pss_kb": memory("Pss"),
        "shim_private_dirty_kb": memory("Private_Dirty"),
    }))
}
