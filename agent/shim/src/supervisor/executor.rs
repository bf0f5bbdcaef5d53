//! The last steps of a container's first process: what libcontainer calls just before `execve`.
//!
//! libcontainer is given no capabilities and no filter to apply: compiling a filter each time is most
//! of a start, and both must happen in one order for start and exec. They happen here.

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, RawFd};

use berth_shim::protocol::{self, Failure};
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};

use crate::privileges::{self, Privileges};
use crate::{command, sys};

/// Gives up rights and becomes the command; reports failures to the shim by itself, because
/// libcontainer passes on words only.
#[derive(Clone)]
pub struct BerthExecutor {
    /// Where a [`Failure`] is written; closed by a successful `execve`.
    pub status: RawFd,
    /// Bits of the capabilities to keep.
    pub capabilities: u64,
    /// Compiled filter.
    pub seccomp: Option<Vec<u8>>,
    /// Make the control group namespace now that the process is in its groups.
    pub cgroup_namespace: bool,
    /// Leading arguments that are our init's, not the command's.
    pub init_arguments: usize,
}

impl BerthExecutor {
    fn report(&self, failure: &Failure) {
        // SAFETY: the shim opened the descriptor for this and closes it only after the last user.
        let status = unsafe { BorrowedFd::borrow_raw(self.status) };
        if let Ok(frame) = protocol::encode(failure) {
            let _ = rustix::io::write(status, &frame);
        }
    }

    fn run(&self, spec: &Spec) -> Result<(), Failure> {
        let process = spec.process().as_ref().ok_or_else(|| Failure::new("the spec has no process"))?;
        let environment = process.env().clone().unwrap_or_default();
        let arguments = process.args().clone().unwrap_or_default();
        if rustix::termios::isatty(std::io::stdin()) {
            let owner = rustix::fs::Uid::from_raw(process.user().uid());
            let _ = rustix::fs::fchown(std::io::stdin(), Some(owner), None);
        }
        if self.cgroup_namespace {
            sys::unshare_cgroups().map_err(|error| Failure::new(format!("control group namespace: {error}")))?;
        }
        privileges::drop_to(&Privileges {
            ids: None,
            capabilities: self.capabilities,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            seccomp: self.seccomp.as_deref(),
        })
        .map_err(|error| Failure::new(error.to_string()))?;
        // The kernel ends the container with its shim, agent or no agent.
        let _ = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64);
        sys::reset_signals();
        let Err(failure) = command::execute(&arguments, &environment);
        Err(failure)
    }
}

impl Executor for BerthExecutor {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        self.run(spec).map_err(|failure| {
            self.report(&failure);
            ExecutorError::Other(failure.message)
        })
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let process = spec.process().as_ref();
        let environment = process.and_then(|process| process.env().clone()).unwrap_or_default();
        let arguments = process.and_then(|process| process.args().clone()).unwrap_or_default();
        let name = arguments.get(self.init_arguments).map_or("", String::as_str);
        command::find(name, &environment).map(drop).map_err(|failure| {
            self.report(&failure);
            ExecutorValidationError::ArgValidationError(failure.message)
        })
    }

    fn setup_envs(&self, _environment: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // The spec's own list goes to execve unchanged; this process's environment never does.
        Ok(())
    }
}
