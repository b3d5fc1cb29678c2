//! "Did you mean": the known word that is nearest to a mistyped one.
//!
//! Owns no words. The distance is the number of letters inserted, deleted, replaced or swapped with their
//! neighbour (optimal string alignment), and only a near word is offered: a far one would mislead.

use crate::limits::SUGGESTION_WORD_MAX_CHARS;

/// The nearest of `known` to `word`, if one is near enough to be meant.
pub fn nearest<K: AsRef<str>>(word: &str, known: impl IntoIterator<Item = K>) -> Option<K> {
    let word: Vec<char> = word.chars().take(SUGGESTION_WORD_MAX_CHARS + 1).collect();
    if word.len() > SUGGESTION_WORD_MAX_CHARS {
        return None;
    }
    known
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.as_ref().chars().collect::<Vec<char>>()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.as_ref().len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance, row by row: `rows` holds the last two rows and the one that is being filled.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
    for (i, letter) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in right.iter().enumerate() {
            let replaced = at(&above, j) + usize::from(letter != other);
            let mut best = replaced.min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            if let (Some(i), Some(j)) = (i.checked_sub(1), j.checked_sub(1))
                && left.get(i) == Some(other)
                && right.get(j) == Some(letter)
            {
                best = best.min(at(&before, j) + 1);
            }
            row.push(best);
        }
        before = above;
        above = row;
    }
    at(&above, right.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(left: &str, right: &str) -> usize {
        distance(&left.chars().collect::<Vec<_>>(), &right.chars().collect::<Vec<_>>())
    }

    #[test]
    fn distances_count_edits() {
        assert_eq!(between("listen", "listen"), 0);
        assert_eq!(between("listen", "listem"), 1);
        assert_eq!(between("lsiten", "listen"), 1);
        assert_eq!(between("", "dev"), 3);
        assert_eq!(between("kitten", "sitting"), 3);
    }

    #[test]
    fn a_near_word_is_offered_and_a_far_one_is_not() {
        let known = ["serve", "healthcheck", "version"];
        assert_eq!(nearest("sevre", known), Some("serve"));
        assert_eq!(nearest("health-check", known), Some("healthcheck"));
        assert_eq!(nearest("encrypt", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn an_endless_word_is_not_compared() {
        assert_eq!(nearest(&"a".repeat(1 << 20), ["a".repeat(1 << 20)]), None);
    }
}
