//! The thin binary: the allocator, the panic hook, the command line.

use std::process::ExitCode;

use quantonium::cli;

/// Pure Rust and quick across threads, where musl's own allocator is slow.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    cli::install_panic_hook();
    cli::run(std::env::args_os().skip(1), std::env::vars_os()).into()
}
