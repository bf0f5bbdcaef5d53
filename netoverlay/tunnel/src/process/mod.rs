//! The process that is a userspace device: a TUN device, a UDP socket and WireGuard between them.
//!
//! Started by [`crate::kernel::Linux`] through a program that calls [`run`]; it outlives its starter, serves its
//! settings on a socket ([`crate::uapi`]), and ends when that socket's file or its TUN device is taken away. Must use
//! no async runtime and no part of the daemon: one process per key, tens of kilobytes each.
//!
//! Three threads: the main one serves settings and timers, one carries packets out, one carries them in.

mod control;
mod device;
mod inward;
mod outward;
mod peers;
mod privileges;
mod sender;
mod tun;

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::TunnelError;
use crate::name::DeviceName;

use control::Control;
use device::Device;

/// Ends the command line of the second of the two processes.
const INNER: &str = "--inner";
const READY: &str = "ready";
/// Before what runs in containers.
const NICENESS: i32 = -10;

/// Where a device's process serves its settings.
pub(crate) fn socket_path(directory: &Path, name: &DeviceName) -> PathBuf {
    directory.join(format!("{name}.sock"))
}

/// The program `berth-tunnel NAME --directory PATH`, given what follows its name. Comes back when the device is
/// there and its process runs on its own. The program is started a second time with the same arguments and one more; it
/// then has to call this again, and that call comes back only with an error.
///
/// What a caller prints of an error (with its sources) on stderr reaches whoever asked for the device.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Result<(), TunnelError> {
    let arguments = Arguments::parse(args)?;
    if arguments.inner { serve(&arguments) } else { start(&arguments.name) }
}

struct Arguments {
    name: DeviceName,
    directory: PathBuf,
    inner: bool,
}

impl Arguments {
    fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, TunnelError> {
        let (mut name, mut directory, mut inner) = (None, None, false);
        let mut args = args.into_iter();
        while let Some(argument) = args.next() {
            match argument.to_str() {
                Some("--directory") => directory = args.next().map(PathBuf::from),
                Some(INNER) => inner = true,
                Some(text) if name.is_none() => name = Some(DeviceName::parse(text)?),
                _ => return Err(TunnelError::Usage),
            }
        }
        match (name, directory) {
            (Some(name), Some(directory)) => Ok(Self { name, directory, inner }),
            _ => Err(TunnelError::Usage),
        }
    }
}

/// The first process: starts the second and waits until it is ready. As its parent is then gone, the second belongs to
/// nobody who would have to reap it.
fn start(name: &DeviceName) -> Result<(), TunnelError> {
    let fail = |action| move |source| TunnelError::Process { name: name.to_string(), action, source };
    // The file itself, which an update of the program may have replaced under its path.
    let mut child = Command::new("/proc/self/exe")
        .arg0("berth-tunnel")
        .args(std::env::args_os().skip(1))
        .arg(INNER)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(fail("start its process"))?;
    let mut said = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut said).map_err(fail("hear of its process"))?;
    }
    if said.trim() == READY {
        return Ok(());
    }
    let status = child.wait().map_err(fail("wait for its process"))?;
    let said = if said.is_empty() { status.to_string() } else { said.trim().to_owned() };
    Err(TunnelError::NotReady { name: name.to_string(), said })
}

/// The second process.
fn serve(arguments: &Arguments) -> Result<(), TunnelError> {
    let error = match prepare(arguments) {
        Ok(control) => control.run(),
        Err(error) => error,
    };
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    // To the first process; to nobody when it has gone.
    let _ = writeln!(io::stdout(), "{text}");
    Err(error)
}

fn prepare(arguments: &Arguments) -> Result<Control, TunnelError> {
    let Arguments { name, directory, .. } = arguments;
    let fail = |action| move |source: io::Error| TunnelError::Process { name: name.to_string(), action, source };
    // Away from the starter's terminal and its signals.
    rustix::process::setsid().map_err(|e| fail("leave its session")(e.into()))?;
    std::env::set_current_dir("/").map_err(fail("leave its directory"))?;
    // The network is for all of the node's containers: those that take all the processors must not stop it. Refused
    // without the privilege, and then it has its share like everything else.
    let _ = rustix::process::setpriority_process(None, NICENESS);
    let tun = tun::open(name).map_err(fail("open /dev/net/tun"))?;
    let path = socket_path(directory, name);
    let listener = UnixListener::bind(&path).map_err(fail("listen on its socket"))?;
    let control = Control::new(Arc::new(Device::new(name.clone(), tun)), listener, path)?;
    privileges::keep_network_only().map_err(fail("give up privileges"))?;
    writeln!(io::stdout(), "{READY}").map_err(fail("say that it is ready"))?;
    let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null").map_err(fail("open /dev/null"))?;
    rustix::stdio::dup2_stdout(&nowhere).map_err(|e| fail("let go of its output")(e.into()))?;
    Ok(control)
}
