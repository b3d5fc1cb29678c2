//! API keys of the store of a stopped server.
//!
//! Owns the order of a change. Invariants: the directory is locked meanwhile; a store that was rolled back is refused, since
//! only a start knows what else has to be done about it; a new secret is handed over before the store knows it, so that no
//! key is left whose secret nobody has.

use serde::Serialize;
use zeroize::Zeroizing;

use super::arguments::{Bound, Task, Wanted};
use super::online::Body;
use crate::api::auth::form::KeyForm;
use crate::auth::{ApiKey, Change, ChangeError, Terms, TermsChange, api_key};
use crate::cli::failure::Failure;
use crate::cli::offline;
use crate::clock::{Moment, WallTime};
use crate::config::Offline;
use crate::crypto::random::{Generator, Kernel};
use crate::keeper::{NotMade, Stopped};
use crate::limits::API_KEY_OVERLAP_SECONDS;
use crate::model::ApiKeyId;
use crate::store::{DataDir, MasterKey, Witness};

/// Some API keys.
#[derive(Serialize)]
struct Page<'a> {
    keys: Vec<KeyForm<'a>>,
}

/// Carries out `task`; the body with a new secret goes to `show` before the change is made, and any other after. Returns
/// what `show` did.
pub(super) fn carry_out(
    settings: Offline,
    task: &Task,
    show: impl FnOnce(&[Body]) -> Result<String, Failure>,
) -> Result<String, Failure> {
    let data_dir = offline::open_with_journal(&settings).map_err(|failure| match failure.is_in_use() {
        true => failure.and("; or ask the running server: leave --data-dir out and give --api-key-file FILE"),
        false => failure,
    })?;
    let witness = Witness { accept_rollback: false, ..offline::witness(&settings, &data_dir)? };
    let master = master(settings, &data_dir)?;
    let store = Stopped::open(&data_dir, &master, witness)?;
    let mut random = Generator::new(Kernel, Moment::now())?;
    let now = WallTime::now();
    let (change, secret) = match task {
        Task::List => {
            let keys = store.callers().keys().map(|key| KeyForm::of(key, now)).collect();
            return show(&[json(&Page { keys })]);
        }
        Task::Show(id) => return show(&[json(&KeyForm::of(existing(&store, *id)?, now))]),
        Task::Create(wanted) => {
            let text = api_key::generate(|bytes| random.fill(Moment::now(), bytes))?;
            (store.creation(&text, terms(wanted, now), now, &mut random)?, Some(text))
        }
        Task::Rotate(id, overlap) => {
            let overlap_seconds = overlap.unwrap_or(API_KEY_OVERLAP_SECONDS);
            let (change, text) = store.rotation(existing(&store, *id)?, overlap_seconds, now, &mut random)?;
            (change, Some(text))
        }
        Task::Revoke(id) => (Change::Revoke { by: None, id: *id }, None),
        Task::Configure(id, wanted) => {
            (Change::Configure { by: None, id: *id, terms: Box::new(terms_change(wanted, now)) }, None)
        }
        Task::Delete(id) => (Change::Delete { by: None, id: *id }, None),
    };
    match (secret, store.judge(&change, now)) {
        (Some(secret), Ok(key)) => {
            let body = json(&KeyForm::of(&key, now).showing(&secret));
            let said = show(&[body]).map_err(|failure| failure.and("; nothing was changed"))?;
            let made = store.make(change, &mut random, now).map_err(not_made);
            made.map(|_| said).map_err(|failure| failure.and("; the secret that was shown is of no use"))
        }
        // One that is refused is told in the audit log too.
        (..) => {
            let key = store.make(change, &mut random, now).map_err(not_made)?;
            show(&[json(&KeyForm::of(&key, now))])
        }
    }
}

fn master(settings: Offline, data_dir: &DataDir) -> Result<MasterKey, Failure> {
    let path = offline::master_key_file(settings.master_key_file, data_dir).ok_or_else(|| {
        Failure::config("no master key: give --master-key-file FILE or set QUANTONIUM_MASTER_KEY_FILE")
    })?;
    Ok(MasterKey::read_file(&path)?)
}

fn existing<'a>(store: &'a Stopped<'_>, id: ApiKeyId) -> Result<&'a ApiKey, Failure> {
    store.callers().get(id).map(|key| &**key).ok_or_else(|| refused(ChangeError::Unknown))
}

fn not_made(error: NotMade) -> Failure {
    match error {
        NotMade::Refused(error) => refused(error),
        NotMade::Store(error) => error.into(),
        untold @ NotMade::Untold(_) => Failure::io(untold.to_string()),
    }
}

fn refused(error: ChangeError) -> Failure {
    let more = match error {
        ChangeError::Unknown => "; `quantonium apikey list` shows those that there are",
        _ => "",
    };
    Failure::refused(format!("{error}{more}"))
}

fn ends(now: WallTime, seconds: u64) -> WallTime {
    WallTime::from_millis(now.as_millis().saturating_add(seconds.saturating_mul(1_000)))
}

fn terms(wanted: &Wanted, now: WallTime) -> Terms {
    let first = Terms::first();
    Terms {
        name: wanted.name.as_deref().unwrap_or_default().into(),
        description: wanted.description.as_deref().unwrap_or_default().into(),
        // Never without: there is no key without scopes.
        grants: wanted.grants.clone().unwrap_or(first.grants),
        expires: wanted.expires_in.and_then(Bound::at).map(|seconds| ends(now, seconds)),
        rate: wanted.rate.and_then(Bound::at),
        networks: wanted.networks.clone().unwrap_or_default().into(),
        identities: wanted.identities.clone().unwrap_or_default().into(),
    }
}

fn terms_change(wanted: &Wanted, now: WallTime) -> TermsChange {
    TermsChange {
        name: wanted.name.as_deref().map(Box::from),
        description: wanted.description.as_deref().map(Box::from),
        grants: wanted.grants.clone(),
        expires: wanted.expires_in.map(|bound| bound.at().map(|seconds| ends(now, seconds))),
        rate: wanted.rate.map(Bound::at),
        networks: wanted.networks.clone().map(Box::from),
        identities: wanted.identities.clone().map(Box::from),
    }
}

fn json(form: &impl Serialize) -> Body {
    // Texts, numbers and lists of them: nothing that JSON cannot say.
    Zeroizing::new(serde_json::to_vec(form).unwrap_or_default())
}
