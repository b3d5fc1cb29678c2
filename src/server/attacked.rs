//! The hidden entry of a penetration test: a request that asks for an attack on the sandbox. Only in builds with the feature `pentest`.
//!
//! Owns nothing. Invariant: an attack on another thread is left for it, and waited for.

use crate::http::media::ReplyForm;
use crate::http::responder::Responder;
use crate::http::status::Status;
use crate::server::service::App;

impl App {
    /// Attacks the sandbox if the path asks for it; returns whether it does.
    pub(super) fn attack(&self, path: &[u8], responder: &mut Responder<'_>) -> bool {
        let wake = || {
            self.keeper.tick();
            self.shared.nudge_main();
        };
        let Some(result) = crate::pentest::answer(path, wake) else { return false };
        responder.close();
        responder.whole(Status::Ok, ReplyForm::Text.content_type(), result.as_bytes());
        true
    }
}
