//! Where the records of a stream begin and end.
//!
//! Owns [`Records`]. Invariants: nothing but headers is looked at (RFC 8446, section 5.1; TLS 1.2 has the same), and
//! nothing is kept of what passes; what is no record is found out by the library, which ends the session.

/// Bytes of a record before its content: its type, a version, and the length of what follows.
const HEADER_BYTES: usize = 5;

/// How far the record has come that is under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Records {
    /// So many of its bytes, header included, have come.
    come: usize,
    /// The length of its content, as far as its header has come.
    length: usize,
}

impl Records {
    /// Notes what has come.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while let Some((byte, rest)) = bytes.split_first() {
            if self.come < HEADER_BYTES {
                if self.come + 2 >= HEADER_BYTES {
                    self.length = self.length << 8 | usize::from(*byte);
                }
                self.come += 1;
                bytes = rest;
            } else {
                let count = (HEADER_BYTES + self.length - self.come).min(bytes.len());
                self.come += count;
                bytes = bytes.get(count..).unwrap_or_default();
            }
            if self.come == HEADER_BYTES + self.length && self.come >= HEADER_BYTES {
                *self = Self::default();
            }
        }
    }

    /// How many bytes have come of a record of which more must come; zero between records.
    pub(super) fn pending_bytes(self) -> usize {
        self.come
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_pending_is_what_came_since_the_last_end_of_a_record(
            lengths in proptest::collection::vec(0_u16..700, 1..6),
            pieces in proptest::collection::vec(1_usize..400, 1..40),
        ) {
            let mut stream = Vec::new();
            let mut ends = vec![0];
            for length in lengths {
                stream.extend([23, 3, 3]);
                stream.extend(length.to_be_bytes());
                // What would be taken for other headers, were content looked at.
                stream.resize(stream.len() + usize::from(length), 23);
                ends.push(stream.len());
            }
            let (mut records, mut at) = (Records::default(), 0);
            for piece in pieces {
                let end = stream.len().min(at + piece);
                records.take(&stream[at..end]);
                at = end;
                let last = ends.iter().rev().find(|end| **end <= at).unwrap();
                prop_assert_eq!(records.pending_bytes(), at - last);
            }
        }
    }
}
