//! Endpoints that are the same for every node that hears of them, made once for each state: thousands of sessions share
//! them, and compare them by address.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_proto::id::ServiceId;
use berth_proto::object::Service;

use crate::store::State;

use super::endpoints::{Endpoints, EndpointsChange, everywhere};

/// The newest endpoints of services, with the index of the state that they are of.
#[derive(Default)]
pub struct Shared {
    known: Mutex<HashMap<ServiceId, (u64, Arc<Endpoints>)>>,
    changes: Mutex<HashMap<ServiceId, Step>>,
}

/// From what to what a service went last, and the change.
type Step = (Arc<Endpoints>, Arc<Endpoints>, Option<Arc<EndpointsChange>>);

impl Shared {
    /// Those of a service in that state.
    pub fn of(&self, state: &State, service: &Service) -> Arc<Endpoints> {
        let index = state.index();
        let mut known = self.known();
        match known.get_mut(&service.id) {
            Some((at, endpoints)) if *at == index => Arc::clone(endpoints),
            // Somebody looks at an older state; the newer one is the one to keep.
            Some((at, _)) if *at > index => Arc::new(everywhere(state, service)),
            Some((at, endpoints)) => {
                let new = everywhere(state, service);
                if **endpoints != new {
                    *endpoints = Arc::new(new);
                }
                *at = index;
                Arc::clone(endpoints)
            }
            None => {
                let new = Arc::new(everywhere(state, service));
                known.insert(service.id, (index, Arc::clone(&new)));
                new
            }
        }
    }

    /// What turns one of them into another, if that is less to say: most sessions ask for the same.
    pub fn change(&self, old: &Arc<Endpoints>, new: &Arc<Endpoints>) -> Option<Arc<EndpointsChange>> {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        match changes.get(&new.service) {
            Some((from, to, change)) if Arc::ptr_eq(from, old) && Arc::ptr_eq(to, new) => change.clone(),
            _ => {
                let change = EndpointsChange::between(old, new).map(Arc::new);
                changes.insert(new.service, (Arc::clone(old), Arc::clone(new), change.clone()));
                change
            }
        }
    }

    /// The service is gone.
    pub fn forget(&self, service: ServiceId) {
        self.known().remove(&service);
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).remove(&service);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<ServiceId, (u64, Arc<Endpoints>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
