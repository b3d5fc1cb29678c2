//! What a panic does: one line to standard error, then exit code 70.
//!
//! Owns the panic hook. The hook of the standard library asks for the working directory and prints a backtrace,
//! calls that the filters after lock-down forbid, and a panic in one thread would leave a server that is half
//! alive. Invariants: the process ends, without unwinding; the line is formed without the heap (a panic with
//! arguments has made its text there before) and is one line.

use core::fmt::{self, Write as _};
use std::panic::{self, PanicHookInfo};

use crate::console;
use crate::exit::Exit;
use crate::limits::PANIC_LINE_MAX_BYTES;

/// Installs the hook. Call it before anything else.
pub fn install() {
    panic::set_hook(Box::new(|info| {
        let mut line = Line { bytes: [0; PANIC_LINE_MAX_BYTES], len: 0 };
        line.fill(info);
        console::err(line.text());
        Exit::Software.leave();
    }));
}

/// One line of bounded length without the heap; what does not fit is cut off.
struct Line {
    bytes: [u8; PANIC_LINE_MAX_BYTES],
    len: usize,
}

impl Line {
    fn fill(&mut self, info: &PanicHookInfo<'_>) {
        let message = info.payload_as_str().unwrap_or("(no message)");
        // A line that is full refuses the rest; its beginning is what counts.
        let _ = match info.location() {
            Some(location) => write!(self, "quantonium: panic at {location}: {message}"),
            None => write!(self, "quantonium: panic: {message}"),
        };
        if let Some(end) = self.bytes.get_mut(self.len) {
            *end = b'\n';
            self.len += 1;
        }
    }

    fn text(&self) -> &str {
        // Whole characters were written, so the text is one.
        core::str::from_utf8(self.bytes.get(..self.len).unwrap_or_default()).unwrap_or_default()
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            let char = if char.is_control() { ' ' } else { char };
            let mut buffer = [0; 4];
            let bytes = char.encode_utf8(&mut buffer).as_bytes();
            // The last place is the newline's.
            let free = self.bytes.get_mut(self.len..PANIC_LINE_MAX_BYTES - 1);
            let place = free.and_then(|free| free.get_mut(..bytes.len())).ok_or(fmt::Error)?;
            place.copy_from_slice(bytes);
            self.len += bytes.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use super::*;

    /// Names the message with which the child of a test panics.
    const CHILD: &str = "QUANTONIUM_TEST_PANIC_WITH";

    fn line(text: &str) -> Line {
        let mut line = Line { bytes: [0; PANIC_LINE_MAX_BYTES], len: 0 };
        let _ = line.write_str(text);
        line
    }

    #[test]
    fn a_line_is_one_line_and_bounded() {
        assert_eq!(line("a\nb\x1bc").text(), "a b c");
        let full = line(&"é".repeat(PANIC_LINE_MAX_BYTES));
        assert_eq!(full.len, PANIC_LINE_MAX_BYTES - 2);
        assert!(full.text().chars().all(|char| char == 'é'));
    }

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
        assert!(said.ends_with(": the sky fell\n"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }

    #[test]
    fn an_endless_message_is_cut_off() {
        let output = panicked(&"x".repeat(100_000));
        assert_eq!(output.status.code(), Some(70));
        assert_eq!(output.stderr.len(), PANIC_LINE_MAX_BYTES);
        assert_eq!(output.stderr.last(), Some(&b'\n'));
    }
}
