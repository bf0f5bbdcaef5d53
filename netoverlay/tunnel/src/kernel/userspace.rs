//! Devices that are processes of ours: started, found again, asked, told, ended.
//!
//! A process is known by its socket, `<directory>/<device>.sock`: who answers there is the process, whoever started it.
//! Its link lives and dies with it.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use zeroize::Zeroizing;

use super::engine::Engine;
use super::links::Links;
use crate::TunnelError;
use crate::model::TunnelState;
use crate::name::{DeviceName, Instance};
use crate::process::socket_path;
use crate::uapi::{self, Change};

/// A process that does not answer for so long hangs, and is replaced.
const PATIENCE: Duration = Duration::from_secs(5);

/// The processes of one directory.
#[derive(Debug)]
pub(super) struct Userspace {
    directory: PathBuf,
    command: Vec<PathBuf>,
}

impl Userspace {
    pub fn new(directory: PathBuf, command: Vec<PathBuf>) -> Self {
        Self { directory, command }
    }

    /// `None` when nobody listens.
    fn connect(&self, name: &DeviceName) -> io::Result<Option<UnixStream>> {
        match UnixStream::connect(socket_path(&self.directory, name)) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Some(stream))
            }
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn ask(&self, name: &DeviceName, request: &str) -> io::Result<Option<Zeroizing<String>>> {
        let Some(mut stream) = self.connect(name)? else { return Ok(None) };
        stream.write_all(request.as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = Zeroizing::new(String::new());
        stream.take(uapi::MAX_TEXT as u64).read_to_string(&mut answer)?;
        let code = uapi::errno(&answer).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))?;
        if code == 0 { Ok(Some(answer)) } else { Err(io::Error::from_raw_os_error(code)) }
    }

    /// Ends the process that listens, if one does, and waits until it is gone.
    fn end(&self, name: &DeviceName) -> io::Result<()> {
        let Some(stream) = self.connect(name)? else { return Ok(()) };
        let pid = socket_peercred(&stream)?.pid;
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // The number may have gone to another process meanwhile; not if the listener is still there.
        if is_ready(&stream, PollFlags::HUP, Duration::ZERO)? {
            return Ok(());
        }
        match pidfd_send_signal(&process, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        if is_ready(&process, PollFlags::IN, PATIENCE)? { Ok(()) } else { Err(ErrorKind::TimedOut.into()) }
    }
}

fn is_ready(fd: impl AsFd, what: PollFlags, time: Duration) -> io::Result<bool> {
    let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
    let mut fds = [PollFd::new(&fd, what)];
    Ok(poll(&mut fds, Some(&time))? > 0 && fds[0].revents().intersects(what))
}

impl Engine for Userspace {
    fn link_kind(&self) -> &'static str {
        "tun"
    }

    fn read(&mut self, name: &DeviceName) -> Result<Option<TunnelState>, TunnelError> {
        // Whatever is wrong with the process, another one in its place is the cure.
        let answer = self.ask(name, "get=1\n\n").inspect_err(|error| {
            tracing::warn!(tunnel = %name, %error, "the process of a tunnel does not tell its settings");
        });
        Ok(answer.ok().flatten().and_then(|text| uapi::parse_state(&text).ok()))
    }

    fn strays(&mut self, instance: &Instance) -> Result<Vec<DeviceName>, TunnelError> {
        let fail = |source| TunnelError::File { action: "read", path: self.directory.clone(), source };
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(fail(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let file = entry.map_err(fail)?.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(".sock"));
            names.extend(name.and_then(|name| instance.owned(name)));
        }
        Ok(names)
    }

    fn make(&mut self, name: &DeviceName, _: &mut Links) -> Result<(), TunnelError> {
        self.remove(name)?;
        let directory = self.directory.clone();
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(|source| TunnelError::File {
            action: "make",
            path: directory,
            source,
        })?;
        let program = self.command.first().cloned().unwrap_or_default();
        let output = Command::new(&program)
            .args(self.command.iter().skip(1))
            .arg(name.as_str())
            .arg("--directory")
            .arg(&self.directory)
            .stdin(Stdio::null())
            .output()
            .map_err(|source| TunnelError::Start { name: name.to_string(), program, source })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let said = if said.is_empty() { output.status.to_string() } else { said };
        Err(TunnelError::NotReady { name: name.to_string(), said })
    }

    fn change(&mut self, name: &DeviceName, change: &Change) -> Result<(), TunnelError> {
        let fail = |source| TunnelError::Settings { action: "change", name: name.to_string(), source };
        let answer = self.ask(name, &uapi::render_change(change)).map_err(fail)?;
        answer.map(drop).ok_or_else(|| fail(ErrorKind::NotFound.into()))
    }

    fn remove(&mut self, name: &DeviceName) -> Result<(), TunnelError> {
        self.end(name).map_err(|source| TunnelError::End { name: name.to_string(), source })?;
        let path = socket_path(&self.directory, name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(TunnelError::File { action: "remove", path, source })
            }
            _ => Ok(()),
        }
    }
}
