//! A store whose server does not run: its API keys, changed one at a time by whoever has the master key.
//!
//! Owns [`Stopped`]. Invariants: a change is judged, written down and told as the keeper does it, with an attempt in the
//! audit log before and an outcome after, in a stream of its own; one that cannot be told is not made; nobody asks but the
//! operator, so that no API key limits what is given; where the stream ended is sealed in the store.

use core::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::api::change::{Change as AnyChange, ChangeError as AnyError, Outcome};
use crate::audit::chain::{Mark, Root, Tip};
use crate::audit::{Checkpoint, Outlets, Sink, Start, Stream, StreamMark, Syncing, Who};
use crate::auth::entry::{SALT_BYTES, TOKEN_SECRET_BYTES};
use crate::auth::{self, ApiKey, Authenticator, Change, ChangeError, Directory, Generation, Terms, api_key};
use crate::clock::{Moment, WallTime};
use crate::crypto;
use crate::crypto::random::Generator;
use crate::keeper::diary::Diary;
use crate::keeper::group::{Asked, Group};
use crate::keeper::records::load;
use crate::keeper::state::State;
use crate::keyring::Circumstances;
use crate::model::ApiKeyId;
use crate::secret::Secret;
use crate::store::journal::Opened;
use crate::store::{
    AppendError, DataDir, Head, Journal, Kind, MasterKey, Origin, Record, RootKey, SEAL_NONCE_BYTES, Sealer,
    Store, StoreError, Witness, open_audit_file, quoted, settle_audit_files,
};

/// Why a change of a stopped store was not made, or not certainly.
#[derive(Debug)]
pub enum NotMade {
    /// The API keys do not allow it.
    Refused(ChangeError),
    /// It could not be told first.
    Untold(String),
    /// The store did not take it.
    Store(StoreError),
}

impl fmt::Display for NotMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::Untold(why) => write!(f, "{why}; nothing was changed, because it could not be audited"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NotMade {}

impl From<StoreError> for NotMade {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<crypto::Error> for NotMade {
    fn from(error: crypto::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A store, opened and not read, and where its audit files are.
pub struct Making<'a> {
    /// The data directory.
    pub data_dir: &'a DataDir,
    /// The store.
    pub store: Box<dyn Store>,
    /// Its root key.
    pub root: RootKey,
    /// The ring whose records it holds.
    pub ring: [u8; 16],
}

impl fmt::Debug for Making<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Making").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

/// The store of a server that does not run, which its directory's lock ensures.
pub struct Stopped<'a> {
    data_dir: &'a DataDir,
    journal: Box<dyn Store>,
    sealer: Sealer,
    authenticator: Authenticator,
    audit_root: Root,
    state: State,
    head: Head,
}

impl<'a> Stopped<'a> {
    /// Opens the store in `data_dir`, which must not be behind `witness`.
    ///
    /// # Errors
    /// Why it cannot be used, with what to do.
    pub fn open(data_dir: &'a DataDir, master: &MasterKey, witness: Witness) -> Result<Self, StoreError> {
        let Opened { journal, root, ring } = Journal::open(data_dir, master, witness)?;
        Self::of(Making { data_dir, store: Box::new(journal), root, ring })
    }

    /// The same of any store.
    ///
    /// # Errors
    /// As for [`Stopped::open`].
    pub fn of(making: Making<'a>) -> Result<Self, StoreError> {
        let Making { data_dir, store: mut journal, root, ring } = making;
        let sealer = root.sealer(ring)?;
        let opening = load(&mut *journal, &sealer)?;
        // It makes digests and checks no token.
        let authenticator = root.pepper()?.with(|pepper| Authenticator::new(pepper, "", ""));
        let audit_root = root.audit_root()?;
        let (state, head) = (opening.state, opening.loaded.head);
        Ok(Self { data_dir, journal, sealer, authenticator, audit_root, state, head })
    }

    /// The API keys.
    #[must_use]
    pub fn callers(&self) -> &Directory {
        &self.state.callers
    }

    /// The change that makes `text` an API key with these terms.
    ///
    /// # Errors
    /// No random bytes, or a text that is no API key.
    pub fn creation(
        &self,
        text: &str,
        terms: Terms,
        now: WallTime,
        random: &mut Generator,
    ) -> Result<Change, StoreError> {
        let salt = random.array::<SALT_BYTES>(Moment::now())?;
        let (id, generation) = self.generation(text, &salt, 1, now, random)?;
        Ok(Change::Create { by: None, id, salt, terms: Arc::new(terms), generation })
    }

    /// The change that gives `key` another secret, and that secret with the identifier in front.
    ///
    /// # Errors
    /// No random bytes.
    pub fn rotation(
        &self,
        key: &ApiKey,
        overlap_seconds: u64,
        now: WallTime,
        random: &mut Generator,
    ) -> Result<(Change, Zeroizing<String>), StoreError> {
        let text = api_key::generate_for(key.id, |bytes| random.fill(Moment::now(), bytes))?;
        let number = key.current.number.saturating_add(1);
        let (id, generation) = self.generation(&text, &key.salt, number, now, random)?;
        Ok((Change::Rotate { by: None, id, generation, overlap_seconds }, text))
    }

    /// What is kept of the secret in `text`.
    fn generation(
        &self,
        text: &str,
        salt: &[u8; SALT_BYTES],
        number: u32,
        created: WallTime,
        random: &mut Generator,
    ) -> Result<(ApiKeyId, Arc<Generation>), StoreError> {
        let made = self.authenticator.digest(text, salt);
        let (id, digest) = made.map_err(|error| StoreError::KeyNotMade(Box::new(error)))?;
        let token_secret: Secret<TOKEN_SECRET_BYTES> =
            Secret::try_fill(|bytes| random.fill(Moment::now(), bytes))?;
        Ok((id, Arc::new(Generation { number, digest, token_secret, created })))
    }

    /// The key that [`Self::make`] would leave, or why it would refuse `change`.
    ///
    /// # Errors
    /// Why it would.
    pub fn judge(&self, change: &Change, now: WallTime) -> Result<Arc<ApiKey>, ChangeError> {
        auth::change::apply(&mut self.state.callers.clone(), change, now).map(|outcome| outcome.key)
    }

    /// Tells that `change` is about to be made, makes it and tells what became of it; returns the key as it is now, or
    /// was.
    ///
    /// # Errors
    /// [`NotMade`]
    pub fn make(
        mut self,
        change: Change,
        random: &mut Generator,
        now: WallTime,
    ) -> Result<Arc<ApiKey>, NotMade> {
        let (change, mut page) =
            (AnyChange::from(change), Page::open(self.data_dir, &self.audit_root, random)?);
        let diary = &mut page.diary;
        let told = diary.attempt(&change, now).and_then(|id| diary.commit(now).map(|()| id));
        let id = told.map_err(|_| {
            let path = quoted(self.data_dir.path());
            NotMade::Untold(format!("the audit log in {path} cannot be written: free some space"))
        })?;
        let asked = Asked { change, origin: id.to_bytes() };
        let made = self.carry_out(&asked, true, random, now);
        let (outcome, head) = match &made {
            Ok((made, head)) => (Ok(made.clone()), *head),
            // Whether it is kept only the next start can tell, and does.
            Err(NotMade::Store(StoreError::NotAppended(AppendError::Ambiguous))) => return Err(AMBIGUOUS),
            Err(NotMade::Refused(error)) => (Err(AnyError::Caller(*error)), None),
            Err(NotMade::Store(StoreError::NotAppended(AppendError::Full))) => {
                (Err(AnyError::StoreFull), None)
            }
            Err(_) => (Err(AnyError::StoreFailed), None),
        };
        // What cannot be told now is told by the next start, which finds the attempt and, in the store, who made it.
        let _ = diary.outcome(&asked.change, &id, &outcome, head, now);
        let _ = diary.commit(now);
        // Without it nobody could prove that the stream is whole; the change stands all the same.
        let _ = self.seal_end(&page, random);
        drop(page);
        // Room that is kept for a stream which has ended is nobody's.
        let _ = settle_audit_files(self.data_dir);
        key_of(made)
    }

    /// Notes in the store where the audit stream of the change ended.
    fn seal_end(&mut self, page: &Page, random: &mut Generator) -> Result<(), NotMade> {
        let of = page.checkpoint();
        let revision = self.next_revision()?;
        let path = self.sealer.path(Kind::Checkpoint, &of.name());
        let nonce = random.array::<SEAL_NONCE_BYTES>(Moment::now())?;
        let sealed = Some(self.sealer.seal(path, revision, &nonce, &of.encode())?);
        let record = Record { path, revision, sealed };
        self.head = self.journal.append(self.head.revision, &[record], &[]).map_err(not_appended)?;
        Ok(())
    }

    fn next_revision(&self) -> Result<u64, NotMade> {
        self.head.revision.checked_add(1).ok_or(not_appended(AppendError::TooLarge))
    }

    /// Makes `change` for a start, whose own audit stream tells where the store stands.
    ///
    /// # Errors
    /// [`NotMade`]
    pub(super) fn make_untold(
        mut self,
        change: Change,
        random: &mut Generator,
        now: WallTime,
    ) -> Result<Arc<ApiKey>, NotMade> {
        let asked = Asked { change: change.into(), origin: Origin::default() };
        key_of(self.carry_out(&asked, false, random, now))
    }

    fn carry_out(
        &mut self,
        asked: &Asked,
        has_origin: bool,
        random: &mut Generator,
        now: WallTime,
    ) -> Result<(Outcome, Option<Head>), NotMade> {
        let mut draw = |bytes: &mut [u8]| random.fill(Moment::now(), bytes);
        let mut at = Circumstances { now, restore_window_seconds: 0, draw: &mut draw };
        let mut group = Group::new(&self.sealer, self.state.clone(), self.journal.bounds());
        group.judge(asked, &mut at);
        let made = match group.verdicts.pop().map(|verdict| verdict.outcome) {
            Some(Ok(made)) => made,
            Some(Err(AnyError::Caller(error))) => return Err(NotMade::Refused(error)),
            // One change alone finds room, or none ever does.
            _ => return Err(not_appended(AppendError::TooLarge)),
        };
        if group.is_empty() {
            return Ok((made, None));
        }
        let revision = self.next_revision()?;
        let records = group.seal(revision, |bytes| random.fill(Moment::now(), bytes))?;
        let origins = if has_origin { group.origins.as_slice() } else { &[] };
        self.head = self.journal.append(self.head.revision, &records, origins).map_err(not_appended)?;
        Ok((made, Some(self.head)))
    }
}

const AMBIGUOUS: NotMade = not_appended(AppendError::Ambiguous);

fn key_of(made: Result<(Outcome, Option<Head>), NotMade>) -> Result<Arc<ApiKey>, NotMade> {
    match made?.0 {
        Outcome::Caller(made) => Ok(made.key),
        // No other change is asked for here.
        Outcome::Key(_) => Err(not_appended(AppendError::Malformed)),
    }
}

impl fmt::Debug for Stopped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopped").field("head", &self.head).finish_non_exhaustive()
    }
}

const fn not_appended(error: AppendError) -> NotMade {
    NotMade::Store(StoreError::NotAppended(error))
}

/// The audit stream of one change, which is as a start of its own to whoever reads the log.
struct Page {
    diary: Diary,
    start: Start,
    tip: Arc<Tip>,
}

impl Page {
    /// Opens it, as a keeper's: its lines witness where the store stands.
    fn open(data_dir: &DataDir, root: &Root, random: &mut Generator) -> Result<Self, NotMade> {
        let number = u32::from_be_bytes(random.array::<4>(Moment::now())?);
        let start = Start { seconds: WallTime::now().as_secs(), random: number };
        let stream = Stream { start, who: Who::Keeper };
        let first_id = u64::from_be_bytes(random.array::<8>(Moment::now())?);
        let failed = |error: io::Error| NotMade::Untold(format!("cannot open the audit log: {error}"));
        settle_audit_files(data_dir).map_err(failed)?;
        let file = File::from(open_audit_file(data_dir, stream.part(1)).map_err(failed)?);
        let name = stream.to_string();
        let chain = root.chain(&name)?;
        let tip = chain.tip();
        let outlets = Outlets::new(Some(Sink::new(file, &name, chain)), None, Syncing::Own);
        Ok(Self { diary: Diary::new(outlets, first_id), start, tip })
    }

    /// Where it ended.
    fn checkpoint(&self) -> Checkpoint {
        let mark = StreamMark { who: Who::Keeper, last: self.tip.get(), removed: Mark::default() };
        Checkpoint { start: self.start, ended: true, streams: vec![mark] }
    }
}
