//! The lower bound: clone3 into new pid, mount, network, UTS and IPC namespaces, the mounts a container needs,
//! pivot_root, execve. No control group, no filter, no supervisor.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// Runs the probe in `root`, with `out` mounted at /out, and waits for its end.
pub fn run(root: &Path, out: &Path) {
    let path = |path: &Path| CString::new(path.as_os_str().as_bytes()).expect("no NUL in paths");
    let (root, out) = (path(root), path(out));
    let flags = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    let mut args = libc::clone_args {
        flags: flags as u64,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // SAFETY: without CLONE_VM the child has its own copy of memory; it calls only async-signal-safe functions.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    assert!(pid >= 0, "clone3: {}", std::io::Error::last_os_error());
    if pid == 0 {
        // SAFETY: as above; ends in execve or _exit.
        unsafe { child(&root, &out) }
    }
    match waitpid(Pid::from_raw(pid as i32), None) {
        Ok(WaitStatus::Exited(_, 0)) => {}
        other => panic!("the bare container ended with {other:?}"),
    }
}

/// # Safety
/// In the child of a clone3 without CLONE_VM only.
unsafe fn child(root: &CString, out: &CString) -> ! {
    let check = |result: i32, code: i32| {
        if result != 0 {
            // SAFETY: _exit is async-signal-safe and does not return.
            unsafe { libc::_exit(code) }
        }
    };
    let bind = libc::MS_BIND | libc::MS_REC;
    let none = std::ptr::null();
    // SAFETY: all pointers are to NUL-terminated strings that live until execve.
    unsafe {
        check(libc::mount(none, c"/".as_ptr(), none, libc::MS_PRIVATE | libc::MS_REC, none.cast()), 10);
        check(libc::mount(root.as_ptr(), root.as_ptr(), none, bind, none.cast()), 11);
        check(libc::chdir(root.as_ptr()), 12);
        check(libc::mount(out.as_ptr(), c"out".as_ptr(), none, bind, none.cast()), 13);
        check(libc::mount(c"proc".as_ptr(), c"proc".as_ptr(), c"proc".as_ptr(), 0, none.cast()), 14);
        check(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) as i32, 15);
        check(libc::umount2(c".".as_ptr(), libc::MNT_DETACH), 16);
        let argv = [c"/bin/probe".as_ptr(), c"/out/stamp".as_ptr(), std::ptr::null()];
        let env = [std::ptr::null()];
        libc::execve(c"/bin/probe".as_ptr(), argv.as_ptr(), env.as_ptr());
        libc::_exit(17)
    }
}
