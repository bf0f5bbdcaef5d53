//! Who a container's process is: users and groups by name or number, from the image's own files.
//!
//! Owns the reading of `etc/passwd` and `etc/group` inside a root filesystem. Every path is resolved
//! with `openat2(RESOLVE_IN_ROOT)`: a hostile link stays inside.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Most bytes read of either file.
const MAX_FILE: u64 = 4 << 20;

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User number.
    pub uid: u32,
    /// Primary group number.
    pub gid: u32,
    /// Supplementary groups, sorted, without the primary one unless listed.
    pub groups: Vec<u32>,
    /// Home directory; `/` when the user is not listed.
    pub home: String,
}

/// Why a user could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Not in `/etc/passwd` and not a number.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    /// Not in `/etc/group` and not a number.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    /// A file is there and cannot be read.
    #[error("reading /{path} of the image: {source}")]
    Unreadable {
        /// Path within the image.
        path: &'static str,
        /// Cause.
        source: io::Error,
    },
}

/// Opens `path` inside `root`, whatever links lie on the way.
pub fn open_in_root(root: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let path = path.strip_prefix("/").unwrap_or(path);
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// Resolves `user` (`""`, `uid`, `name`, `uid:gid`, `name:group`) and the groups in `extra`.
pub fn lookup(root: impl AsFd, user: &str, extra: &[String]) -> Result<Identity, UserError> {
    let read =
        |path: &'static str| read_file(root.as_fd(), path).map_err(|source| UserError::Unreadable { path, source });
    resolve(&read("etc/passwd")?, &read("etc/group")?, user, extra)
}

/// The pure part of [`lookup`]: texts of the two files in, identity out.
pub fn resolve(passwd: &str, group: &str, user: &str, extra: &[String]) -> Result<Identity, UserError> {
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    // A name wins over a number that looks the same, as in Docker.
    let entry = passwd_entries(passwd)
        .find(|entry| entry.name == user)
        .or_else(|| passwd_entries(passwd).find(|entry| entry.uid.to_string() == user));
    let uid = match &entry {
        Some(entry) => entry.uid,
        None => user.parse().map_err(|_| UserError::NoUser(user.into()))?,
    };
    let gid = match wanted_group {
        Some(name) => group_id(group, name)?,
        None => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    let mut groups: Vec<u32> = match (&entry, wanted_group) {
        // An explicit group replaces those of the group file.
        (Some(entry), None) => group_entries(group)
            .filter(|(_, _, members)| members.split(',').any(|member| member == entry.name))
            .map(|(_, gid, _)| gid)
            .collect(),
        _ => Vec::new(),
    };
    for name in extra {
        groups.push(group_id(group, name)?);
    }
    groups.sort_unstable();
    groups.dedup();
    let home = entry.map_or("/", |entry| entry.home).to_owned();
    Ok(Identity { uid, gid, groups, home: if home.is_empty() { "/".into() } else { home } })
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn passwd_entries(text: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(PasswdEntry { name, uid, gid, home: fields.nth(1).unwrap_or("/") })
    })
}

fn group_entries(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

fn group_id(text: &str, wanted: &str) -> Result<u32, UserError> {
    group_entries(text)
        .find(|(name, _, _)| *name == wanted)
        .map(|(_, gid, _)| gid)
        .or_else(|| wanted.parse().ok())
        .ok_or_else(|| UserError::NoGroup(wanted.into()))
}

/// The text of a regular file inside `root`; empty when there is none.
fn read_file(root: impl AsFd, path: &str) -> io::Result<String> {
    // O_NONBLOCK: a FIFO in its place must not hang us.
    let opened = open_in_root(root, Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK);
    let file = match opened {
        Ok(file) => File::from(file),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(String::new());
        }
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33:www:/var/www:/bin/false\n1000:x:7:7::/odd:/x\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:\naudio:x:29:root,www\ntty:x:5:www\n";

    fn who(user: &str, extra: &[&str]) -> Result<Identity, UserError> {
        let extra: Vec<String> = extra.iter().map(|name| (*name).to_owned()).collect();
        resolve(PASSWD, GROUP, user, &extra)
    }

    #[test]
    fn users_and_groups_by_name_and_number() {
        let root = who("", &[]).unwrap();
        assert_eq!((root.uid, root.gid, root.home.as_str()), (0, 0, "/root"));
        assert_eq!(root.groups, [29]);
        assert_eq!(who("www", &["root"]).unwrap().groups, [0, 5, 29]);
        let by_number = who("33", &[]).unwrap();
        assert_eq!((by_number.uid, by_number.gid), (33, 33));
        let explicit = who("www:tty", &["99"]).unwrap();
        assert_eq!((explicit.uid, explicit.gid, explicit.groups), (33, 5, vec![99]));
        let unlisted = who("4242:77", &[]).unwrap();
        assert_eq!((unlisted.uid, unlisted.gid, unlisted.home.as_str()), (4242, 77, "/"));
        assert_eq!(who("1000", &[]).unwrap().uid, 7, "a name that is a number wins");
    }

    #[test]
    fn unknown_names_are_named() {
        assert!(matches!(who("ghost", &[]), Err(UserError::NoUser(name)) if name == "ghost"));
        assert!(matches!(who("www:ghosts", &[]), Err(UserError::NoGroup(name)) if name == "ghosts"));
        assert!(matches!(who("www", &["nope"]), Err(UserError::NoGroup(_))));
    }

    #[test]
    fn a_hostile_link_to_the_hosts_passwd_stays_in_the_image() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("host-passwd");
        std::fs::write(&outside, "evil:x:0:0::/:/bin/sh\n").unwrap();
        let root = dir.path().join("rootfs");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        let handle = File::open(&root).unwrap();

        for target in [outside.to_str().unwrap(), "../../host-passwd", "/proc/self/root/etc/passwd"] {
            let link = root.join("etc/passwd");
            let _ = std::fs::remove_file(&link);
            symlink(target, &link).unwrap();
            assert!(matches!(lookup(&handle, "evil", &[]), Err(UserError::NoUser(_))), "{target}");
        }
        assert_eq!(lookup(&handle, "5", &[]).unwrap().uid, 5);
    }

    #[test]
    fn a_pipe_in_place_of_passwd_is_refused_and_does_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        let path = std::ffi::CString::new(dir.path().join("etc/passwd").to_str().unwrap()).unwrap();
        // SAFETY: the path is a valid C string for the duration of the call.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        let handle = File::open(dir.path()).unwrap();
        assert!(matches!(lookup(&handle, "root", &[]), Err(UserError::Unreadable { .. })));
    }
}
