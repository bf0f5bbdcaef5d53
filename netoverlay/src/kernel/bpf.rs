//! `bpf(2)` and the system calls around it that need `unsafe`: the only such place in this crate.
//!
//! Thin wrappers, one call each, over `union bpf_attr` of `linux/bpf.h`. Must hold no policy.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use crate::ebpf::asm::Instruction;

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const OBJ_INFO: libc::c_int = 15;
const BTF_LOAD: libc::c_int = 18;
const MAP_LOOKUP_BATCH: libc::c_int = 24;
const MAP_UPDATE_BATCH: libc::c_int = 26;
const MAP_DELETE_BATCH: libc::c_int = 27;
const LINK_CREATE: libc::c_int = 28;

/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`.
const SOCKET_ADDRESS: u32 = 18;
/// `BPF_LINK_TYPE_CGROUP`.
const LINK_CGROUP: u32 = 3;
/// `SO_NETNS_COOKIE`.
const NETNS_COOKIE: libc::c_int = 71;

/// `struct { map_type … btf_value_type_id }` of `BPF_MAP_CREATE`.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct MapSpec {
    pub kind: u32,
    pub key: u32,
    pub value: u32,
    pub entries: u32,
    pub flags: u32,
    pub inner: u32,
    pub node: u32,
    pub name: [u8; 16],
    pub interface: u32,
    /// Type information, for maps that want it; 0 if none.
    pub btf: u32,
    pub btf_key: u32,
    pub btf_value: u32,
}

#[derive(Default)]
#[repr(C)]
struct Element {
    map: u32,
    _gap: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[derive(Default)]
#[repr(C)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

#[derive(Default)]
#[repr(C)]
struct ProgramSpec {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

#[derive(Default)]
#[repr(C)]
struct Pin {
    path: u64,
    object: u32,
    flags: u32,
}

#[derive(Default)]
#[repr(C)]
struct LinkSpec {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

#[derive(Default)]
#[repr(C)]
struct TypeSpec {
    types: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    // No byte of a request may be left to chance.
    rest: u32,
}

#[derive(Default)]
#[repr(C)]
struct InfoRequest {
    object: u32,
    length: u32,
    info: u64,
}

/// `struct bpf_link_info` of a link to a control group.
#[derive(Debug, Default)]
#[repr(C)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    _gap: u32,
    cgroup: u64,
    attach_type: u32,
    rest: [u32; 15],
}

/// `bpf(2)` with the part of `union bpf_attr` that the command reads; the kernel takes what is behind it for zero.
///
/// # Safety
/// Addresses in `attributes` must lead to memory that is as long as the command takes it to be, and that nobody else changes
/// or reads meanwhile.
unsafe fn bpf<A>(command: libc::c_int, attributes: &mut A) -> io::Result<RawFd> {
    // SAFETY: `attributes` is alive and that long; what it points to is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

/// # Safety
/// `result` must be of a command that gives a new file descriptor.
unsafe fn new_fd(result: io::Result<RawFd>) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise; nobody else has it yet.
    result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

fn address<T>(slice: &[T]) -> u64 {
    slice.as_ptr() as u64
}

/// A name as the kernel keeps it: at most 15 bytes.
fn short(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

/// Makes a map.
pub(super) fn create_map(name: &str, mut spec: MapSpec) -> io::Result<OwnedFd> {
    spec.name = short(name);
    // SAFETY: holds no address; gives a new descriptor.
    unsafe { new_fd(bpf(MAP_CREATE, &mut spec)) }
}

/// Loads type information (BTF).
pub(super) fn load_types(types: &[u8]) -> io::Result<OwnedFd> {
    let mut spec = TypeSpec { types: address(types), size: types.len() as u32, ..TypeSpec::default() };
    // SAFETY: `types` is alive and that long; gives a new descriptor.
    unsafe { new_fd(bpf(BTF_LOAD, &mut spec)) }
}

/// Loads a program for a hook of sockets' addresses. On a refusal `log` has what the verifier says.
pub(super) fn load_program(name: &str, code: &[Instruction], attach_type: u32, log: &mut [u8]) -> io::Result<OwnedFd> {
    const LICENSE: &CStr = c"Apache-2.0";
    let mut spec = ProgramSpec {
        kind: SOCKET_ADDRESS,
        count: code.len() as u32,
        instructions: address(code),
        license: LICENSE.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        name: short(name),
        attach_type,
        ..ProgramSpec::default()
    };
    // SAFETY: code, license and log are alive and as long as said; gives a new descriptor.
    unsafe { new_fd(bpf(PROG_LOAD, &mut spec)) }
}

/// Attaches a program to a control group and those below it, beside what others have attached.
pub(super) fn create_link(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<OwnedFd> {
    let mut spec = LinkSpec { program: number(program), target: number(cgroup), attach_type, flags: 0 };
    // SAFETY: holds no address; gives a new descriptor.
    unsafe { new_fd(bpf(LINK_CREATE, &mut spec)) }
}

/// The hook that a link is attached to; `None` if it is attached to none any more, or is no link.
pub(super) fn attached_to(link: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let mut info = LinkInfo::default();
    let mut request = InfoRequest {
        object: number(link),
        length: size_of::<LinkInfo>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    // SAFETY: `info` is alive and that long.
    unsafe { bpf(OBJ_INFO, &mut request) }?;
    Ok((info.kind == LINK_CGROUP && info.cgroup != 0).then_some(info.attach_type))
}

/// Gives an object a name in a BPF file system.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_string(path)?;
    let mut spec = Pin { path: path.as_ptr() as u64, object: number(object), flags: 0 };
    // SAFETY: `path` is alive and ends with NUL.
    unsafe { bpf(OBJ_PIN, &mut spec) }.map(drop)
}

/// Opens an object by its name.
pub(super) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_string(path)?;
    let mut spec = Pin { path: path.as_ptr() as u64, ..Pin::default() };
    // SAFETY: `path` is alive and ends with NUL; gives a new descriptor.
    unsafe { new_fd(bpf(OBJ_GET, &mut spec)) }
}

fn c_string(path: &Path) -> io::Result<std::ffi::CString> {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// A map's file descriptor with the sizes of what is in it.
#[derive(Debug)]
pub(super) struct MapFd {
    pub fd: OwnedFd,
    pub key: usize,
    pub value: usize,
}

impl MapFd {
    /// Sets the value of a key.
    pub fn set(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        assert!(key.len() == self.key && value.len() == self.value);
        let mut element = Element { map: number(self.fd.as_fd()), key: address(key), ..Element::default() };
        element.value = address(value);
        // SAFETY: key and value are alive and as long as the map's are.
        unsafe { bpf(MAP_UPDATE, &mut element) }.map(drop)
    }

    /// Sets many values; `keys` and `values` are one behind the other.
    pub fn set_all(&self, keys: &[u8], values: &[u8]) -> io::Result<()> {
        let count = keys.len() / self.key;
        assert!(keys.len() == count * self.key && values.len() == count * self.value);
        if count == 0 {
            return Ok(());
        }
        let mut batch = Batch { map: number(self.fd.as_fd()), count: count as u32, ..Batch::default() };
        (batch.keys, batch.values) = (address(keys), address(values));
        // SAFETY: keys and values are alive and there are `count` of each.
        unsafe { bpf(MAP_UPDATE_BATCH, &mut batch) }.map(drop)
    }

    /// Removes many keys; those that are not there are no error.
    pub fn remove_all(&self, keys: &[u8]) -> io::Result<()> {
        assert_eq!(keys.len() % self.key, 0);
        let mut rest = keys;
        while !rest.is_empty() {
            let mut batch = Batch { map: number(self.fd.as_fd()), keys: address(rest), ..Batch::default() };
            batch.count = (rest.len() / self.key) as u32;
            // SAFETY: `rest` is alive and has `count` keys.
            match unsafe { bpf(MAP_DELETE_BATCH, &mut batch) } {
                Ok(_) => return Ok(()),
                // It stops at one that is not there, and says how many were before that.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    rest = rest.get((batch.count as usize + 1) * self.key..).unwrap_or_default();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Everything in it: keys and values, one behind the other. `most` is how many there may be in it.
    pub fn list(&self, most: usize) -> io::Result<(Vec<u8>, Vec<u8>)> {
        const STEP: usize = 4096;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let mut place = [0u8; 8];
        let mut is_first = true;
        // Entries that move while it is read may come twice, never without end.
        while keys.len() < 2 * most.max(STEP) * self.key {
            let (mut some_keys, mut some_values) = (vec![0u8; STEP * self.key], vec![0u8; STEP * self.value]);
            let mut batch = Batch { map: number(self.fd.as_fd()), count: STEP as u32, ..Batch::default() };
            batch.to = place.as_mut_ptr() as u64;
            batch.from = if is_first { 0 } else { batch.to };
            (batch.keys, batch.values) = (some_keys.as_mut_ptr() as u64, some_values.as_mut_ptr() as u64);
            // SAFETY: there is room for `count` keys and values and for the place, which the kernel reads before it writes.
            let result = unsafe { bpf(MAP_LOOKUP_BATCH, &mut batch) };
            let is_end = match result {
                Ok(_) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                Err(error) => return Err(error),
            };
            let count = (batch.count as usize).min(STEP);
            some_keys.truncate(count * self.key);
            some_values.truncate(count * self.value);
            keys.append(&mut some_keys);
            values.append(&mut some_values);
            if is_end {
                break;
            }
            is_first = false;
        }
        Ok((keys, values))
    }
}

/// Waits until no program runs any more that was running when this was called, and no packet is in the packet filter any more
/// that was in it: both run in read-side critical sections of RCU, and `MEMBARRIER_CMD_GLOBAL` waits for all of these (`kernel/sched/membarrier.c`). With one processor the kernel waits for none,
/// and does not know the call where processors run without ticks.
pub(super) fn wait_for_programs() {
    const GLOBAL: libc::c_int = 1;
    // SAFETY: takes no pointers.
    unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
}

/// The number of the network namespace that a socket is in.
pub(super) fn netns_cookie(socket: RawFd) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: `cookie` and `length` are alive, and `length` is that of `cookie`.
    let result = unsafe {
        let (value, length) = (std::ptr::from_mut(&mut cookie).cast(), std::ptr::from_mut(&mut length));
        libc::getsockopt(socket, libc::SOL_SOCKET, NETNS_COOKIE, value, length)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}

/// Mounts control groups (version 2) where nobody sees it, and opens the root. Resets the options of all their mounts.
pub(super) fn mount_cgroups() -> io::Result<OwnedFd> {
    const CREATE: libc::c_uint = 6;
    let check = |result: libc::c_long| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) };
    // SAFETY: the name is alive and ends with NUL; gives a new descriptor.
    let context = unsafe { new_fd(check(libc::syscall(libc::SYS_fsopen, c"cgroup2".as_ptr(), 1))) }?;
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: the command takes neither key nor value.
    check(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CREATE, null, null, 0) })?;
    // SAFETY: holds no address; gives a new descriptor.
    let mount = unsafe { new_fd(check(libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, 0))) }?;
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the path is alive and ends with NUL; gives a new descriptor.
    unsafe { new_fd(check(libc::openat(mount.as_raw_fd(), c".".as_ptr(), flags).into())) }
}
