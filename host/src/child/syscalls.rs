//! System calls that an engine has no use for, refused by the kernel (seccomp): whatever a plugin's code wants with them, it
//! is not to compute. Each group has a name for what is out of reach without it.
//!
//! Landlock alone leaves open every kind of socket but TCP, and what root could do where the server runs as root. A list of
//! what is refused, not of what is allowed: allocators, thread pools and drivers use calls that nobody can foresee.

use std::collections::BTreeMap;
use std::error::Error;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// No way to the network or to other programs but the socket that leads to the host. A queue of `io_uring` would be another.
const SOCKETS: &[i64] =
    &[libc::SYS_socket, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// No other program, and no way out of the group that is ended as a whole.
const PROGRAMS: &[i64] = &[libc::SYS_execve, libc::SYS_execveat, libc::SYS_setpgid, libc::SYS_setsid];

/// No look into other processes, and no hand in them.
const TRACING: &[i64] = &[
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_userfaultfd,
];

/// Nothing that changes the machine, or what is seen of it.
const ADMINISTRATION: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    #[cfg(not(target_arch = "riscv64"))]
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
];

/// Signals to others; those whose first argument is this very process are allowed.
const SIGNALS_BY_PID: &[i64] =
    &[libc::SYS_kill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo, libc::SYS_tgkill];

/// Signals by other names: of a thread, which may be another process's, and of a descriptor.
const SIGNALS: &[i64] = &[libc::SYS_pidfd_send_signal, libc::SYS_tkill];

/// What is in force when the filter is.
const NAMES: &[&str] = &["no_signals", "no_sockets", "no_programs", "no_tracing", "no_administration"];

/// Refuses them from now on, to this thread and those that it starts: they fail with "operation not permitted". Tells by name
/// what that comes to.
///
/// # Errors
/// When this kernel or this processor has no such filters.
pub(super) fn refuse() -> Result<&'static [&'static str], Box<dyn Error>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for &call in [SOCKETS, PROGRAMS, TRACING, ADMINISTRATION, SIGNALS].into_iter().flatten() {
        rules.insert(call, Vec::new());
    }
    let own = u64::from(std::process::id());
    let is_not = |pid| SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, pid);
    for &call in SIGNALS_BY_PID {
        rules.insert(call, vec![SeccompRule::new(vec![is_not(own)?])?]);
    }
    // Limits of others are no signals, but end them as surely.
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![is_not(0)?, is_not(own)?])?]);
    add_calls_of_x32(&mut rules);
    let refusal = SeccompAction::Errno(libc::EPERM as u32);
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, refusal, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(NAMES)
}

/// Kernels that know x32 take the same calls under a second number each, and some under numbers of their own.
#[cfg(target_arch = "x86_64")]
fn add_calls_of_x32(rules: &mut BTreeMap<i64, Vec<SeccompRule>>) {
    const X32: i64 = 0x4000_0000;
    /// execve, ptrace, rt_sigqueueinfo, kexec_load, rt_tgsigqueueinfo, process_vm_readv, process_vm_writev, execveat.
    const OWN_NUMBERS: [i64; 8] = [520, 521, 524, 528, 536, 539, 540, 545];

    let twins: Vec<_> = rules.iter().map(|(call, rules)| (call | X32, rules.clone())).collect();
    rules.extend(twins);
    rules.extend(OWN_NUMBERS.map(|call| (call | X32, Vec::new())));
}

#[cfg(not(target_arch = "x86_64"))]
fn add_calls_of_x32(_: &mut BTreeMap<i64, Vec<SeccompRule>>) {}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a thread of its own: a filter holds for the thread that asked for it, for ever.
    #[test]
    fn what_is_refused_fails_and_the_rest_goes_on() {
        std::thread::spawn(|| {
            let Ok(names) = refuse() else {
                eprintln!("this kernel refuses no system calls: nothing to test");
                return;
            };
            assert!(names.contains(&"no_sockets"));
            let is_refused = |error: std::io::Error| error.raw_os_error() == Some(libc::EPERM);
            assert!(is_refused(std::net::UdpSocket::bind("127.0.0.1:0").unwrap_err()));
            assert!(is_refused(std::os::unix::net::UnixDatagram::unbound().unwrap_err()));
            assert!(is_refused(std::process::Command::new("/bin/true").status().unwrap_err()));
            let signal = |pid| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None);
            assert_eq!(signal(std::process::id() as i32), Ok(()));
            for other in [0, 1, std::os::unix::process::parent_id() as i32] {
                assert_eq!(signal(other), Err(nix::Error::EPERM), "{other}");
            }
            // What engines do need.
            assert!(std::os::unix::net::UnixStream::pair().is_ok());
            assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
            assert!(std::fs::read_to_string("/proc/thread-self/status").unwrap().contains("Seccomp:\t2"));
        })
        .join()
        .unwrap();
    }
}
