//! Volumes of this node: directories that keep their data when tasks are replaced.
//!
//! | file | what |
//! |---|---|
//! | `store.rs` | the directory of volumes: make, hold, list, remove, prune |
//! | `options.rs` | pure: options `type`, `o`, `device` as mount(2) takes them |
//! | `mounting.rs` | mounts: drivers' options, safe paths inside a volume, images |
//!
//! Invariants: a volume in use is never removed; an anonymous volume belongs to one task and goes with it; a path inside a
//! volume never leads out of it.

mod mounting;
mod options;
mod store;

pub use mounting::{MountError, bind_below, is_mountpoint, mount_layers, mount_tmpfs, unmount};
pub use options::{MountOptions, OptionsError, parse as parse_options};
pub use store::{Held, Removed, Request, VolumeError, VolumeInfo, VolumeStore};
