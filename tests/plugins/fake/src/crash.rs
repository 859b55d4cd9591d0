//! Ends that no adapter can catch.

/// Reads where nothing is.
#[expect(unsafe_code, reason = "a plugin that is broken on demand")]
pub(crate) fn segfault() {
    // SAFETY: there is none: this is the fault that a host must survive.
    let _: u8 = unsafe { std::ptr::read_volatile(std::ptr::without_provenance::<u8>(8)) };
}

/// Never comes back.
pub(crate) fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

/// Takes memory, and uses it, until there is no more.
pub(crate) fn allocate_without_end() -> ! {
    let mut all = Vec::new();
    loop {
        all.push(vec![1_u8; 1 << 20]);
    }
}
