//! The census of descriptors: each number holds what its band is for.
//!
//! Owns what may stand where ([`judge`]). Invariants: below the connections every number is taken, so that one that is
//! free is a finding too; above, there are sockets only, but for the moment in which the archivist has opened a file and
//! not yet given it its number, so that whoever finds one there looks again later.

use super::probe::Kind;
use crate::limits::{
    FD_ARCHIVE_SOURCE_NUMBER, FD_ARCHIVE_TARGET_NUMBER, FD_AUDIT_DIRECTORY_NUMBER, FD_AUDIT_FIRST_NUMBER,
    FD_AUDIT_NEXT_LAST_NUMBER, FD_CONNECTION_FIRST_NUMBER, FD_DATA_DIRECTORY_NUMBER, FD_JOURNAL_NEXT_NUMBER,
    FD_JOURNAL_NUMBER, FD_OWN_FIRST_NUMBER, FD_OWN_LAST_NUMBER, FD_TLS_DIRECTORY_FIRST_NUMBER,
    FD_TLS_DIRECTORY_LAST_NUMBER, FD_TLS_FILE_NUMBER, FD_WATCH_FIRST_NUMBER, FD_WATCH_LAST_NUMBER,
};

/// Whether what stands under a number belongs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Right,
    /// It does not.
    Wrong,
    /// It does not, unless it is gone at the next look.
    Passing,
}

/// Whether something of this kind belongs under this number. A store that is `shared` is elsewhere: a socket to the process that reaches
/// it stands in the journal's place, and nothing in the places of what belongs to a journal.
#[must_use]
pub fn judge(number: i32, kind: Kind, shared: bool) -> Verdict {
    use Kind::{Directory, File, Stream, Unreadable};
    // Pipes without a writer hold the numbers that are not in use: they are streams.
    let right = match number {
        // What the parent has given the process as its three streams is not ours to judge.
        _ if number < FD_JOURNAL_NUMBER => true,
        FD_JOURNAL_NUMBER | FD_JOURNAL_NEXT_NUMBER if shared => kind == Stream,
        // One more for the own files.
        FD_DATA_DIRECTORY_NUMBER if shared => matches!(kind, File | Stream),
        FD_JOURNAL_NUMBER => kind == File,
        FD_JOURNAL_NEXT_NUMBER => matches!(kind, File | Stream),
        FD_DATA_DIRECTORY_NUMBER => kind == Directory,
        FD_AUDIT_DIRECTORY_NUMBER => matches!(kind, Directory | Stream),
        FD_ARCHIVE_SOURCE_NUMBER => matches!(kind, File | Stream),
        FD_ARCHIVE_TARGET_NUMBER => matches!(kind, Unreadable | Stream),
        _ if (FD_OWN_FIRST_NUMBER..=FD_OWN_LAST_NUMBER).contains(&number) => {
            matches!(kind, File | Directory | Stream)
        }
        FD_AUDIT_FIRST_NUMBER..=FD_AUDIT_NEXT_LAST_NUMBER => matches!(kind, Unreadable | Stream),
        // Open as a place alone, which cannot be read.
        FD_TLS_DIRECTORY_FIRST_NUMBER..=FD_TLS_DIRECTORY_LAST_NUMBER => matches!(kind, Unreadable | Stream),
        FD_TLS_FILE_NUMBER | FD_WATCH_FIRST_NUMBER..=FD_WATCH_LAST_NUMBER => matches!(kind, File | Stream),
        _ if number < FD_CONNECTION_FIRST_NUMBER => kind == Stream,
        _ if matches!(kind, Stream | Unreadable) => true,
        _ => return Verdict::Passing,
    };
    if right { Verdict::Right } else { Verdict::Wrong }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{FD_EPOLL_FIRST_NUMBER, FD_LISTENER_LAST_NUMBER, FD_SIGNAL_NUMBER};

    const KINDS: [Kind; 5] = [Kind::File, Kind::Directory, Kind::Stream, Kind::Unreadable, Kind::Other];

    fn right(number: i32) -> Vec<Kind> {
        KINDS.into_iter().filter(|kind| judge(number, *kind, false) == Verdict::Right).collect()
    }

    #[test]
    fn each_band_holds_what_it_is_for_and_nothing_else() {
        for number in 0..3 {
            assert_eq!(right(number), KINDS, "{number}");
        }
        assert_eq!(right(FD_JOURNAL_NUMBER), [Kind::File]);
        assert_eq!(right(FD_DATA_DIRECTORY_NUMBER), [Kind::Directory]);
        for number in [FD_SIGNAL_NUMBER, FD_EPOLL_FIRST_NUMBER, FD_LISTENER_LAST_NUMBER] {
            assert_eq!(right(number), [Kind::Stream], "{number}");
        }
        assert_eq!(right(FD_AUDIT_FIRST_NUMBER), [Kind::Stream, Kind::Unreadable]);
        assert_eq!(right(FD_WATCH_FIRST_NUMBER), [Kind::File, Kind::Stream]);
        for number in [FD_JOURNAL_NUMBER, FD_JOURNAL_NEXT_NUMBER] {
            let right = KINDS.into_iter().filter(|kind| judge(number, *kind, true) == Verdict::Right);
            assert_eq!(right.collect::<Vec<_>>(), [Kind::Stream], "{number}");
        }
    }

    #[test]
    fn a_number_that_is_free_is_found_wherever_what_belongs_there_can_be_read() {
        for number in 3..FD_CONNECTION_FIRST_NUMBER {
            let unreadable = (FD_AUDIT_FIRST_NUMBER..=FD_AUDIT_NEXT_LAST_NUMBER).contains(&number)
                || (FD_TLS_DIRECTORY_FIRST_NUMBER..=FD_TLS_DIRECTORY_LAST_NUMBER).contains(&number)
                || number == FD_ARCHIVE_TARGET_NUMBER;
            assert_eq!(judge(number, Kind::Unreadable, false) == Verdict::Right, unreadable, "{number}");
        }
    }

    #[test]
    fn a_file_or_a_directory_among_the_connections_is_looked_at_again() {
        for number in [FD_CONNECTION_FIRST_NUMBER, 5_000] {
            assert_eq!(right(number), [Kind::Stream, Kind::Unreadable]);
            for kind in [Kind::File, Kind::Directory, Kind::Other] {
                assert_eq!(judge(number, kind, false), Verdict::Passing);
            }
        }
    }
}
