//! Filling a slice from its front, without heap and without formatting machinery.
//!
//! Owns [`Cursor`]. Invariants: it never writes beyond its target; short texts, of which reply heads and audit lines
//! are made, are copied without a call of `memcpy`, which takes longer to start than to copy them.

/// A target that is filled from its front.
#[derive(Debug)]
pub struct Cursor<'a> {
    target: &'a mut [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the front of `target`.
    pub fn new(target: &'a mut [u8]) -> Self {
        Self { target, at: 0 }
    }

    /// How many bytes were written.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// What was written.
    #[must_use]
    pub fn written(&self) -> &[u8] {
        self.target.get(..self.at).unwrap_or_default()
    }

    /// How many bytes can still be written.
    #[must_use]
    pub fn room(&self) -> usize {
        self.target.len() - self.at
    }

    /// Writes `bytes`; nothing is written if there is no room for all of them.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at.checked_add(bytes.len())?;
        copy(self.target.get_mut(self.at..end)?, bytes);
        self.at = end;
        Some(())
    }

    /// Writes over what stands at `at` already.
    #[inline]
    pub fn put_over<const LEN: usize>(&mut self, at: usize, bytes: &[u8; LEN]) -> Option<()> {
        *self.target.get_mut(at..)?.first_chunk_mut::<LEN>()? = *bytes;
        Some(())
    }

    /// Writes `number` in decimal, with leading zeros up to `width` digits.
    #[inline]
    pub fn put_number(&mut self, number: u64, width: usize) -> Option<()> {
        let mut digits = [b'0'; 20];
        let (mut rest, mut len) = (number, 0);
        for place in digits.iter_mut().rev() {
            *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            len += 1;
            if rest == 0 {
                break;
            }
        }
        let len = len.max(width.min(digits.len()));
        self.put(digits.get(digits.len() - len..)?)
    }
}

/// Copies between slices of one length, short ones as their two ends, which overlap.
#[inline]
fn copy(target: &mut [u8], source: &[u8]) {
    match source.len() {
        1 => copy_ends::<1>(target, source),
        2..=3 => copy_ends::<2>(target, source),
        4..=8 => copy_ends::<4>(target, source),
        9..=16 => copy_ends::<8>(target, source),
        17..=32 => copy_ends::<16>(target, source),
        33..=64 => copy_ends::<32>(target, source),
        _ => target.copy_from_slice(source),
    }
}

#[inline]
fn copy_ends<const LEN: usize>(target: &mut [u8], source: &[u8]) {
    if let (Some(to), Some(from)) = (target.first_chunk_mut::<LEN>(), source.first_chunk()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (target.last_chunk_mut::<LEN>(), source.last_chunk()) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_copied_whole_and_nothing_beyond() {
        let source: Vec<u8> = (1..=200).collect();
        for len in 0..=200 {
            let mut target = [0u8; 202];
            let mut cursor = Cursor::new(&mut target);
            cursor.put(b"x").unwrap();
            cursor.put(&source[..len]).unwrap();
            assert_eq!(cursor.position(), len + 1);
            assert_eq!(&target[1..=len], &source[..len], "{len}");
            assert!(target[len + 1..].iter().all(|byte| *byte == 0), "{len}");
        }
    }

    #[test]
    fn without_room_nothing_is_written() {
        let mut target = [0u8; 4];
        let mut cursor = Cursor::new(&mut target);
        cursor.put(b"abc").unwrap();
        assert_eq!(cursor.put(b"de"), None);
        assert_eq!(cursor.put_number(12, 0), None);
        assert_eq!(cursor.position(), 3);
        assert_eq!(&target, b"abc\0");
    }

    #[test]
    fn numbers_have_their_width() {
        for (number, width, text) in [
            (0, 0, "0"),
            (7, 2, "07"),
            (1234, 2, "1234"),
            (u64::MAX, 0, "18446744073709551615"),
            (5, 30, "00000000000000000005"),
        ] {
            let mut target = [0u8; 32];
            let mut cursor = Cursor::new(&mut target);
            cursor.put_number(number, width).unwrap();
            let len = cursor.position();
            assert_eq!(&target[..len], text.as_bytes());
        }
    }
}
