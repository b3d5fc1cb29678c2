//! `quantonium apikey`: make, look at and end API keys, of a running server or in the store of a stopped one.
//!
//! - `arguments`: what is to be done, and on which way.
//! - `help`: the texts on it.
//! - `online`: asked of a server.
//! - `stopped`: done in the store.
//! - `view`: an API key as the API shows it, read back and told.
//!
//! Owns what is said. Invariants: a new secret is written once, to standard output or into a new file for its owner only;
//! beside it nothing goes to standard output but what was asked for, so that scripts can take it from there.

pub(super) mod arguments;
pub(super) mod help;
mod online;
mod stopped;
mod view;

use std::ffi::OsString;
use std::path::Path;

use zeroize::Zeroizing;

use super::failure::Failure;
use super::new_file::NewFile;
use super::offline;
use super::report;
use crate::config;
use crate::console::{self, Output};
use crate::exit::Exit;
use crate::store::quoted;
use arguments::Way;
use online::{Body, Server};
use view::{Page, View};

pub(super) use arguments::{ApiKeyCommand, Verb};
pub(super) use view::{plain, told};

/// Does what `command` says.
pub(super) fn run(
    command: ApiKeyCommand,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Exit {
    let verb = command.task.verb();
    match carry_out(command, environment.into_iter().collect()) {
        Ok(()) => Exit::Success,
        Err(failure) => failure.tell(&format!("apikey {}", verb.name())),
    }
}

fn carry_out(command: ApiKeyCommand, environment: Vec<(OsString, OsString)>) -> Result<(), Failure> {
    offline::prepare()?;
    let ApiKeyCommand { task, way, json, out } = command;
    let teller = Teller { verb: task.verb(), json, out: out.as_deref() };
    let said = match way {
        Way::Offline(raw) => {
            let settings = config::load_offline(raw, environment)?;
            let file = teller.open()?;
            stopped::carry_out(settings, &task, |bodies| teller.tell(bodies, file))?
        }
        Way::Server { url, api_key_file, trusting } => {
            let mut server = Server::find(url.as_deref(), api_key_file, trusting, &environment)?;
            let file = teller.open()?;
            let bodies = server.carry_out(&task)?;
            teller.tell(&bodies, file).map_err(|failure| match task.verb() {
                Verb::List | Verb::Show => failure,
                _ => failure.and(
                    "; the server did it all the same: `quantonium apikey list` shows it, and `quantonium apikey \
                     rotate` replaces a secret that is lost",
                ),
            })?
        }
    };
    console::err(&said);
    Ok(())
}

/// Tells what came of a task.
struct Teller<'a> {
    verb: Verb,
    json: bool,
    /// Where a new secret goes; else to standard output.
    out: Option<&'a Path>,
}

impl<'a> Teller<'a> {
    /// Makes the file for a new secret before anything is done for which it is needed.
    fn open(&self) -> Result<Option<NewFile<'a>>, Failure> {
        self.out.map(|path| NewFile::create(path, "API key")).transpose()
    }

    /// Writes to standard output, or into `file`, what was asked for; returns what is to be said beside it.
    fn tell(&self, bodies: &[Body], file: Option<NewFile<'_>>) -> Result<String, Failure> {
        if self.verb == Verb::List {
            let mut page = Page { keys: Vec::new(), next: None };
            for body in bodies {
                page.keys.extend(view::page(body)?.keys);
            }
            console::out(&if self.json { report::json(&page) } else { view::list(&page.keys) });
            return Ok(String::new());
        }
        let body = bodies.first().ok_or_else(view::not_ours)?;
        let mut key = view::key(body)?;
        match (key.api_key, self.verb) {
            (Some(secret), Verb::Create | Verb::Rotate) => self.hand_over(secret, body, file)?,
            // There is nothing else to be had from these.
            (None, Verb::Create | Verb::Rotate) => return Err(view::not_ours()),
            _ => {}
        }
        if self.json && (key.api_key.is_none() || self.out.is_some()) {
            key.api_key = None;
            console::out(&report::json(&key));
        } else if self.verb == Verb::Show {
            console::out(&key.text());
        }
        Ok(self.said(&key))
    }

    /// Writes a new secret to where it belongs: alone, or in JSON with the rest if that is asked for.
    fn hand_over(&self, secret: &str, body: &[u8], file: Option<NewFile<'_>>) -> Result<(), Failure> {
        let line = Zeroizing::new(format!("{secret}\n"));
        let Some(file) = file else {
            let whole = Zeroizing::new(format!("{}\n", String::from_utf8_lossy(body)));
            return console::deliver(Output::Out, if self.json { &whole } else { &line }).map_err(|error| {
                Failure::io(format!("cannot write the API key to standard output: {error}; give --out FILE"))
            });
        };
        file.fill(line.as_bytes())
    }

    fn said(&self, key: &View<'_>) -> String {
        let named = format!("API key {} ({})", plain(&key.id), plain(&key.name));
        let place = match self.out {
            Some(path) => format!("in {}", quoted(path)),
            None => "on standard output, shown once".to_owned(),
        };
        let kept = format!("its secret: {place}; nothing else keeps it\n");
        match self.verb {
            Verb::List | Verb::Show => String::new(),
            Verb::Create => format!("{named} is made\n{kept}"),
            Verb::Rotate => {
                let before = key.overlap_until.as_deref().map_or_else(
                    || "the secret before has ended".to_owned(),
                    |until| format!("the secret before works until {}", plain(until)),
                );
                format!("{named} has another secret; {before}, and its tokens have ended\n{kept}")
            }
            Verb::Revoke => format!("{named} is revoked: no secret and no token of it works any more\n"),
            Verb::Configure => format!("{named} is configured\n"),
            Verb::Delete => format!("{named} is forgotten\n"),
        }
    }
}
