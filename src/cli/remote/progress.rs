//! How far a long transfer is, for a terminal.
//!
//! Owns [`Progress`]. Invariant: it writes to standard error only, and only if that is a terminal and the result goes elsewhere.

use std::io::IsTerminal as _;

use crate::clock::Moment;
use crate::console;
use crate::limits::CLIENT_PROGRESS_MILLIS;

/// A line that is written over and over.
pub(in crate::cli) struct Progress {
    /// How much there will be, if that is known.
    total: Option<u64>,
    began: Moment,
    next: Moment,
    is_shown: bool,
    has_line: bool,
}

impl Progress {
    /// One of a transfer whose input has `total` bytes; `is_seen` says whether its result goes to a terminal.
    pub(in crate::cli) fn new(total: Option<u64>, is_seen: bool) -> Self {
        let began = Moment::now();
        let next = began.plus_millis(CLIENT_PROGRESS_MILLIS);
        Self { total, began, next, is_shown: !is_seen && std::io::stderr().is_terminal(), has_line: false }
    }

    /// So many bytes of the input are done.
    pub(in crate::cli) fn at(&mut self, bytes: u64) {
        let now = Moment::now();
        if !self.is_shown || now < self.next {
            return;
        }
        self.next = now.plus_millis(CLIENT_PROGRESS_MILLIS);
        self.has_line = true;
        let millis = u64::try_from(self.began.until(now).as_millis()).unwrap_or(u64::MAX).max(1);
        console::err(&line(bytes, self.total, millis));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.has_line {
            console::err("\r\x1b[K");
        }
    }
}

fn line(bytes: u64, total: Option<u64>, millis: u64) -> String {
    let mib = |bytes: u64| format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20);
    let share = match total {
        Some(total @ 1..) => format!(" {:>3} %", bytes.saturating_mul(100) / total),
        _ => String::new(),
    };
    let rate = bytes.saturating_mul(1_000) / millis;
    format!("\r\x1b[K{}{share}, {}/s", mib(bytes), mib(rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_amount_share_and_rate() {
        assert_eq!(line(3 << 19, Some(6 << 19), 500), "\r\x1b[K1.5 MiB  50 %, 3.0 MiB/s");
        assert_eq!(line(0, None, 1), "\r\x1b[K0.0 MiB, 0.0 MiB/s");
        assert_eq!(line(u64::MAX, Some(0), 1).matches('%').count(), 0);
    }
}
