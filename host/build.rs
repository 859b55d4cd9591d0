//! The web page's files are part of the binary: what was built since the last time is to be taken in.

fn main() {
    let built = std::path::Path::new("web/dist");
    // Where the folder is missing cargo would look for it, and build everything anew, each time.
    if std::fs::create_dir_all(built).is_ok() {
        println!("cargo::rerun-if-changed={}", built.display());
    } else {
        println!("cargo::rerun-if-changed=build.rs");
    }
}
