//! A process in a running container: its streams and its handle.
//!
//! Owns the connection on which it was started; the shim kills the process when that closes, unless it is detached.

use std::os::fd::{AsFd, OwnedFd};

use async_trait::async_trait;
use berth_shim::protocol::{ExecRequest, ProtocolError, Reply, Request};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::sync::Mutex;

use super::connection::Connection;
use super::shim_runtime::{exit_of, failure, lost};
use super::{ExecConfig, ExecControl, ExecSession, Exit, RuntimeError, TtySize, streams};

struct Control {
    id: String,
    terminal: Option<OwnedFd>,
    inner: Mutex<Inner>,
}

struct Inner {
    connection: Connection,
    exit: Option<Exit>,
}

/// Starts a process over `connection`.
pub(super) async fn start(
    id: &str,
    mut connection: Connection,
    config: &ExecConfig,
) -> Result<ExecSession, RuntimeError> {
    let io = |error: std::io::Error| lost(id, "exec", &error);
    let request = Request::Exec(ExecRequest {
        args: config.args.clone(),
        env: config.env.clone(),
        cwd: config.cwd.clone(),
        user: config.user.clone(),
        tty: config.tty.map(|size| (size.rows, size.cols)),
        privileged: config.privileged,
        detach: config.detach,
    });
    if config.detach {
        return start_detached(id, connection, &request).await;
    }
    let mut stdin = None;
    let mut outputs = None;
    let reply = if config.tty.is_some() {
        connection.call(&request, &[]).await
    } else {
        let input = match config.stdin {
            true => {
                let (ours, theirs) = streams::input_pipe().map_err(io)?;
                stdin = Some(ours);
                theirs
            }
            false => std::fs::File::open("/dev/null").map_err(io)?.into(),
        };
        let (stdout, stdout_end) = streams::output_pipe(None).map_err(io)?;
        let (stderr, stderr_end) = streams::output_pipe(None).map_err(io)?;
        outputs = Some((stdout, stderr));
        connection.call(&request, &[input.as_fd(), stdout_end.as_fd(), stderr_end.as_fd()]).await
    };
    started(id, reply)?;
    let (stdout, stderr, terminal) = match outputs {
        Some((stdout, stderr)) => (stdout, Some(stderr), None),
        None => {
            let master = connection.take_fds().pop().ok_or_else(|| lost(id, "exec", &"no terminal came back"))?;
            let (input, output, master) = streams::terminal(master).map_err(io)?;
            stdin = Some(input);
            (output, None, Some(master))
        }
    };
    let control = Control { id: id.into(), terminal, inner: Mutex::new(Inner { connection, exit: None }) };
    Ok(ExecSession { stdin, stdout, stderr, control: Box::new(control) })
}

/// Starts a process that nobody listens to. A terminal, if it wants one, stays with the shim.
async fn start_detached(id: &str, mut connection: Connection, request: &Request) -> Result<ExecSession, RuntimeError> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| lost(id, "exec", &error))?;
    let wants_terminal = matches!(request, Request::Exec(exec) if exec.tty.is_some());
    let stdio: &[_] = if wants_terminal { &[] } else { &[null.as_fd(), null.as_fd(), null.as_fd()] };
    started(id, connection.call(request, stdio).await)?;
    let control = Control { id: id.into(), terminal: None, inner: Mutex::new(Inner { connection, exit: None }) };
    Ok(ExecSession { stdin: None, stdout: Box::new(tokio::io::empty()), stderr: None, control: Box::new(control) })
}

fn started(id: &str, reply: Result<Reply, ProtocolError>) -> Result<(), RuntimeError> {
    match reply.map_err(|error| lost(id, "exec", &error))? {
        Reply::ExecStarted { .. } => Ok(()),
        Reply::Failed(reason) => Err(failure(id, "exec", reason)),
        other => Err(lost(id, "exec", &format!("unexpected answer {other:?}"))),
    }
}

#[async_trait]
impl ExecControl for Control {
    async fn resize(&self, size: TtySize) -> Result<(), RuntimeError> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(terminal, size).map_err(|error| lost(&self.id, "resize", &error))
    }

    async fn signal(&self, signal: i32) -> Result<(), RuntimeError> {
        let mut inner = self.inner.lock().await;
        if inner.exit.is_some() {
            return Ok(());
        }
        let error = |error| lost(&self.id, "signal", &error);
        inner.connection.send(&Request::Signal { signal }, &[]).await.map_err(error)?;
        match inner.connection.receive().await.map_err(error)? {
            Some(Reply::Exited(record)) => {
                inner.exit = Some(exit_of(&record));
                Ok(())
            }
            Some(Reply::Failed(reason)) => Err(failure(&self.id, "signal", reason)),
            _ => Ok(()),
        }
    }

    async fn wait(&mut self) -> Result<Exit, RuntimeError> {
        let inner = self.inner.get_mut();
        loop {
            if let Some(exit) = &inner.exit {
                return Ok(exit.clone());
            }
            match inner.connection.receive().await.map_err(|error| lost(&self.id, "exec", &error))? {
                Some(Reply::Exited(record)) => inner.exit = Some(exit_of(&record)),
                // The answer to a signal that was given up on.
                Some(_) => {}
                None => return Err(RuntimeError::NotRunning(self.id.clone())),
            }
        }
    }
}
