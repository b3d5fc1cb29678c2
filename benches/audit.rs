//! What an audit line costs: written with its chain, and the chain's part of it.
//!
//! Owns the group `audit`.

use std::hint::black_box;

use criterion::Criterion;
use quantonium::audit::chain::Root;
use quantonium::audit::line::{self, Event, Outcome, Request};
use quantonium::clock::WallTime;
use quantonium::crypto::hash::Algorithm;
use quantonium::crypto::mac::MacKey;
use quantonium::limits::AUDIT_LINE_MAX_BYTES;
use quantonium::model::RequestId;
use quantonium::secret::Secret;

const STREAM: &str = "6b0320c6-32268f1d-w1";

fn lines(criterion: &mut Criterion) {
    let Ok(mut chain) = Root::new(Secret::take(&mut [7; 32])).chain(STREAM) else { return };
    let id = RequestId::new(7, 9);
    let request = Request {
        id: &id,
        principal: Some("cd5d575f"),
        token: None,
        identity: None,
        remote: "192.0.2.7".parse().ok(),
        route: Some("/api/encrypt"),
        status: 200,
        elapsed_micros: 31,
        key: Some("orders"),
        key_version: Some(1),
        api_key: None,
        detail: None,
        items: None,
        bytes: None,
        body: Some([0xA5; 16]),
        trace: None,
    };
    let at = WallTime::from_millis(1_795_367_111_715);
    let (name, outcome) = ("encrypt", Outcome::Success);
    let event =
        Event { at, name, outcome, code: None, count: None, own: None, store: None, request: Some(request) };
    let mut target = [0; AUDIT_LINE_MAX_BYTES];
    let mut sequence = 0;
    let mut group = criterion.benchmark_group("audit");
    group.bench_function("line", |bencher| {
        bencher.iter(|| {
            sequence += 1;
            line::write(black_box(&mut target), STREAM, sequence, black_box(&event), &mut chain)
        });
    });
    let len = line::write(&mut target, STREAM, sequence + 1, &event, &mut chain).unwrap_or_default();
    let covered = target.get(..len.saturating_sub(43)).unwrap_or_default();
    let key = MacKey::new(Algorithm::Sha256, &[7; 32]);
    group.bench_function(format!("mac of {} bytes", covered.len()), |bencher| {
        bencher.iter(|| key.tag(&[black_box(covered)]));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    lines(&mut criterion);
    criterion.final_summary();
}
