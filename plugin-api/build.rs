//! Tells the crate which target triple it is compiled for: the manifest states it.

fn main() {
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo:rustc-env=IMPETUS_TARGET={target}");
    println!("cargo:rerun-if-changed=build.rs");
}
