//! The dates of replies: IMF-fixdate (RFC 9110, section 5.6.7).
//!
//! Owns [`DateCache`]. Invariant: a date always has [`DATE_BYTES`] bytes, so it can be written over in place.

use crate::clock::WallTime;

/// Length of an IMF-fixdate.
pub const DATE_BYTES: usize = 29;

/// A date as it stands in a `Date` field: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub type Date = [u8; DATE_BYTES];

const WEEKDAYS: [&[u8; 3]; 7] = [b"Sun", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Writes a time as a date; years beyond 9999 are shown as 9999.
#[must_use]
pub fn imf_fixdate(time: WallTime) -> Date {
    let civil = time.civil();
    let [y1, y2] = two_digits(civil.year.min(9_999) / 100);
    let [y3, y4] = two_digits(civil.year.min(9_999) % 100);
    let [d1, d2] = two_digits(civil.day);
    let [h1, h2] = two_digits(civil.hour);
    let [n1, n2] = two_digits(civil.minute);
    let [s1, s2] = two_digits(civil.second);
    let [w1, w2, w3] = *name(&WEEKDAYS, civil.weekday);
    let [m1, m2, m3] = *name(&MONTHS, civil.month.saturating_sub(1));
    [
        w1, w2, w3, b',', b' ', d1, d2, b' ', m1, m2, m3, b' ', y1, y2, y3, y4, b' ', h1, h2, b':', n1, n2,
        b':', s1, s2, b' ', b'G', b'M', b'T',
    ]
}

/// The current date, formed anew only when the second changes.
#[derive(Clone, Debug)]
pub struct DateCache {
    second: u64,
    date: Date,
}

impl DateCache {
    /// A cache that holds the date of `now`.
    #[must_use]
    pub fn new(now: WallTime) -> Self {
        Self { second: now.as_secs(), date: imf_fixdate(now) }
    }

    /// The date of `now`.
    pub fn at(&mut self, now: WallTime) -> &Date {
        if now.as_secs() != self.second {
            *self = Self::new(now);
        }
        &self.date
    }
}

fn two_digits(number: u64) -> [u8; 2] {
    let digit = |number: u64| b'0' + u8::try_from(number % 10).unwrap_or(0);
    [digit(number / 10), digit(number)]
}

fn name(names: &'static [&'static [u8; 3]], index: u64) -> &'static [u8; 3] {
    usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or(b"???")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(millis: u64) -> String {
        String::from_utf8(imf_fixdate(WallTime::from_millis(millis)).to_vec()).unwrap()
    }

    #[test]
    fn dates_have_the_form_of_the_rfc() {
        assert_eq!(shown(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(shown(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(shown(951_868_799_999), "Tue, 29 Feb 2000 23:59:59 GMT");
        assert_eq!(shown(253_402_300_799_000), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert!(shown(u64::MAX).contains(" 9999 "));
    }

    #[test]
    fn every_weekday_and_month_has_its_name() {
        let mut text = String::new();
        for day in 0..366 {
            text.push_str(&shown(day * 86_400_000));
        }
        for name in WEEKDAYS.iter().chain(&MONTHS) {
            assert!(text.contains(str::from_utf8(*name).unwrap()));
        }
        assert!(!text.contains('?'));
    }

    #[test]
    fn the_cache_follows_the_clock_both_ways() {
        let mut cache = DateCache::new(WallTime::from_millis(1_999));
        for millis in [1_000, 2_000, 90_000_000, 5_000] {
            let now = WallTime::from_millis(millis);
            assert_eq!(*cache.at(now), imf_fixdate(now));
        }
    }
}
