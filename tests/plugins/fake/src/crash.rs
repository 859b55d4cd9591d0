//! Ends that no adapter can catch, and what no engine has a use for.

use std::fs::File;
use std::io::{self, Write};
use std::net::UdpSocket;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

/// Reads where nothing is.
#[expect(unsafe_code, reason = "a plugin that is broken on demand")]
pub(crate) fn segfault() {
    // SAFETY: there is none: this is the fault that a host must survive.
    let _: u8 = unsafe { std::ptr::read_volatile(std::ptr::without_provenance::<u8>(8)) };
}

/// Leaves a process behind that has all that is open here open too, and aborts.
#[expect(unsafe_code, reason = "a plugin that is broken on demand")]
pub(crate) fn fork_then_abort() -> ! {
    unsafe extern "C" {
        fn fork() -> i32;
    }
    // SAFETY: the child does nothing but wait.
    if unsafe { fork() } == 0 {
        hang();
    }
    std::process::abort()
}

/// Never comes back.
pub(crate) fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

/// Reaches for what is outside of its process, in a way that is named.
pub(crate) fn reach_out(way: &str) -> io::Result<()> {
    match way {
        "udp" => UdpSocket::bind("127.0.0.1:0").map(drop),
        "unix" => UnixDatagram::unbound().map(drop),
        "program" => Command::new("/bin/true").status().map(drop),
        other => Err(io::Error::other(format!("told to reach out by `{other}`"))),
    }
}

/// Writes into every socket of its process what nobody at the other end can understand.
pub(crate) fn speak_nonsense() {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().filter_map(Result::ok);
    let is_socket = |path: &std::fs::DirEntry| {
        std::fs::read_link(path.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    let sockets: Vec<_> = open.filter(is_socket).map(|entry| entry.file_name()).collect();
    for number in sockets.iter().filter_map(|name| name.to_str()?.parse().ok()) {
        // SAFETY: there is none: the descriptor is another's. It is not closed, and the other one goes on with it.
        #[expect(unsafe_code, reason = "a plugin that is broken on demand")]
        let mut socket = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(number) });
        // A length of three bytes, and three that are no frame.
        let _ = socket.write_all(&[3, 0, 0, 0, 0xc1, 0xc1, 0xc1]);
    }
}

/// Takes memory, and uses it, until there is no more.
pub(crate) fn allocate_without_end() -> ! {
    let mut all = Vec::new();
    loop {
        all.push(vec![1_u8; 1 << 20]);
    }
}
