//! llama.cpp's own log lines: into the host's log, and kept for the error when a call fails with nothing but null.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_void};

use llama_cpp_sys_2 as sys;

/// Lines that are kept of one call: the last ones say what went wrong.
const KEPT_LINES: usize = 40;

thread_local! {
    // llama.cpp logs from the thread that called it.
    static LINES: RefCell<VecDeque<String>> = const { RefCell::new(VecDeque::new()) };
}

/// Sends llama.cpp's and ggml's lines here. Once per process.
#[expect(unsafe_code, reason = "llama.cpp takes a callback")]
pub(crate) fn install() {
    // SAFETY: `receive` has the signature that both ask for, never unwinds, and lives as long as the process.
    unsafe {
        sys::llama_log_set(Some(receive), std::ptr::null_mut());
        sys::ggml_log_set(Some(receive), std::ptr::null_mut());
    }
}

/// Runs a call and gives with its result the lines that llama.cpp wrote on this thread meanwhile.
pub(crate) fn with_lines<T>(call: impl FnOnce() -> T) -> (T, String) {
    LINES.with_borrow_mut(VecDeque::clear);
    let result = call();
    let lines = LINES.with_borrow_mut(std::mem::take);
    (result, Vec::from(lines).join("\n"))
}

/// The line among them that says most about a failure, for a one-line message.
pub(crate) fn cause(lines: &str) -> Option<&str> {
    let says_so = |line: &&str| line.contains("error") || line.contains("failed") || line.contains("unknown");
    lines.lines().map(str::trim).find(says_so)
}

#[expect(unsafe_code, reason = "llama.cpp hands over a C string")]
unsafe extern "C" fn receive(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    if text.is_null() {
        return;
    }
    // SAFETY: llama.cpp passes a string that ends with a zero and lives for the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let text = text.trim_end();
    if text.is_empty() || text.bytes().all(|byte| byte == b'.') {
        return;
    }
    keep(level, text);
    match level {
        sys::GGML_LOG_LEVEL_ERROR => tracing::error!(target: "llama.cpp", "{text}"),
        sys::GGML_LOG_LEVEL_WARN => tracing::warn!(target: "llama.cpp", "{text}"),
        _ => tracing::debug!(target: "llama.cpp", "{text}"),
    }
}

fn keep(level: sys::ggml_log_level, text: &str) {
    // A line of a thread that is just ending, or within `with_lines` itself, is only not kept.
    let _ = LINES.try_with(|lines| {
        let Ok(mut lines) = lines.try_borrow_mut() else { return };
        if level == sys::GGML_LOG_LEVEL_CONT
            && let Some(last) = lines.back_mut()
        {
            last.push_str(text);
            return;
        }
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(text.to_owned());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_call_are_kept_and_no_others() {
        keep(sys::GGML_LOG_LEVEL_INFO, "before");
        let ((), lines) = with_lines(|| {
            keep(sys::GGML_LOG_LEVEL_INFO, "loading");
            keep(sys::GGML_LOG_LEVEL_ERROR, "error: no ");
            keep(sys::GGML_LOG_LEVEL_CONT, "tensor");
        });
        assert_eq!(lines, "loading\nerror: no tensor");
        assert_eq!(cause(&lines), Some("error: no tensor"));
        assert_eq!(with_lines(|| 1), (1, String::new()));
    }
}
