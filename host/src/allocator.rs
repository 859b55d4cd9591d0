//! The system's allocator keeps what was freed, in case it is wanted again: right within an answer, wrong after the end of a
//! model, when whoever looks at the machine's memory wants to see it back.

/// Gives the system back what was freed and is still kept.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "no crate has a safe name for it")]
pub(crate) fn give_back() {
    // SAFETY: it takes a number, and locks what it touches as every other call of the allocator does.
    unsafe { nix::libc::malloc_trim(0) };
}

/// This system's allocator takes no such wishes.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn give_back() {}
