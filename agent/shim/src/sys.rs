//! System calls that need `unsafe`: the only such place in the shim's binary.
//!
//! Thin wrappers, one call each. Must hold no policy.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// Result of a call that returns -1 on error.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A C string of a path or argument; a NUL inside is an error.
pub fn cstring(bytes: impl Into<Vec<u8>>) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "NUL byte inside"))
}

/// `fork(2)`: `None` in the child. The process has one thread, so the child may do anything.
pub fn fork() -> io::Result<Option<i32>> {
    // SAFETY: this program never starts a thread.
    let pid = check(unsafe { libc::fork() }.into())? as i32;
    Ok((pid > 0).then_some(pid))
}

/// `fork`, but the child becomes a child of the caller's parent.
pub fn fork_as_sibling() -> io::Result<Option<i32>> {
    // SAFETY: without CLONE_VM and a stack this is fork; no thread exists.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_PARENT | libc::SIGCHLD, 0, 0, 0, 0) })?;
    Ok((pid > 0).then_some(pid as i32))
}

/// Ends this process without running anything.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: never returns and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Reaps one child that has ended: its pid and wait status.
pub fn reap() -> Option<(i32, i32)> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    (pid > 0).then_some((pid, status))
}

/// Waits for one child: its wait status.
pub fn wait_for(pid: i32) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call.
        match check(unsafe { libc::waitpid(pid, &mut status, 0) }.into()) {
            Ok(_) => return Ok(status),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// `kill(2)`; a negative pid is a process group.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Blocks `signals` and returns a descriptor that delivers them.
pub fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised before use, the descriptor is fresh.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        check(libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()).into())?;
        let fd = check(libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into())?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Ignores a signal.
pub fn ignore(signal: i32) {
    // SAFETY: SIG_IGN runs no code.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Every signal at its default and none blocked: what a fresh program expects.
pub fn reset_signals() {
    // The kernel's own layout: handler, flags, restorer, mask. All zero is SIG_DFL.
    let default = [0u64; 4];
    let none_blocked = 0u64;
    let size = std::mem::size_of::<u64>();
    // SAFETY: the kernel reads both for the duration of the calls. Raw calls, because the C library hides
    // the two signals it uses itself, and a daemon may have been started with them ignored.
    unsafe {
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<u64>(), size);
        }
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &none_blocked, std::ptr::null_mut::<u64>(), size);
    }
}

/// `prctl(2)` with plain numbers.
pub fn prctl(option: i32, argument: u64) -> io::Result<i32> {
    // SAFETY: only options that take numbers are passed here.
    check(unsafe { libc::prctl(option, argument, 0, 0, 0) }.into()).map(|value| value as i32)
}

/// Raises or lowers one ambient capability, `PR_CAP_AMBIENT`.
pub fn clear_ambient() -> io::Result<()> {
    // SAFETY: plain numbers.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) }.into()).map(drop)
}

/// Sets effective, permitted and inheritable capabilities, `capset(2)`.
pub fn capset(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Data {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: both structures have the layout of capabilities version 3 and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &header, data.as_ptr()) }).map(drop)
}

/// Installs a compiled filter, `seccomp(2)`. `bytes` is an array of `sock_filter`.
pub fn seccomp_load(bytes: &[u8]) -> io::Result<()> {
    const SIZE: usize = std::mem::size_of::<libc::sock_filter>();
    if bytes.is_empty() || !bytes.len().is_multiple_of(SIZE) || bytes.len() / SIZE > 4096 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a seccomp filter"));
    }
    let mut program: Vec<libc::sock_filter> = bytes
        .chunks_exact(SIZE)
        .map(|chunk| libc::sock_filter {
            code: u16::from_ne_bytes([chunk[0], chunk[1]]),
            jt: chunk[2],
            jf: chunk[3],
            k: u32::from_ne_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]),
        })
        .collect();
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: `filter` points at `len` instructions that outlive the call.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &filter) }).map(drop)
}

/// User, group and supplementary groups, all at once and for good.
pub fn set_ids(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: the slice outlives the call; raw calls because the process has one thread.
    unsafe {
        check(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}

/// `setns(2)` by pidfd into several namespaces of a process at once.
pub fn setns(pidfd: impl AsFd, namespaces: i32) -> io::Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::setns(pidfd.as_fd().as_raw_fd(), namespaces) }.into()).map(drop)
}

/// A new mount namespace for this process.
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into()).map(drop)
}

/// A control group namespace rooted where this process is.
pub fn unshare_cgroups() -> io::Result<()> {
    // SAFETY: plain integers.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }.into()).map(drop)
}

/// `mount(2)`.
pub fn mount(source: &str, target: &Path, kind: &str, flags: u64, data: &str) -> io::Result<()> {
    let source = cstring(source)?;
    let target = cstring(target.as_os_str().as_encoded_bytes())?;
    let (kind, data) = (cstring(kind)?, cstring(data)?);
    // SAFETY: all strings outlive the call.
    check(
        unsafe {
            libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags as libc::c_ulong, data.as_ptr().cast())
        }
        .into(),
    )
    .map(drop)
}

/// Detaches a mount, `umount2(2)`.
pub fn unmount(target: &Path) -> io::Result<()> {
    let target = cstring(target.as_os_str().as_encoded_bytes())?;
    // SAFETY: the string outlives the call.
    check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }.into()).map(drop)
}

/// Sets a resource limit by its number.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` outlives the call.
    check(unsafe { libc::prlimit64(0, resource, &limit, std::ptr::null_mut()) }.into()).map(drop)
}

/// Marks every descriptor from `first` on to be closed by `execve`.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: plain integers.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Makes `fd` the descriptor `number`.
pub fn dup_to(fd: impl AsFd, number: RawFd) -> io::Result<()> {
    // SAFETY: plain integers; 0, 1 and 2 belong to nobody else in the child.
    check(unsafe { libc::dup2(fd.as_fd().as_raw_fd(), number) }.into()).map(drop)
}

/// Takes a descriptor that was inherited by number.
///
/// # Safety
/// Nothing else in the process may own `number`.
pub unsafe fn inherited(number: RawFd) -> OwnedFd {
    // SAFETY: the caller's promise.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// `execve(2)`; returns only with an error.
pub fn execve(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer and outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Makes the terminal the controlling one of this session.
pub fn take_terminal(terminal: impl AsFd) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes a number.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) }.into()).map(drop)
}

/// Unlocks a new terminal and opens its slave side, `TIOCGPTPEER`.
pub fn open_slave(master: impl AsFd) -> io::Result<OwnedFd> {
    let unlock: libc::c_int = 0;
    let master = master.as_fd().as_raw_fd();
    // SAFETY: the number outlives the call; the descriptor is fresh.
    unsafe {
        check(libc::ioctl(master, libc::TIOCSPTLCK, &unlock).into())?;
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let fd = check(libc::ioctl(master, libc::TIOCGPTPEER, flags).into())?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Gives freed memory back to the kernel.
pub fn trim_heap() {
    // SAFETY: takes a number.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Closes descriptors `first` to `last`; the caller owns them and uses none of them again.
pub fn close_range(first: u32, last: u32) {
    // SAFETY: plain integers; only called on the way to `execve` or `_exit`.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}
