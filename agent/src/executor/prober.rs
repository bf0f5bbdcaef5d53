//! Health probes as further processes in the task's container.
//!
//! Owns their time limit and the first bytes of their output. A probe that is dropped is killed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use berth_proto::id::TaskId;
use tokio::io::AsyncReadExt;

use crate::health::{MAX_OUTPUT, Outcome, Prober};
use crate::runtime::{ExecConfig, Output, Runtime};

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

    async fn run(&self, command: &[String], said: &Said) -> Outcome {
        let config = ExecConfig { args: command.to_vec(), ..ExecConfig::default() };
        let mut session = match self.runtime.exec(&self.id, &config).await {
            Ok(session) => session,
            Err(error) => {
                said.add(crate::errors::chain(&error).as_bytes());
                return Outcome::Error;
            }
        };
        drop(session.stdin.take());
        let stderr = async {
            if let Some(stderr) = session.stderr {
                first_bytes(stderr, said).await;
            }
        };
        match tokio::join!(first_bytes(session.stdout, said), stderr, session.control.wait()).2 {
            Ok(exit) => exit.code.map_or(Outcome::Error, Outcome::Exit),
            Err(error) => {
                said.add(crate::errors::chain(&error).as_bytes());
                Outcome::Error
            }
        }
    }
}

#[async_trait]
impl Prober for ExecProber {
    async fn probe(&self, command: &[String], timeout: Duration) -> (Outcome, String) {
        let said = Said::default();
        // What it said before its time was over says most about why it hangs.
        let outcome = tokio::time::timeout(timeout, self.run(command, &said)).await.unwrap_or(Outcome::Timeout);
        (outcome, said.text())
    }
}

/// The first bytes of both streams of a probe, as they came.
#[derive(Default)]
struct Said(Mutex<Vec<u8>>);

impl Said {
    fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_OUTPUT - kept.len();
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// Reads to the end: a probe that writes on must not be held up by a full pipe.
async fn first_bytes(mut output: Output, said: &Said) {
    let mut block = [0; 4096];
    while let Ok(count @ 1..) = output.read(&mut block).await {
        said.add(&block[..count]);
    }
}
