//! The members of lines that tell of the server itself.

use quantonium::audit::chain::Root;
use quantonium::audit::line::{self, Event, Outcome, Own};
use quantonium::clock::WallTime;
use quantonium::integrity::Check;
use quantonium::model::Mode;
use quantonium::secret::Secret;

use crate::{members, text};

/// The members beside those that every line has, in their order.
fn of(own: Own<'_>) -> Vec<String> {
    let (at, outcome) = (WallTime::from_millis(0), Outcome::Success);
    let own = Some(own);
    let event = Event { at, name: "n", outcome, code: None, count: None, own, store: None, request: None };
    let mut chain = Root::new(Secret::take(&mut [7; 32])).chain("s").unwrap();
    let all = members(&text(|target| line::write(target, "s", 1, &event, &mut chain)));
    all.into_iter().skip(5).take_while(|name| name != "prev").collect()
}

/// Those of all such lines but the ones that tell of an audit file.
pub(crate) fn told() -> Vec<String> {
    assert_eq!(of(Own::Cleared(Check::Tracer)), ["check"]);
    [of(Own::Mode(Mode::Strict)), of(Own::Finding(Check::Tracer, "traced"))].concat()
}
