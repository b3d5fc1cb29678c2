//! How long a connection is borne, over a transport that does not always make bytes of what comes.

use core::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::*;
use crate::clock::WallTime;
use crate::http::env::Bounds;
use crate::http::service::Exchange;
use crate::limits::DISCARD_MAX_MILLIS;
use crate::reactor::mailbox::Mailbox;
use crate::reactor::turn::Commit;
use crate::reactor::{Budget, Executor, Pool, Received, TaskId, Turn};

/// What comes over the wire at once.
#[derive(Clone)]
enum Came {
    /// What is whole and has no content.
    Nothing,
    /// A part of what will have some.
    Part,
    Bytes(&'static [u8]),
}

#[derive(Default)]
struct Line {
    to_server: VecDeque<Came>,
    to_client: Vec<u8>,
    amid: bool,
}

struct Wire(Rc<RefCell<Line>>);

impl Transport for Wire {
    fn receive(&mut self, target: &mut [u8]) -> io::Result<Received> {
        let mut line = self.0.borrow_mut();
        while let Some(came) = line.to_server.pop_front() {
            match came {
                Came::Nothing => {}
                Came::Part => line.amid = true,
                Came::Bytes(bytes) => {
                    line.amid = false;
                    target[..bytes.len()].copy_from_slice(bytes);
                    return Ok(Received { count: bytes.len(), drained: false });
                }
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn send(&mut self, source: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().to_client.extend(source);
        Ok(source.len())
    }

    fn finish(&mut self) {}

    fn abort_on_close(&mut self, _: bool) {}

    fn is_amid(&self) -> bool {
        self.0.borrow().amid
    }
}

/// Answers everything.
struct Willing;

impl Service for Willing {
    type Admission = ();

    fn has_room(&self) -> bool {
        true
    }

    fn admit(&self, _: &Arrival<'_>, _: &mut Responder<'_>) -> Option<((), Taking)> {
        Some(((), Taking::Whole(0)))
    }

    fn refused(&self, (): &(), _: &Arrival<'_>, _: &'static str, _: &mut Responder<'_>) {}

    fn lost(&self, (): &(), _: &Arrival<'_>) {}

    async fn serve(&self, (): (), _: Request<'_>, responder: &mut Responder<'_>) {
        responder.whole(Status::Ok, "text/plain", b"served");
    }

    async fn stream(&self, (): (), _: &mut impl Exchange) {}
}

const REQUEST: Came = Came::Bytes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
const BOUNDS: fn() -> Bounds = || Bounds { idle_millis: 10_000, head_millis: 4_000, ..Bounds::default() };
const STEP_MILLIS: u64 = 500;

/// Plays `script`, what comes at which millisecond, to one connection. `step` is told the time, and may end it.
/// Returns when the connection ended, if it did within a minute, and what it said.
fn play(
    script: impl Fn(u64) -> Option<Came>,
    mut step: impl FnMut(u64, &mut dyn FnMut(Moment) -> bool, &mut bool),
) -> (Option<u64>, String) {
    let turn = Turn::new(Moment::default());
    let pool = Pool::new(Budget::new(64 << 20));
    let env = Env::new(Willing, pool, BOUNDS(), Arc::default(), Arc::default(), 7);
    let mut executor = Executor::new(Rc::clone(&turn), Mailbox::new(Box::new(|| {})), serve);
    let line = Rc::new(RefCell::new(Line::default()));
    let made = |task: TaskId| {
        let channel = Channel::new(Wire(Rc::clone(&line)), Rc::clone(&turn), task);
        Ok::<_, ()>(Idle::new(channel, Peer::new(None, Way::Plain), env, ()))
    };
    let task = executor.spawn(made).unwrap();
    let mut ended = None;
    for millis in (0..60_000).step_by(usize::try_from(STEP_MILLIS).unwrap()) {
        executor.begin(Moment::default().plus_millis(millis), WallTime::default());
        if let Some(came) = script(millis) {
            line.borrow_mut().to_server.push_back(came);
            turn.mark_ready(task, true, true, false);
        }
        executor.poll(task);
        executor.commit(|| Commit::Done);
        let mut drain = false;
        step(millis, &mut |latest| executor.shed(1, latest), &mut drain);
        if drain {
            executor.drain();
        }
        if executor.alive() == 0 {
            ended = Some(millis);
            break;
        }
    }
    let said = String::from_utf8(line.borrow().to_client.clone()).unwrap();
    (ended, said)
}

#[test]
fn what_makes_no_request_does_not_put_off_the_end_of_a_silent_connection() {
    for (asked, expected) in [(None, 10_000), (Some(5_000), 15_000)] {
        let script = |millis| if Some(millis) == asked { Some(REQUEST) } else { Some(Came::Nothing) };
        let (ended, said) = play(script, |_, _, _| {});
        assert_eq!(ended, Some(expected));
        assert_eq!(said.contains("served"), asked.is_some());
    }
}

#[test]
fn a_part_of_what_will_be_bytes_begins_a_head() {
    for asked in [None, Some(1_000)] {
        let script = |millis| match millis {
            _ if Some(millis) == asked => Some(REQUEST),
            3_000.. => Some(Came::Part),
            _ => None,
        };
        assert_eq!(play(script, |_, _, _| {}).0, Some(7_000), "three seconds and the time of a head");
    }
}

#[test]
fn a_head_that_came_whole_in_time_ends_the_haste() {
    let script = |millis| match millis {
        1_000 => Some(Came::Part),
        4_500 => Some(REQUEST),
        _ => None,
    };
    let (ended, said) = play(script, |_, _, _| {});
    assert_eq!(ended, Some(14_500));
    assert!(said.contains("served"));
}

#[test]
fn who_only_keeps_the_transport_busy_rests_as_long_as_who_is_silent() {
    let (ended, _) = play(
        |_| Some(Came::Nothing),
        |millis, shed, _| {
            if millis == 3_000 {
                assert!(shed(Moment::default().plus_millis(STEP_MILLIS)), "it has asked for nothing");
            }
        },
    );
    assert_eq!(ended, Some(3_000));
}

#[test]
fn a_drain_waits_for_a_request_of_which_a_part_has_come() {
    // The client goes on, as far as it knows, so that the end is announced and waited for.
    for (part, expected) in [(true, 3_500 + DISCARD_MAX_MILLIS), (false, 2_500)] {
        let script = |millis| match millis {
            1_000 => Some(REQUEST),
            2_000 if part => Some(Came::Part),
            3_500 => Some(REQUEST),
            _ => None,
        };
        let (ended, said) = play(script, |millis, _, drain| *drain = millis == 2_500);
        assert_eq!(ended, Some(expected));
        assert_eq!(said.matches("served").count(), if part { 2 } else { 1 });
        assert_eq!(said.contains("Connection: close"), part);
    }
}
