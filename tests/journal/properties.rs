//! Random changes, compactions and restarts against a plain map.

use proptest::collection::vec;
use proptest::prelude::*;
use quantonium::store::{Journal, Store, Witness};

use crate::scene::{Ring, Scene, master};

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, Option<Vec<u8>>)>),
    Reopen,
    Compact,
    Maintain,
    /// So many bytes of a frame that was never finished stand at the end when the next process comes.
    Torn(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![1 => Just(None), 3 => vec(any::<u8>(), 0..300).prop_map(Some)];
    prop_oneof![
        8 => vec((0u8..8, value), 0..4).prop_map(Step::Commit),
        1 => Just(Step::Reopen),
        1 => Just(Step::Compact),
        1 => Just(Step::Maintain),
        1 => any::<u8>().prop_map(Step::Torn),
    ]
}

fn reopened(scene: &Scene, ring: Ring) -> Ring {
    let (state, head) = (ring.state.clone(), ring.head);
    drop(ring);
    let ring = scene.open(Witness { head: Some(head), ..Witness::default() }).unwrap();
    assert_eq!((&ring.state, ring.head), (&state, head));
    assert_eq!(ring.journal.standing().live_records, state.len() as u64);
    ring
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_journal_is_a_map_that_outlives_restarts(steps in vec(step(), 1..30)) {
        let scene = Scene::created();
        let mut ring = scene.open(Witness::default()).unwrap();
        for step in steps {
            match step {
                Step::Commit(changes) => {
                    let names: Vec<String> = changes.iter().map(|(name, _)| format!("key-{name}")).collect();
                    let changes: Vec<(&str, Option<&[u8]>)> = names
                        .iter()
                        .zip(&changes)
                        .map(|(name, (_, value))| (name.as_str(), value.as_deref()))
                        .collect();
                    ring.commit(&changes);
                }
                Step::Reopen => ring = reopened(&scene, ring),
                Step::Compact => {
                    let (state, head) = (ring.state.clone(), ring.head);
                    drop(ring);
                    let seen = Witness { head: Some(head), ..Witness::default() };
                    let done = Journal::compact_offline(scene.data_dir(), &master(), seen).unwrap();
                    prop_assert_eq!(done.records, state.len() as u64);
                    ring = scene.open(seen).unwrap();
                    prop_assert_eq!((&ring.state, ring.head), (&state, head));
                }
                Step::Maintain => prop_assert_eq!(ring.journal.maintain(), Ok(None)),
                Step::Torn(bytes) => {
                    let whole = scene.bytes();
                    let torn = [&whole[..], &vec![b'Q'; usize::from(bytes)]].concat();
                    scene.put(&torn);
                    ring = reopened(&scene, ring);
                    prop_assert_eq!(ring.loaded.torn.map_or(0, |torn| torn.bytes), u64::from(bytes));
                    prop_assert_eq!(scene.bytes(), whole);
                }
            }
        }
        reopened(&scene, ring);
    }

    #[test]
    fn nonsense_is_never_opened_and_never_a_panic(bytes in vec(any::<u8>(), 0..2_000), keep in 0usize..600) {
        let scene = Scene::created();
        let mut ring = scene.open(Witness::default()).unwrap();
        ring.commit(&[("a", Some(&[1; 100]))]);
        let seen = Witness { head: Some(ring.head), ..Witness::default() };
        drop(ring);
        let whole = scene.bytes();
        let mut altered = whole.clone();
        for (at, byte) in bytes.iter().enumerate() {
            match altered.get_mut(keep + at) {
                Some(place) => *place = *byte,
                None => altered.push(*byte),
            }
        }
        scene.put(&altered);
        let _ = scene.verify();
        match scene.open(seen) {
            // Only what stands behind a whole journal may be there.
            Ok(ring) => prop_assert!(altered.starts_with(&whole) && ring.state.len() == 1),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
