//! The surface: one level-triggered pass.
//!
//! Keeps nothing between passes: what a daemon before left is found and taken over like everything else.

use std::collections::BTreeSet;

use crate::TunnelError;
use crate::kernel::Kernel;
use crate::model::{Desired, Observed};
use crate::name::DeviceName;
use crate::plan::plan;

/// The node's encrypted links.
#[derive(Debug)]
pub struct Tunnels<K> {
    kernel: K,
}

/// What a pass did.
#[derive(Debug, Default)]
pub struct Report {
    /// Steps that were done.
    pub steps: Vec<String>,
    /// Devices that are not as they should be, and why. The next pass tries again.
    pub failures: Vec<Failure>,
}

/// A step that failed; later ones on the same device were left to the next pass.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct Failure {
    /// The device; none when it is about all of them.
    pub device: Option<DeviceName>,
    /// What was to be done.
    pub step: String,
    /// Why it was not.
    pub source: TunnelError,
}

impl Report {
    /// Whether everything is as it should be.
    pub fn is_clean(&self) -> bool {
        self.failures.is_empty()
    }
}

impl<K: Kernel> Tunnels<K> {
    /// On a kernel. Changes nothing yet.
    pub fn new(kernel: K) -> Self {
        Self { kernel }
    }

    /// Looks at what there is and does what is missing. Blocks: milliseconds, up to a few seconds when a process has to
    /// start or end. Done twice, it does nothing the second time. An empty `desired` removes everything of this
    /// instance.
    ///
    /// Fails only when the node cannot be listed; what cannot be done is in the report.
    pub fn reconcile(&mut self, desired: &Desired) -> Result<Report, TunnelError> {
        let observed = self.kernel.list()?;
        let mut report = Report::default();
        let mut broken: BTreeSet<DeviceName> = BTreeSet::new();
        for op in plan(desired, &observed) {
            if op.device().is_some_and(|device| broken.contains(device)) {
                continue;
            }
            let step = op.to_string();
            match self.kernel.apply(&op) {
                Ok(()) => report.steps.push(step),
                Err(source) => {
                    let device = op.device().cloned();
                    broken.extend(device.clone());
                    report.failures.push(Failure { device, step, source });
                }
            }
        }
        Ok(report)
    }

    /// What there is.
    pub fn observed(&mut self) -> Result<Observed, TunnelError> {
        self.kernel.list()
    }
}
