//! Opening a TUN device: the one system call of this crate that no library wraps safely.
//!
//! Must hold no policy.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use crate::name::DeviceName;

/// `struct ifreq` as `TUNSETIFF` reads it: 40 bytes, a name and flags.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

// "Write" by its number, but the kernel writes back too.
nix::ioctl_readwrite_bad!(set_interface, nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()), Request);

/// Makes a TUN device that is gone when the file is closed. Reads and writes are whole IP packets, and do not block.
pub(super) fn open(name: &DeviceName) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    let mut request = Request { name: [0; libc::IFNAMSIZ], flags, rest: [0; 22] };
    let text = name.as_str().as_bytes();
    request.name[..text.len()].copy_from_slice(text);
    // SAFETY: the kernel reads `struct ifreq`, which `Request` is laid out as, and writes the name and flags back into
    // it; it outlives the call.
    unsafe { set_interface(file.as_raw_fd(), &mut request) }.map_err(io::Error::from)?;
    Ok(file)
}
