//! The agent's records: what is assigned to this node, the last status of each task, how each was prepared, who the managers
//! are. With them a restart without any manager goes on where the last life stopped.
//!
//! Owns the file `state.redb`. Secrets and configs are never written. Writes are gathered and committed in the background: the
//! records may lag by a moment, because what counts after a crash is what the runtime holds.

mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use berth_proto::id::TaskId;
use berth_proto::object::TaskStatus;
use berth_proto::pb;
use prost::Message;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::task::Prepared;
pub use writer::Writer;

const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
/// Key as [`Record`] builds it; value a `berth.v1.Assignment`.
const ASSIGNED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("assigned");
/// Task id; value a `berth.v1.TaskStatus`.
const STATUS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("status");
/// Task id; value [`Prepared`] as JSON.
const PREPARED: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("prepared");
/// One row: what the managers said of the cluster, a `berth.v1.Membership`.
const CLUSTER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("cluster");
const MEMBERSHIP: &str = "membership";

/// Format of the file; a file with a higher one is refused.
const FORMAT: u32 = 1;

/// What can go wrong with the records.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// Another process has it open.
    #[error("{} is in use by another daemon", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// A newer version of Berth wrote it.
    #[error("{} has format {found}, this version of Berth reads up to {FORMAT}: use a newer Berth", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
    },
    /// Reading or writing failed.
    #[error("agent records {}: cannot {operation}: {source}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// Verb.
        operation: &'static str,
        /// Cause.
        source: Box<redb::Error>,
    },
}

/// One change of the records.
#[derive(Debug, Clone)]
pub enum Change {
    /// Everything assigned is replaced.
    ReplaceAssigned(Vec<(String, Vec<u8>)>),
    /// One thing is assigned.
    Put(String, Vec<u8>),
    /// One thing is withdrawn.
    Remove(String),
    /// A status.
    Status(TaskId, Vec<u8>),
    /// How a task was prepared.
    Prepared(TaskId, Vec<u8>),
    /// A task is forgotten.
    Forget(TaskId),
    /// Who the managers are.
    Membership(pb::Membership),
}

/// What the file held when it was opened.
#[derive(Debug, Default)]
pub struct Records {
    /// Everything assigned.
    pub assigned: Vec<pb::Assignment>,
    /// Last statuses.
    pub statuses: Vec<(TaskId, TaskStatus)>,
    /// How tasks were prepared.
    pub prepared: Vec<(TaskId, Prepared)>,
    /// What the managers said last of the cluster.
    pub membership: Option<pb::Membership>,
}

/// Key and value of an assignment in the records; `None` for what is never written.
pub fn record(item: &pb::Assignment) -> Option<(String, Vec<u8>)> {
    use pb::assignment::Item;
    let key = match item.item.as_ref()? {
        Item::Task(task) => format!("task/{}", task.id),
        Item::Spec(spec) => {
            let key = spec.key.as_ref()?;
            format!("spec/{}/{}", key.service_id, key.spec_version)
        }
        Item::Network(network) => format!("network/{}", network.id),
        // What it leads to is written as a whole.
        Item::Endpoints(endpoints) if endpoints.partial => return None,
        Item::Endpoints(endpoints) => format!("endpoints/{}", endpoints.service_id),
        Item::Volume(volume) => format!("volume/{}", volume.id),
        Item::Peer(peer) => format!("peer/{}", peer.node_id),
        // Of use only to the managers that ask for it.
        Item::Measure(_) => return None,
        Item::Config(_) | Item::Secret(_) => return None,
    };
    Some((key, item.encode_to_vec()))
}

/// Key in the records of what is withdrawn.
pub fn record_key(key: &pb::AssignmentKey) -> Option<String> {
    use pb::assignment_key::Key;
    Some(match key.key.as_ref()? {
        Key::Task(id) => format!("task/{id}"),
        Key::Spec(key) => format!("spec/{}/{}", key.service_id, key.spec_version),
        Key::Network(id) => format!("network/{id}"),
        Key::Endpoints(id) => format!("endpoints/{id}"),
        Key::Volume(id) => format!("volume/{id}"),
        Key::Peer(id) => format!("peer/{id}"),
        Key::Config(_) | Key::Secret(_) | Key::Measure(_) => return None,
    })
}

/// The file.
#[derive(Debug)]
pub struct Db {
    path: PathBuf,
    /// `None` after a failure: redb takes nothing more then, and has to be opened anew.
    database: Mutex<Option<Database>>,
}

impl Db {
    /// Opens or makes it. Blocking.
    pub fn open(path: &Path) -> Result<Self, DbError> {
        let db = Self { path: path.to_owned(), database: Mutex::default() };
        db.with(|database| db.check_format(database))?;
        Ok(db)
    }

    /// Does something with the open file.
    fn with<T>(&self, act: impl FnOnce(&Database) -> Result<T, DbError>) -> Result<T, DbError> {
        let mut open = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match open.take() {
            Some(database) => database,
            None => self.create()?,
        };
        let done = act(&database)?;
        *open = Some(database);
        Ok(done)
    }

    fn create(&self) -> Result<Database, DbError> {
        Database::create(&self.path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => DbError::Locked { path: self.path.clone() },
            other => self.failed("open", other),
        })
    }

    fn check_format(&self, database: &Database) -> Result<(), DbError> {
        let write = database.begin_write().map_err(|error| self.failed("begin", error))?;
        let found = {
            let mut meta = write.open_table(META).map_err(|error| self.failed("open tables of", error))?;
            let found =
                meta.get("format").map_err(|error| self.failed("read", error))?.map(|text| text.value().to_owned());
            if found.is_none() {
                meta.insert("format", FORMAT.to_string().as_str()).map_err(|error| self.failed("write", error))?;
            }
            found
        };
        if let Some(found) = found.filter(|found| found.parse::<u32>().is_ok_and(|found| found > FORMAT)) {
            return Err(DbError::Newer { path: self.path.clone(), found });
        }
        for table in [ASSIGNED, STATUS, PREPARED, CLUSTER] {
            write.open_table(table).map_err(|error| self.failed("open tables of", error))?;
        }
        write.commit().map_err(|error| self.failed("commit", error))
    }

    /// Everything there is. What does not parse is left out. Blocking.
    pub fn read(&self) -> Result<Records, DbError> {
        self.with(|database| self.read_from(database))
    }

    fn read_from(&self, database: &Database) -> Result<Records, DbError> {
        let mut records = Records::default();
        self.each(database, ASSIGNED, |_, value| records.assigned.extend(pb::Assignment::decode(value)))?;
        self.each(database, STATUS, |key, value| {
            let status = pb::TaskStatus::decode(value).ok().and_then(|status| status.try_into().ok());
            records.statuses.extend(key.parse().ok().zip(status));
        })?;
        self.each(database, PREPARED, |key, value| {
            records.prepared.extend(key.parse().ok().zip(serde_json::from_slice(value).ok()));
        })?;
        self.each(database, CLUSTER, |_, value| records.membership = pb::Membership::decode(value).ok())?;
        Ok(records)
    }

    fn each(
        &self,
        database: &Database,
        table: TableDefinition<'_, &str, &[u8]>,
        mut f: impl FnMut(&str, &[u8]),
    ) -> Result<(), DbError> {
        let read = database.begin_read().map_err(|error| self.failed("begin", error))?;
        let table = read.open_table(table).map_err(|error| self.failed("open tables of", error))?;
        for row in table.iter().map_err(|error| self.failed("read", error))? {
            let (key, value) = row.map_err(|error| self.failed("read", error))?;
            f(key.value(), value.value());
        }
        Ok(())
    }

    /// Commits changes together, durably. After a failure nothing of them is there, and the next attempt begins anew. Blocking.
    pub fn commit(&self, changes: &[Change]) -> Result<(), DbError> {
        self.with(|database| self.write_to(database, changes))
    }

    fn write_to(&self, database: &Database, changes: &[Change]) -> Result<(), DbError> {
        let write = database.begin_write().map_err(|error| self.failed("begin", error))?;
        {
            let tables = |table| write.open_table(table).map_err(|error| self.failed("open tables of", error));
            let (mut assigned, mut status) = (tables(ASSIGNED)?, tables(STATUS)?);
            let (mut prepared, mut cluster) = (tables(PREPARED)?, tables(CLUSTER)?);
            let write = |error| self.failed("write", error);
            for change in changes {
                match change {
                    Change::ReplaceAssigned(all) => {
                        assigned.retain(|_, _| false).map_err(write)?;
                        for (key, value) in all {
                            assigned.insert(key.as_str(), value.as_slice()).map_err(write)?;
                        }
                    }
                    Change::Put(key, value) => drop(assigned.insert(key.as_str(), value.as_slice()).map_err(write)?),
                    Change::Remove(key) => drop(assigned.remove(key.as_str()).map_err(write)?),
                    Change::Status(task, value) => {
                        drop(status.insert(task.to_string().as_str(), value.as_slice()).map_err(write)?);
                    }
                    Change::Prepared(task, value) => {
                        drop(prepared.insert(task.to_string().as_str(), value.as_slice()).map_err(write)?);
                    }
                    Change::Forget(task) => {
                        drop(status.remove(task.to_string().as_str()).map_err(write)?);
                        drop(prepared.remove(task.to_string().as_str()).map_err(write)?);
                    }
                    Change::Membership(membership) => {
                        drop(cluster.insert(MEMBERSHIP, membership.encode_to_vec().as_slice()).map_err(write)?);
                    }
                }
            }
        }
        write.commit().map_err(|error| self.failed("commit", error))
    }

    fn failed(&self, operation: &'static str, source: impl Into<redb::Error>) -> DbError {
        DbError::Failed { path: self.path.clone(), operation, source: Box::new(source.into()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::testing;
    use berth_proto::state::TaskState;

    #[test]
    fn records_survive_and_a_second_daemon_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let task = testing::task();
        let item = pb::Assignment { item: Some(pb::assignment::Item::Task((&task).into())) };
        let status = TaskStatus { state: TaskState::Running, ..TaskStatus::default() };
        let manager = pb::ManagerAddress { node_id: "n".into(), address: "10.0.0.1:4777".into() };
        let membership = pb::Membership { managers: vec![manager], ..pb::Membership::default() };
        {
            let db = Db::open(&path).unwrap();
            assert!(matches!(Db::open(&path), Err(DbError::Locked { .. })));
            let (key, value) = record(&item).unwrap();
            let status = pb::TaskStatus::from(&status).encode_to_vec();
            let membership = Change::Membership(membership.clone());
            db.commit(&[Change::Put(key, value), Change::Status(task.id, status), membership]).unwrap();
        }
        let db = Db::open(&path).unwrap();
        let records = db.read().unwrap();
        assert_eq!((records.assigned.as_slice(), records.statuses.as_slice()), (&[item][..], &[(task.id, status)][..]));
        assert_eq!(records.membership, Some(membership));
        db.commit(&[Change::ReplaceAssigned(Vec::new()), Change::Forget(task.id)]).unwrap();
        let records = db.read().unwrap();
        assert!(records.assigned.is_empty() && records.statuses.is_empty());
    }

    #[test]
    fn a_newer_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let db = Db::open(&path).unwrap();
        let newer = |database: &Database| {
            let write = database.begin_write().unwrap();
            write.open_table(META).unwrap().insert("format", "9").unwrap();
            write.commit().unwrap();
            Ok(())
        };
        db.with(newer).unwrap();
        drop(db);
        let error = Db::open(&path).unwrap_err().to_string();
        assert!(error.contains("has format 9"), "{error}");
    }

    #[test]
    fn secrets_and_configs_are_never_written() {
        use pb::assignment::Item;
        for item in [Item::Secret(pb::AssignedFile::default()), Item::Config(pb::AssignedFile::default())] {
            assert_eq!(record(&pb::Assignment { item: Some(item) }), None);
        }
    }
}
