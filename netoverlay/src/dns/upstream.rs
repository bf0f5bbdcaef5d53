//! The node's own resolver settings: `/etc/resolv.conf` as resolv.conf(5) has it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Most servers that are asked.
const MAX_SERVERS: usize = 3;

/// Who to ask, and how names are completed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upstream {
    /// Servers in order.
    pub servers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

impl Upstream {
    /// Reads the text of a resolv.conf. What cannot be read is left out.
    pub fn parse(text: &str) -> Self {
        let mut upstream = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") if upstream.servers.len() < MAX_SERVERS => {
                    // A zone (`fe80::1%eth0`) is left out: such a server is not reached from elsewhere.
                    upstream.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
                }
                // The last of several lines wins.
                Some("search" | "domain") => upstream.search = words.map(str::to_owned).collect(),
                Some("options") => upstream.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        upstream
    }
}

/// The file, read again when it changed.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    last: Mutex<(Option<SystemTime>, Arc<Upstream>)>,
}

impl Watched {
    pub fn new(path: PathBuf) -> Self {
        let watched = Self { path, last: Mutex::default() };
        watched.get();
        watched
    }

    /// What the file says now; what it said last if it cannot be read.
    pub fn get(&self) -> Arc<Upstream> {
        let changed = modified(&self.path);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.is_some()
            && last.0 != changed
            && let Ok(text) = std::fs::read_to_string(&self.path)
        {
            *last = (changed, Arc::new(Upstream::parse(&text)));
        }
        last.1.clone()
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|m| m.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read() {
        let text = "# x\nnameserver 10.0.0.1 # main\nnameserver fe80::1%eth0\nnameserver ::1\ndomain a.example\n\
                    search b.example c.example\noptions ndots:2 rotate\n";
        let upstream = Upstream::parse(text);
        assert_eq!(upstream.servers, ["10.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert_eq!(upstream.search, ["b.example", "c.example"]);
        assert_eq!(upstream.options, ["ndots:2", "rotate"]);
    }
}
