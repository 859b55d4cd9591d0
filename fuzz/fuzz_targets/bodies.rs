//! Any bytes as the body of a chat, a completion or a response: a request or a refusal that is a client's fault.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for status in impetus::http::fuzzing::statuses_of_body(bytes) {
        assert!(status == 200 || (400..500).contains(&status), "{status}");
    }
});
