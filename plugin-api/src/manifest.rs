//! The manifest: who a plugin is, readable from the file before any of its code runs.
//!
//! A JSON object in the link section [`SECTION`], padded with nothing:
//! `{"manifest":1,"id":"gguf","version":"1.0.0","api_version":"1.0.0","target":"x86_64-unknown-linux-gnu",
//! "panic":"unwind","formats":[{"id":"gguf","extensions":["gguf"],"priority":100}],"cpu_features":["avx2","fma"]}`.
//! It is put together while compiling, out of string literals: no value in it needs escaping, which `checked` ensures.

/// Name of the link section (ELF). Mach-O names it `__DATA,__impetus`.
pub const SECTION: &str = ".impetus.plugin";

/// The symbol that leads to the root module: the only one a plugin library exports.
pub const ROOT_SYMBOL: &str = "impetus_plugin_root";

/// The target that this crate, and the plugin with it, was compiled for.
pub const TARGET: &str = env!("IMPETUS_TARGET");

/// How a panic ends: only unwinding ones can be caught at the border.
pub const PANIC: &str = if cfg!(panic = "unwind") { "unwind" } else { "abort" };

/// Hands the processor features that a manifest names to another macro: those whose absence makes a process die of an
/// illegal instruction, and which the standard library can detect.
#[doc(hidden)]
#[macro_export]
macro_rules! __with_cpu_features {
    ($then:ident) => {
        $then! {
            "sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "f16c", "fma", "bmi1", "bmi2", "lzcnt", "movbe",
            "avx2", "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512vbmi", "avx512vnni",
            "avx512bf16", "avx512vpopcntdq", "gfni", "vaes", "vpclmulqdq"
        }
    };
}

macro_rules! enabled_features {
    ($($feature:literal),*) => {
        &[$(if cfg!(target_feature = $feature) { concat!("\"", $feature, "\",") } else { "" }),*]
    };
}

/// The processor features that the compiler was allowed to use without asking, as a list in JSON's notation.
pub const CPU_FEATURES: &[&str] = __with_cpu_features!(enabled_features);

/// Length in bytes of the parts joined. For [`export_plugin!`](crate::export_plugin).
#[doc(hidden)]
pub const fn joined_len(parts: &[&[&str]]) -> usize {
    let mut total = 0;
    let mut list = 0;
    while list < parts.len() {
        let mut item = 0;
        while item < parts[list].len() {
            total += parts[list][item].len();
            item += 1;
        }
        list += 1;
    }
    total
}

/// The parts joined, each comma that stands right before a closing bracket blanked (lists are written with one too many).
#[doc(hidden)]
pub const fn joined<const N: usize>(parts: &[&[&str]]) -> [u8; N] {
    let mut bytes = [0; N];
    let mut at = 0;
    let mut list = 0;
    while list < parts.len() {
        let mut item = 0;
        while item < parts[list].len() {
            let text = parts[list][item].as_bytes();
            let mut i = 0;
            while i < text.len() {
                if text[i] == b']' && at > 0 && bytes[at - 1] == b',' {
                    bytes[at - 1] = b' ';
                }
                bytes[at] = text[i];
                at += 1;
                i += 1;
            }
            item += 1;
        }
        list += 1;
    }
    bytes
}

/// The literal itself, if JSON takes it between quotes as it is.
///
/// # Panics
/// While compiling, on a quote, a backslash or a control character.
#[doc(hidden)]
pub const fn checked(text: &str) -> &str {
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        assert!(
            bytes[i] >= b' ' && bytes[i] != b'"' && bytes[i] != b'\\',
            "a plugin's id, version and formats must not contain quotes, backslashes or control characters"
        );
        i += 1;
    }
    text
}
