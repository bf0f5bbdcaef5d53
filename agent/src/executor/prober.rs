//! Health probes as further processes in the task's container.
//!
//! Owns their time limit and the first bytes of their output. A probe that is dropped is killed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use berth_proto::id::TaskId;
use tokio::io::AsyncReadExt;

use crate::health::{Outcome, Prober};
use crate::runtime::{ExecConfig, Output, Runtime};

const MAX_OUTPUT: usize = 4096;

/// Probes of one task.
pub struct ExecProber {
    runtime: Arc<dyn Runtime>,
    id: String,
}

impl ExecProber {
    /// A prober for that task.
    pub fn new(runtime: Arc<dyn Runtime>, task: TaskId) -> Self {
        Self { runtime, id: task.to_string() }
    }

    async fn run(&self, command: &[String]) -> (Outcome, String) {
        let config = ExecConfig { args: command.to_vec(), ..ExecConfig::default() };
        let mut session = match self.runtime.exec(&self.id, &config).await {
            Ok(session) => session,
            Err(error) => return (Outcome::Error, crate::errors::chain(&error)),
        };
        drop(session.stdin.take());
        let stderr = async {
            match session.stderr {
                Some(stderr) => first_bytes(stderr).await,
                None => Vec::new(),
            }
        };
        let (mut output, errors, exit) = tokio::join!(first_bytes(session.stdout), stderr, session.control.wait());
        output.extend(errors);
        let text = String::from_utf8_lossy(&output).into_owned();
        match exit {
            Ok(exit) => (exit.code.map_or(Outcome::Error, Outcome::Exit), text),
            Err(error) => (Outcome::Error, crate::errors::chain(&error)),
        }
    }
}

#[async_trait]
impl Prober for ExecProber {
    async fn probe(&self, command: &[String], timeout: Duration) -> (Outcome, String) {
        match tokio::time::timeout(timeout, self.run(command)).await {
            Ok(done) => done,
            Err(_) => (Outcome::Timeout, format!("the probe took longer than {timeout:?}")),
        }
    }
}

/// Reads to the end, keeping the first bytes: a probe that writes on must not be held up by a full pipe.
async fn first_bytes(mut output: Output) -> Vec<u8> {
    let (mut kept, mut block) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = output.read(&mut block).await {
        let room = MAX_OUTPUT - kept.len();
        kept.extend_from_slice(&block[..count.min(room)]);
    }
    kept
}
