//! The chain of the example's audit lines, and the checkpoint that names them.

use quantonium::audit::chain::Root;
use quantonium::audit::verify::Verifier;
use quantonium::audit::{Checkpoint, Stream};
use quantonium::store::RootKey;

use super::{Example, examples, hex};

/// The audit root of the example's root key.
pub(crate) fn audit_root(example: &Example) -> Root {
    let mut root: [u8; 32] = hex(example["root_key"]).try_into().unwrap();
    let root = RootKey::take(&mut root).audit_root().unwrap();
    root.with(|bytes| assert_eq!(bytes.as_slice(), hex(example["audit_root"])));
    root
}

#[test]
fn the_example_audit_lines_reach_the_example_checkpoint() {
    for example in examples("checkpoint") {
        let bytes = hex(example["checkpoint"]);
        let checkpoint = Checkpoint::decode(&bytes).unwrap();
        assert_eq!(checkpoint.encode(), bytes);
        let stream = Stream::parse(example["stream_name"]).unwrap();
        let noted = *checkpoint.of(stream).unwrap();
        let both = format!("{}\n{}\n", example["audit"], example["gap"]);
        // The first line may be there, or have been removed since it was old enough.
        for (lines, count) in [(both.as_str(), 2), (&both[example["audit"].len() + 1..], 1)] {
            let (roots, mut flaws) = ([audit_root(&example)], Vec::new());
            let mut verifier = Verifier::new(stream.to_string(), &roots, Some((noted, checkpoint.ended)));
            verifier.read(&mut lines.as_bytes(), &mut |flaw| flaws.push(flaw)).unwrap();
            let verified = verifier.finish(&mut |flaw| flaws.push(flaw));
            assert_eq!((flaws, verified.lines, verified.last), (vec![], count, 300));
        }
    }
}
