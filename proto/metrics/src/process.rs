//! The process itself, under the names that every client library of Prometheus gives it, and what was built. Read from
//! proc(5) when somebody looks.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::figures::{Figures, collector};

/// A part with the process' own figures, and the version of the program.
pub fn registry(version: &'static str) -> Registry {
    let mut registry = Registry::default();
    let build = Info::new([("version", version), ("architecture", std::env::consts::ARCH)]);
    registry.register("berth_build", "The program that runs", build);
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    registry.register_collector(collector("process", move |figures| write(figures, started)));
    registry
}

fn write(figures: &mut Figures<'_>, started: f64) -> std::fmt::Result {
    let stat = fs::read_to_string("/proc/self/stat").ok().and_then(|text| Stat::parse(&text)).unwrap_or_default();
    #[allow(clippy::cast_precision_loss, reason = "a number of ticks that fits for a thousand years")]
    let cpu = stat.ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    let page = rustix::param::page_size() as u64;
    figures.counter("process_cpu_seconds", "Time on processors, in user and system mode", cpu)?;
    figures.gauge("process_resident_memory_bytes", "Memory in use", stat.resident_pages * page)?;
    figures.gauge("process_virtual_memory_bytes", "Addresses in use", stat.virtual_bytes)?;
    figures.gauge("process_threads", "Threads of the process", stat.threads)?;
    figures.gauge("process_start_time_seconds", "When the process began, seconds since 1970", started)?;
    let open = fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64);
    figures.gauge("process_open_fds", "Open files", open)?;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    #[allow(clippy::cast_precision_loss, reason = "a limit, not a count")]
    figures.gauge("process_max_fds", "Files that may be open", limit as f64)
}

/// What is read of `/proc/self/stat`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stat {
    ticks: u64,
    threads: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    /// Fields are counted after the name, which may hold anything (proc_pid_stat(5)).
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            ticks: field(14)? + field(15)?,
            threads: field(20)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Format, Scrape};

    #[test]
    fn a_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 30 12 0 0 20 0 5 0 999 4096000 250 184467";
        assert_eq!(
            Stat::parse(text),
            Some(Stat { ticks: 42, threads: 5, virtual_bytes: 4_096_000, resident_pages: 250 })
        );
        assert_eq!(Stat::parse("7 (a"), None);
    }

    #[tokio::test]
    async fn this_process_has_memory_files_and_a_version() {
        let text = Scrape::default().with(Arc::new(registry("1.2.3"))).text(Format::Prometheus).await;
        assert!(text.contains("berth_build_info{version=\"1.2.3\""), "{text}");
        for name in ["process_resident_memory_bytes ", "process_open_fds ", "process_threads "] {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            assert!(line.trim_start_matches(name).parse::<f64>().unwrap() > 0.0, "{line}");
        }
    }
}
