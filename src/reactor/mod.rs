//! The reactor: one thread, one poll, many tasks. It knows nothing of HTTP.
//!
//! Owns the executor ([`Executor`]), the shared view that tasks have of it ([`Turn`]), timers ([`wheel`]), leased
//! buffers ([`lease`]), sockets ([`socket`]) and the poll loop ([`run`]). The life of a task:
//!
//! ```text
//!            spawn             something came            done, connection stays
//!   (free) ─────────▶ resting ────────────────▶ running ────────────────────────▶ resting
//!      ▲               │ idle too long, drain   ▲  │ │ done for good
//!      └───────────────┴────────────────────────┼──┼─┘
//!                                               │  ▼ Pending
//!                    parked: for exactly one of four reasons
//!                      1 WouldBlock     ─ an event names the task
//!                      2 a deadline     ─ the wheel names it
//!                      3 a reply        ─ another thread wakes it through the mailbox
//!                      4 the tick commit ─ the loop resumes it once, with the result, in this turn or a later one
//! ```
//!
//! Invariants: an I/O wait first tries the call and parks only when it would block; a poll without a reason is
//! harmless; nothing is allocated for a request, only for the growth of the tables.

pub mod account;
pub mod charge;
pub mod defer;
pub mod executor;
pub mod lease;
pub mod mailbox;
pub mod run;
pub mod socket;
pub mod transport;
pub mod turn;
pub mod wheel;

pub use account::Account;
pub use charge::{Charge, Strangers};
pub use executor::{Beginning, Executor, Look, Resting, TaskId};
pub use lease::{Budget, Buffer, Exhausted, Pool};
pub use transport::{Channel, Established, Failure, Received, Transport};
pub use turn::Turn;
