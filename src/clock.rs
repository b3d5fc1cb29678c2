//! Time enters the program here and nowhere else.
//!
//! Owns [`Moment`] (monotonic, for deadlines and durations), [`BootTime`] (the same for all processes, for what must not be too old) and [`WallTime`] (for dates in headers, audit lines
//! and key records). Invariants: a moment never goes back; every deadline is computed from moments, so a
//! clock that is set does not disturb the program; nothing here panics on a clock before 1970.

use core::time::Duration;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use nix::sys::time::TimeValLike as _;
use nix::time::{ClockId, clock_gettime};

/// A point of monotonic time, in nanoseconds since the first look at the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// The end of time: a deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// Reads the monotonic clock.
    #[must_use]
    pub fn now() -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        let start = START.get_or_init(Instant::now);
        Self(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// A moment from its nanoseconds: for tests and simulations that bring their own time.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the first look at the clock.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The moment `millis` later; never wraps.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis.saturating_mul(1_000_000)))
    }

    /// The moment `nanos` nanoseconds later; [`Moment::NEVER`] if that is beyond all time.
    #[must_use]
    pub const fn plus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// Nanoseconds from `earlier` to here; zero if `earlier` is later.
    #[must_use]
    pub const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Time from here until `later`; zero if it has passed.
    #[must_use]
    pub const fn until(self, later: Self) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }
}

/// Time since the machine was booted, in nanoseconds: all processes see the same, and it counts while the machine sleeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(u64);

impl BootTime {
    /// Reads the clock; the end of time if there is none, so that nothing counts as fresh.
    #[must_use]
    pub fn now() -> Self {
        let read = clock_gettime(ClockId::CLOCK_BOOTTIME).ok();
        let nanos = read.and_then(|now| u64::try_from(now.num_nanoseconds()).ok());
        Self(nanos.unwrap_or(u64::MAX))
    }

    /// Nanoseconds since the boot.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

/// Civil time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(u64);

impl WallTime {
    /// Reads the wall clock; a clock before 1970 reads as 1970.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// A time from its milliseconds since 1970.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000
    }

    /// Reads a date and time (RFC 3339, section 5.6), fractions of milliseconds cut off; nothing before 1970.
    #[must_use]
    pub fn parse_rfc3339(text: &[u8]) -> Option<Self> {
        let (date, rest) = text.split_at_checked("2026-11-22T15:42:46".len())?;
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        let marked =
            |(at, mark): (usize, u8)| date.get(at).is_some_and(|byte| byte.eq_ignore_ascii_case(&mark));
        let field = |from: usize, to: usize| digits(date.get(from..to)?);
        let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
        let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
        // A leap second reads as the one after it.
        if !marks.into_iter().all(marked) || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let (fraction, zone) = match rest.strip_prefix(b".") {
            Some(rest) => {
                rest.split_at_checked(rest.iter().take_while(|byte| byte.is_ascii_digit()).count())?
            }
            None => (&b"0"[..], rest),
        };
        let mut millis = [b'0'; 3];
        millis.iter_mut().zip(fraction).for_each(|(place, digit)| *place = *digit);
        let offset = match zone {
            [b'Z' | b'z'] => 0,
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
                let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
                let seconds = i64::try_from(hours * 3_600 + minutes * 60).ok()?;
                if hours > 23 || minutes > 59 {
                    return None;
                }
                if *sign == b'+' { seconds } else { -seconds }
            }
            _ => return None,
        };
        let seconds = days_from_civil(year, month, day)? * 86_400 + hour * 3_600 + minute * 60 + second;
        let seconds = seconds.checked_add_signed(-offset)?;
        let read = Self(seconds * 1_000 + digits(&millis)?);
        (!fraction.is_empty()).then_some(read)
    }

    /// The fields of the civil date in UTC.
    #[must_use]
    pub const fn civil(self) -> Civil {
        let days = self.as_secs() / 86_400;
        let second = self.as_secs() % 86_400;
        // Days are counted from 0000-03-01, so that the leap day is the last of its year
        // (Hinnant, "chrono-compatible low-level date algorithms", civil_from_days).
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
        Civil {
            year,
            month,
            day,
            hour: second / 3_600,
            minute: second / 60 % 60,
            second: second % 60,
            millisecond: self.0 % 1_000,
            weekday: (days + 4) % 7,
        }
    }
}

/// Days from 1970-01-01 to a date (Hinnant, as above, days_from_civil); nothing if there is no such date, or it is earlier.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    let shifted = if month > 2 { year } else { year.checked_sub(1)? };
    let (era, year_of_era) = (shifted / 400, shifted % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    // A day that the month does not have is one of the next month.
    let civil = WallTime(days * 86_400_000).civil();
    ((civil.year, civil.month, civil.day) == (year, month, day)).then_some(days)
}

/// A number of decimal digits alone.
fn digits(text: &[u8]) -> Option<u64> {
    let right = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    str::from_utf8(text).ok().filter(|_| right)?.parse().ok()
}

/// A date and time in UTC, in fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// Year of the Gregorian calendar.
    pub year: u64,
    /// Month, 1 to 12.
    pub month: u64,
    /// Day of the month, 1 to 31.
    pub day: u64,
    /// Hour, 0 to 23.
    pub hour: u64,
    /// Minute, 0 to 59.
    pub minute: u64,
    /// Second, 0 to 59.
    pub second: u64,
    /// Millisecond, 0 to 999.
    pub millisecond: u64,
    /// Day of the week, 0 is Sunday.
    pub weekday: u64,
}

impl core::fmt::Display for Civil {
    /// RFC 3339, section 5.6, with milliseconds: `2026-11-22T15:42:46.123Z`.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { year, month, day, hour, minute, second, millisecond, .. } = self;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn civil_dates_match_known_ones() {
        for (millis, shown, weekday) in [
            (0, "1970-01-01T00:00:00.000Z", 4),
            (951_782_400_000, "2000-02-29T00:00:00.000Z", 2),
            (951_868_799_999, "2000-02-29T23:59:59.999Z", 2),
            (1_709_164_800_001, "2024-02-29T00:00:00.001Z", 4),
            (4_102_444_800_000, "2100-01-01T00:00:00.000Z", 5),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z", 1),
        ] {
            let civil = WallTime::from_millis(millis).civil();
            assert_eq!(civil.to_string(), shown);
            assert_eq!(civil.weekday, weekday, "{shown}");
        }
    }

    #[test]
    fn times_that_are_shown_are_read_again() {
        for day in 0..80_000 {
            let time = WallTime::from_millis(day * 86_400_000 + day * 997);
            assert_eq!(WallTime::parse_rfc3339(time.civil().to_string().as_bytes()), Some(time));
        }
    }

    #[test]
    fn other_forms_of_a_time_are_read_and_what_is_none_is_not() {
        for (text, millis) in [
            ("2001-09-09T01:46:40Z", 1_000_000_000_000),
            ("2001-09-09t03:16:40.5+01:30", 1_000_000_000_500),
            ("2001-09-08T20:46:40.123999-05:00", 1_000_000_000_123),
            ("1998-12-31T23:59:60Z", 915_148_800_000),
            ("1970-01-01T00:00:00.000Z", 0),
            ("1969-12-31T23:00:00-01:00", 0),
        ] {
            let read = WallTime::parse_rfc3339(text.as_bytes());
            // A date before 1970 is not read, whatever its zone makes of it.
            let wanted = Some(WallTime::from_millis(millis)).filter(|_| !text.starts_with("1969"));
            assert_eq!(read, wanted, "{text}");
        }
        for text in [
            "",
            "2001-09-09",
            "2001-09-09T01:46:40",
            "2001-09-09 01:46:40Z",
            "2001-02-29T00:00:00Z",
            "2001-13-01T00:00:00Z",
            "2001-00-01T00:00:00Z",
            "2001-01-00T00:00:00Z",
            "2001-01-01T24:00:00Z",
            "2001-01-01T00:60:00Z",
            "2001-01-01T00:00:61Z",
            "2001-01-01T00:00:00.Z",
            "2001-01-01T00:00:00+0100",
            "2001-01-01T00:00:00+24:00",
            "2001-01-01T00:00:00Zx",
            "+001-01-01T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "1970-01-01T00:00:00+00:01",
            "2001-1-01T000:00:00Z",
        ] {
            assert_eq!(WallTime::parse_rfc3339(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn moments_saturate_instead_of_wrapping() {
        assert_eq!(Moment::NEVER.plus_millis(1), Moment::NEVER);
        assert_eq!(Moment::from_nanos(5).nanos_since(Moment::from_nanos(9)), 0);
        assert_eq!(Moment::from_nanos(9).until(Moment::from_nanos(5)), Duration::ZERO);
    }

    #[test]
    fn the_monotonic_clock_does_not_go_back() {
        let mut last = Moment::now();
        for _ in 0..1_000 {
            let now = Moment::now();
            assert!(now >= last);
            last = now;
        }
    }
}
