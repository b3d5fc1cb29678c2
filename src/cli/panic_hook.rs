//! What a panic does: one line to standard error, then exit code 70.
//!
//! Owns the panic hook. The hook of the standard library asks for the working directory and prints a backtrace,
//! calls that the filters after lock-down forbid, and a panic in one thread would leave a server that is half
//! alive. Invariants: the process ends, without unwinding; the line is formed without the heap (a panic with
//! arguments has made its text there before) and is one line.

use std::panic;

use crate::exit::Exit;
use crate::log::{self, Module};

/// Installs the hook. Call it before anything else.
pub fn install() {
    panic::set_hook(Box::new(|info| {
        let message = info.payload_as_str().unwrap_or("(no message)");
        match info.location() {
            Some(location) => log::last_words(Module::Server, format_args!("panic at {location}: {message}")),
            None => log::last_words(Module::Server, format_args!("panic: {message}")),
        }
        Exit::Software.leave();
    }));
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use super::*;
    use crate::limits::LOG_TEXT_MAX_BYTES;

    /// Names the message with which the child of a test panics.
    const CHILD: &str = "QUANTONIUM_TEST_PANIC_WITH";

    /// Not a test of its own: the process in which the two tests below let a thread panic.
    #[test]
    fn panics_when_asked_to() {
        if let Some(message) = std::env::var_os(CHILD) {
            install();
            let thread = std::thread::spawn(move || panic!("{}", message.display()));
            // The thread ends the process; should it not, the exit code tells.
            let _ = thread.join();
        }
    }

    fn panicked(message: &str) -> Output {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cli::panic_hook::tests::panics_when_asked_to", "--nocapture"])
            .env(CHILD, message)
            .env("RUST_BACKTRACE", "1")
            .output()
            .unwrap()
    }

    #[test]
    fn a_panic_in_any_thread_ends_the_process_with_one_line_and_70() {
        let output = panicked("the sky\nfell");
        assert_eq!(output.status.code(), Some(70));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("quantonium: panic at src/cli/panic_hook.rs:"), "{said}");
        assert!(said.ends_with(": the sky\\nfell\n"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }

    #[test]
    fn an_endless_message_is_cut_off() {
        let output = panicked(&"x".repeat(100_000));
        assert_eq!(output.status.code(), Some(70));
        assert_eq!(output.stderr.len(), LOG_TEXT_MAX_BYTES + "...\n".len());
        assert_eq!(output.stderr.last(), Some(&b'\n'));
    }
}
