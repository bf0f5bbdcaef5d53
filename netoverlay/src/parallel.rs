//! Large changes of several tasks' tables at the same time: each namespace is changed by itself, and most of the time is the
//! kernel's. Blocking; never decides what is done, only by how many threads.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::kernel::{Kernel, KernelError};
use crate::plan::Op;

/// So many elements in all are worth threads: a millisecond or two of the kernel's time.
const LARGE: usize = 2000;

/// What became of a group of steps; see [`Kernel::apply`].
type Outcome = Result<(), (usize, KernelError)>;

/// Carries out groups of steps that do not depend on each other. The outcomes are in the groups' order.
pub(crate) fn apply(kernel: &dyn Kernel, groups: &[&[Op]]) -> Vec<Outcome> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = cpus.min(groups.len());
    let elements: usize = groups.iter().flat_map(|group| group.iter()).map(elements).sum();
    if threads < 2 || elements < LARGE {
        return groups.iter().map(|group| kernel.apply(group)).collect();
    }
    let next = AtomicUsize::new(0);
    let outcomes: Vec<Mutex<Option<Outcome>>> = groups.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        while let Some((group, place)) = take(&next, groups, &outcomes) {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(kernel.apply(group));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Without another thread this one does it all.
            let _ = std::thread::Builder::new().name("net-apply".into()).spawn_scoped(scope, work);
        }
        work();
    });
    let finished = outcomes.into_iter().map(|place| place.into_inner().unwrap_or_else(PoisonError::into_inner));
    finished.map(|outcome| outcome.expect("every group was taken, and a thread that panics ends the scope")).collect()
}

fn take<'a, T>(next: &AtomicUsize, groups: &[&'a [Op]], places: &'a [T]) -> Option<(&'a [Op], &'a T)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    Some((groups.get(at)?, places.get(at)?))
}

fn elements(op: &Op) -> usize {
    match op {
        Op::Table { change, .. } => change.add.0.len() + change.remove.0.len(),
        _ => 0,
    }
}
