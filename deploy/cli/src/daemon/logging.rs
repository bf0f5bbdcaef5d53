//! Log lines on stderr: `--log-level` or RUST_LOG says which, `--log-format` how they look.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use super::args::LogFormat;
use crate::ui::Failure;

/// Parts that say too much at `info`. Raft reports each attempt to reach a manager that is down as an error; what matters of
/// it (who leads, who is reachable) is said by the modules around it.
const QUIET: [&str; 4] = ["openraft=off", "h2=warn", "hyper=warn", "netlink_proto=warn"];

/// Starts the log of this process.
pub fn start(level: &str, format: LogFormat) -> Result<(), Failure> {
    let directives = if level.contains(['=', ',']) { level.to_owned() } else { format!("{level},{}", QUIET.join(",")) };
    let filter = EnvFilter::try_new(&directives).map_err(|error| {
        Failure::usage(format!("--log-level {level:?}: {error}")).hint("use info, or berth=debug,warn")
    })?;
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    let started = match format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    started.map_err(|error| Failure::new(format!("cannot start the log: {error}")))
}
