//! The thin binary: the allocator, the panic hook, the command line.

use std::process::ExitCode;

use quantonium::cli;
use quantonium::memory::ProcessHeap;

mod c_heap;

/// Pure Rust and quick across threads, where musl's own allocator is slow; and closed by the lock-down.
#[global_allocator]
static ALLOCATOR: ProcessHeap = ProcessHeap;

fn main() -> ExitCode {
    cli::install_panic_hook();
    cli::run(std::env::args_os().skip(1), std::env::vars_os()).into()
}
