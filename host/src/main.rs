//! The binary `impetus`. Everything is in the library, where tests can reach it.

fn main() -> ! {
    impetus::cli::main()
}
