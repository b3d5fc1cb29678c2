//! The keeper: the one thread that changes the key ring and writes its changes down.
//!
//! Owns where workers leave changes ([`Keeper`]), the thread's own state ([`Ledger`]), what happens by itself
//! ([`diary`] tells of it) and the reading and making of a store ([`load`], [`initialise`]). Invariants: changes are
//! applied one after the other, each judged against the state that the one before it left; a change is durable before
//! it is published, and published before it is answered; what waits is written down in one append and answered
//! together; a refused change has no effect on the others; beyond a bound a change is refused at once. Nothing here
//! assumes that the store is a file or that nobody else writes to it.

mod checkpoints;
pub mod diary;
mod group;
mod initial;
mod ledger;
mod queue;
mod records;
mod rounds;
#[cfg(test)]
mod shelf;
mod state;
mod stopped;
#[cfg(test)]
mod tests;

pub use checkpoints::{Checkpoints, Removal};
pub use diary::Diary;
pub use initial::{Telling, initialise, initialise_in, initialise_with};
pub use ledger::{Ledger, NotBegun, Now, Parts};
pub use queue::{Committed, Done, Keeper, Last, Looked, Noted, Pending};
pub use records::{Opening, load};
pub use state::State;
pub use stopped::{Making, NotMade, Stopped};
