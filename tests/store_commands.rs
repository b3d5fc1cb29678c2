//! `quantonium init` and `quantonium store` on the real binary: what they make, what they say, what they refuse.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

#[path = "support/place.rs"]
mod place;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use place::{KEY, Place, is_api_key, mode, server};
use serde_json::Value;

const KEY_HEX: &str = "6d61737465722d6b65792d6f662d7468652d74657374732d33322d6279746573";
const KEY_BASE64: &str = "bWFzdGVyLWtleS1vZi10aGUtdGVzdHMtMzItYnl0ZXM=";

#[test]
fn init_makes_a_store_and_shows_the_admin_key_on_standard_output_alone() {
    let Some(place) = Place::new() else { return };
    let made = place.run("init", &[]);
    made.must_be(0);
    assert!(is_api_key(made.out().strip_suffix('\n').unwrap()), "{}", made.out());
    let said = made.err();
    assert!(said.starts_with("store made in data\nmaster key used: master.key; keep a copy apart"), "{said}");
    assert!(said.ends_with("  quantonium serve --data-dir data --master-key-file master.key\n"), "{said}");
    assert!(!said.contains("qk_"), "{said}");
    assert_eq!((mode(&place.path("data")), mode(&place.journal())), (0o700, 0o600));
    assert_eq!(place.run("store verify", &[]).must_be(0).value("result"), "sound");
}

#[test]
fn init_generates_a_master_key_and_keeps_the_admin_key_in_a_file() {
    let Some(place) = Place::new() else { return };
    let flags = ["--data-dir", "data", "--master-key-file", "new.key", "--generate-master-key"];
    let made = place.run_with("init", &[&flags[..], &["--admin-key-file", "admin"]].concat(), &[]);
    made.must_be(0);
    assert_eq!(made.out(), "");
    assert!(made.err().contains("master key made: new.key;"), "{}", made.err());
    assert!(made.err().contains("admin API key: in admin;"), "{}", made.err());
    let admin = fs::read_to_string(place.path("admin")).unwrap();
    assert!(is_api_key(admin.strip_suffix('\n').unwrap()), "{admin}");
    let master = fs::read_to_string(place.path("new.key")).unwrap();
    let digits = master.strip_suffix('\n').unwrap();
    assert!(digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "64 digits");
    assert_eq!((mode(&place.path("new.key")), mode(&place.path("admin"))), (0o600, 0o600));
    place.run_with("store verify", &["--data-dir", "data", "--master-key-file", "new.key"], &[]).must_be(0);
    place.run("store verify", &[]).must_refuse(78, &["another master key"]);
}

#[test]
fn init_overwrites_nothing() {
    let Some(place) = Place::with_store() else { return };
    let before = fs::read(place.journal()).unwrap();
    place
        .run("init", &[])
        .must_refuse(78, &["init: data/journal exists already", "mv data/journal data/journal.old"]);
    let flags = ["--data-dir", "data", "--master-key-file", "fresh.key", "--generate-master-key"];
    place.run_with("init", &flags, &[]).must_refuse(78, &["data/journal exists already"]);
    assert!(!place.path("fresh.key").exists(), "no key is made for a store that is there");
    assert_eq!(fs::read(place.journal()).unwrap(), before);

    let Some(place) = Place::new() else { return };
    place
        .run("init", &["--generate-master-key", "--admin-key-file", "admin"])
        .must_refuse(78, &["master.key exists and is not overwritten", "leave out --generate-master-key"]);
    assert!(!place.path("admin").exists(), "a refusal leaves no empty file behind");
    assert_eq!(fs::read(place.path("master.key")).unwrap(), KEY);
    fs::write(place.path("admin"), "mine").unwrap();
    place
        .run("init", &["--admin-key-file", "admin"])
        .must_refuse(78, &["admin exists and is not overwritten: name another file"]);
    assert_eq!(fs::read_to_string(place.path("admin")).unwrap(), "mine");
    assert!(!place.journal().exists());
}

#[test]
fn master_key_files_that_cannot_be_used_are_refused_with_what_to_do() {
    let Some(place) = Place::new() else { return };
    let refused = |words: &[&str]| {
        place.run("init", &[]).must_refuse(78, words);
        assert!(!place.journal().exists());
    };
    let long = vec![b'a'; 70_000];
    for content in
        [&b""[..], b"short", &KEY[..31], &KEY_HEX.as_bytes()[..63], &KEY_BASE64.as_bytes()[..43], &long]
    {
        place.secret("master.key", content);
        refused(&[
            "master.key does not hold a master key (32 bytes, 64 hexadecimal digits or 44 characters of base64)",
        ]);
    }
    place.secret("master.key", KEY);
    for loose in [0o644, 0o604, 0o620, 0o602] {
        fs::set_permissions(place.path("master.key"), Permissions::from_mode(loose)).unwrap();
        refused(&[&format!("master.key has mode {loose:04o}"), "run: chmod 400 master.key"]);
    }
    fs::remove_file(place.path("master.key")).unwrap();
    refused(&["cannot open master.key: No such file"]);
    fs::create_dir(place.path("master.key")).unwrap();
    refused(&["master.key is not a regular file"]);
    let missing = ["--data-dir", "data", "--master-key-file", "no/such.key", "--generate-master-key"];
    place
        .run_with("init", &missing, &[])
        .must_refuse(78, &["no/such.key: the directory around it is missing"]);
    place
        .run_with("init", &["--data-dir", "data"], &[])
        .must_refuse(78, &["no master key: give --master-key-file FILE"]);
    place
        .run_with("init", &["--master-key-file", "m"], &[])
        .must_refuse(78, &["no data directory: give --data-dir DIR"]);
}

#[test]
fn a_master_key_is_the_same_in_each_of_its_forms() {
    let Some(place) = Place::with_store() else { return };
    let upper = KEY_HEX.to_uppercase();
    for form in [KEY_HEX, &upper, KEY_BASE64] {
        for end in ["", "\n", "\r\n"] {
            place.secret("other.key", format!("{form}{end}").as_bytes());
            let flags = ["--data-dir", "data", "--master-key-file", "other.key"];
            assert_eq!(place.run_with("store verify", &flags, &[]).must_be(0).value("result"), "sound");
        }
    }
}

#[test]
fn the_master_key_is_found_by_flag_variable_file_and_credential() {
    let Some(place) = Place::with_store() else { return };
    fs::write(place.path("q.toml"), "data_dir = 'data'\nmaster_key_file = 'master.key'\n").unwrap();
    fs::create_dir(place.path("credentials")).unwrap();
    fs::copy(place.path("master.key"), place.path("credentials/quantonium-master-key")).unwrap();
    let data_dir = ("QUANTONIUM_DATA_DIR", "data");
    for (flags, variables) in [
        (&["--data-dir", "data", "--master-key-file", "master.key"][..], &[][..]),
        (&[], &[data_dir, ("QUANTONIUM_MASTER_KEY_FILE", "master.key")]),
        (&["--config", "q.toml"], &[]),
        (&[], &[data_dir, ("CREDENTIALS_DIRECTORY", "credentials")]),
        (&["--config", "q.toml"], &[("CREDENTIALS_DIRECTORY", "elsewhere")]),
        (&["--master-key-file", "master.key"], &[data_dir, ("QUANTONIUM_MASTER_KEY_FILE", "wrong")]),
    ] {
        place.run_with("store verify", flags, variables).must_be(0);
    }
    let elsewhere = [data_dir, ("CREDENTIALS_DIRECTORY", "elsewhere")];
    place
        .run_with("store verify", &[], &elsewhere)
        .must_refuse(78, &["no master key", "QUANTONIUM_MASTER_KEY_FILE"]);
    for words in ["init", "store verify"] {
        let by_value = [data_dir, ("QUANTONIUM_MASTER_KEY", KEY_HEX)];
        let ran = place.run_with(words, &[], &by_value);
        ran.must_refuse(78, &["set QUANTONIUM_MASTER_KEY_FILE to its path"]);
        assert!(!ran.err().contains(&KEY_HEX[..16]), "{}", ran.err());
    }
}

#[test]
fn another_master_key_is_refused_and_both_ids_are_named() {
    let Some(place) = Place::with_store() else { return };
    let id = place.run("store inspect", &[]).must_be(0).value("master key id").to_owned();
    place.secret("other.key", b"another-master-key-with-32-bytes");
    place.secret("next.key", b"a-third-master-key-with-32-bytes");
    for words in
        ["store verify", "store inspect", "store compact", "store rekey --new-master-key-file next.key"]
    {
        let ran = place.run_with(words, &["--data-dir", "data", "--master-key-file", "other.key"], &[]);
        ran.must_refuse(78, &["was made under another master key", &id, "give the right --master-key-file"]);
    }
    place.run("store verify", &[]).must_be(0);
}

#[test]
fn where_there_is_no_store_nothing_is_made() {
    let Some(place) = Place::new() else { return };
    for words in
        ["store verify", "store inspect", "store compact", "store rekey --new-master-key-file master.key"]
    {
        place.run(words, &[]).must_refuse(78, &["data holds no store", "quantonium init --data-dir data"]);
        assert!(!place.path("data").exists(), "{words}");
    }
    fs::create_dir(place.path("data")).unwrap();
    fs::set_permissions(place.path("data"), Permissions::from_mode(0o700)).unwrap();
    place.run("store verify", &[]).must_refuse(78, &["data holds no store"]);
    fs::set_permissions(place.path("data"), Permissions::from_mode(0o755)).unwrap();
    place.run("store verify", &[]).must_refuse(78, &["data has mode 0755", "chmod 700 data"]);
}

#[test]
fn a_directory_in_use_is_refused() {
    let Some(place) = Place::with_store() else { return };
    let lock = fs::File::open(place.path("data/lock")).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
    place.secret("next.key", KEY);
    for words in [
        "init",
        "store verify",
        "store inspect",
        "store compact",
        "store rekey --new-master-key-file next.key",
        "store rotate-root",
    ] {
        place.run(words, &[]).must_refuse(78, &["data is in use by another quantonium; stop that one"]);
    }
    drop(lock);
    place.run("store verify", &[]).must_be(0);
}

#[test]
fn inspect_tells_the_header_without_a_key_and_verify_says_that_it_needs_one() {
    let Some(place) = Place::with_store() else { return };
    let header = place.run_with("store inspect", &["--data-dir", "data"], &[]);
    header.must_be(0);
    assert_eq!((header.value("journal"), header.value("format")), ("data/journal", "1"));
    assert_eq!(header.value("ring id").len(), 32);
    assert_eq!(header.value("keys"), "give --master-key-file to see them");
    let bytes = fs::metadata(place.journal()).unwrap().len();
    assert_eq!(header.value("size"), format!("{bytes} bytes"));
    let json = place.run_with("store inspect", &["--data-dir", "data", "--json"], &[]).must_be(0).json();
    assert_eq!(json["ring"], header.value("ring id"));
    assert!(json.get("keys").is_none() && json.get("revision").is_none(), "{json}");
    for words in ["store verify", "store compact"] {
        let ran = place.run_with(words, &["--data-dir", "data"], &[]);
        ran.must_refuse(78, &["no master key", "`quantonium store inspect`", "--master-key-file FILE"]);
    }
}

#[test]
fn reports_say_the_same_in_text_and_json() {
    let Some(place) = Place::with_store() else { return };
    let text = place.run("store verify", &[]);
    let json = place.run("store verify", &["--json"]).must_be(0).json();
    assert_eq!(json["sound"], true);
    assert_eq!(json["damaged"], Value::Array(Vec::new()));
    assert_eq!(json["torn_tail"], Value::Null);
    assert_eq!(text.value("frames"), json["frames"].to_string());
    assert_eq!(text.value("revision"), json["revision"].to_string());
    assert_eq!(text.value("file id"), json["file"]);
    assert_eq!(text.value("torn tail"), "none");
    let inspected = place.run("store inspect", &["--json"]).must_be(0).json();
    assert_eq!(inspected["keys"], Value::Array(Vec::new()));
    assert_eq!(inspected["revision"], json["revision"]);
}

#[test]
fn verify_finds_every_changed_byte_and_changes_none() {
    let Some(place) = Place::with_compacted_store() else { return };
    let whole = fs::read(place.journal()).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(place.journal(), &bytes).unwrap();
        let code = place.run("store verify", &[]).code();
        // In the header a byte may make it a journal of another format or of another master key.
        assert!(code == 65 || (code == 78 && at < 48), "byte {at}: {code}");
        assert_eq!(fs::read(place.journal()).unwrap(), bytes);
    }
}

#[test]
fn verify_names_the_file_and_the_offset_of_damage() {
    let Some(place) = Place::with_compacted_store() else { return };
    let whole = fs::read(place.journal()).unwrap();
    let mut bytes = whole.clone();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(place.journal(), &bytes).unwrap();
    let text = place.run("store verify", &[]);
    text.must_be(65);
    assert_eq!((text.value("journal"), text.value("result")), ("data/journal", "damaged"));
    let json = place.run("store verify", &["--json"]).must_be(65).json();
    let (offset, length) = (&json["damaged"][0]["offset"], &json["damaged"][0]["bytes"]);
    assert_eq!(text.value("damaged"), format!("{length} bytes at offset {offset}"));
    assert!(offset.as_u64().unwrap() < bytes.len() as u64);
    assert_eq!((&json["sound"], &json["damaged_count"]), (&Value::Bool(false), &Value::from(1)));
    let named = format!("data/journal is damaged at offset {offset}");
    for words in ["store compact", "store rekey --new-master-key-file master.key"] {
        let ran = place.run(words, &[]);
        ran.must_be(65);
        assert!(ran.err().contains("data/journal"), "{words}: {}", ran.err());
    }
    place.run("store compact", &[]).must_refuse(65, &[&named, "`quantonium store verify` shows more"]);
    let inspected = place.run("store inspect", &[]);
    inspected.must_be(65);
    assert!(inspected.err().contains(&named), "{}", inspected.err());
    fs::write(place.journal(), &whole).unwrap();
    place.run("store verify", &[]).must_be(0);
    fs::write(place.journal(), "something else").unwrap();
    place.run("store verify", &[]).must_refuse(65, &["data/journal is not a journal of quantonium"]);
}

#[test]
fn an_unfinished_end_is_sound_and_stays_until_a_start_cuts_it() {
    let Some(place) = Place::with_store() else { return };
    let whole = fs::read(place.journal()).unwrap();
    let torn = [&whole[..], &[0u8; 9]].concat();
    fs::write(place.journal(), &torn).unwrap();
    let text = place.run("store verify", &[]);
    text.must_be(0);
    let expected =
        format!("9 bytes at offset {}: a change that was never finished nor answered", whole.len());
    assert!(text.value("torn tail").starts_with(&expected), "{}", text.out());
    let json = place.run("store verify", &["--json"]).must_be(0).json();
    assert_eq!(json["torn_tail"]["offset"], whole.len());
    place.run("store inspect", &[]).must_be(0);
    assert_eq!(fs::read(place.journal()).unwrap(), torn);
    place.run("store compact", &[]).must_be(0);
    assert_eq!(place.run("store verify", &[]).must_be(0).value("torn tail"), "none");
}

#[test]
fn compact_makes_a_new_file_of_the_same_store() {
    let Some(place) = Place::with_store() else { return };
    let before = place.run("store inspect", &["--json"]).json();
    let said = place.run("store compact", &[]);
    said.must_be(0);
    assert!(said.out().starts_with("compacted: ") && said.out().ends_with("; verified\n"), "{}", said.out());
    let after = place.run("store inspect", &["--json"]).json();
    assert_ne!(before["file"], after["file"]);
    for member in ["ring", "master_key_id", "revision", "keys", "api_keys"] {
        assert_eq!(before[member], after[member], "{member}");
    }
    assert_eq!(mode(&place.journal()), 0o600);
    // What it was before it is compacted may be older than an operator remembers.
    let ran = place.run("store compact", &["--min-store-revision", "1000"]);
    ran.must_refuse(78, &["was at 1000 before", "--accept-store-rollback"]);
    place.run("store compact", &["--min-store-revision", "1000", "--accept-store-rollback"]).must_be(0);
    place.run("store compact", &["--min-store-revision", "1000"]).must_be(0);
}

#[test]
fn rekey_puts_the_store_under_another_master_key_at_once() {
    let Some(place) = Place::with_store() else { return };
    let before = place.run("store inspect", &["--json"]).json();
    place.secret("new.key", b"another-master-key-with-32-bytes");
    let rekey = "store rekey --new-master-key-file new.key";
    let said = place.run(rekey, &[]);
    said.must_be(0);
    assert!(
        said.out().starts_with("the store is under the master key of new.key now; verified\n"),
        "{}",
        said.out()
    );
    assert!(said.out().contains("master.key is no longer needed for it"), "{}", said.out());
    let new = ["--data-dir", "data", "--master-key-file", "new.key"];
    place.run_with("store verify", &new, &[]).must_be(0);
    place.run("store verify", &[]).must_refuse(78, &["another master key"]);
    let after = place.run_with("store inspect", &[&new[..], &["--json"]].concat(), &[]).must_be(0).json();
    assert_ne!(before["master_key_id"], after["master_key_id"]);
    for member in ["ring", "revision", "keys", "api_keys"] {
        assert_eq!(before[member], after[member], "{member}");
    }
    // Run again after an interruption, it finds its work done.
    let again = place.run(rekey, &[]);
    again.must_be(0);
    assert_eq!(again.out(), "the store is under the master key of new.key already; verified\n");
    place.run("store rekey --new-master-key-file none.key", &[]).must_refuse(78, &["cannot open none.key"]);
}

#[test]
fn rotate_root_ends_every_api_key_and_makes_a_new_admin_key() {
    let Some(place) = Place::with_store() else { return };
    let before = place.run("store inspect", &["--json"]).must_be(0).json();
    let old = before["api_keys"][0]["id"].as_str().unwrap();
    let rotated = place.run("store rotate-root", &[]);
    rotated.must_be(0);
    assert!(is_api_key(rotated.out().strip_suffix('\n').unwrap()), "{}", rotated.out());
    let said = rotated.err();
    assert!(
        said.starts_with("0 keys sealed anew under a new root key; verified\nended: API key qk_"),
        "{said}"
    );
    assert!(said.contains(old), "{said}");
    let after = place.run("store inspect", &["--json"]).must_be(0).json();
    assert_eq!(after["api_keys"].as_array().unwrap().len(), 1);
    assert!(rotated.out().starts_with(after["api_keys"][0]["id"].as_str().unwrap()));
    assert_ne!(after["ring"], before["ring"]);
    assert_eq!(after["master_key_id"], before["master_key_id"]);
    assert!(after["revision"].as_u64() > before["revision"].as_u64(), "{after}");
    assert!(!place.path("data/root.next").exists());
    assert_eq!(fs::metadata(place.journal()).unwrap().uid(), fs::metadata(place.path("data")).unwrap().uid());
    place.run("store verify", &[]).must_be(0);
    // What a run left that was cut off is no hindrance.
    fs::create_dir(place.path("data/root.next")).unwrap();
    fs::write(place.path("data/root.next/journal"), "half").unwrap();
    let ran = place.run("store rotate-root", &["--admin-key-file", "admin"]);
    ran.must_be(0);
    assert_eq!(ran.out(), "");
    assert_eq!(mode(&place.path("admin")), 0o600);
    let twice = place.run("store rotate-root", &["--admin-key-file", "admin"]);
    twice.must_refuse(78, &["admin exists and is not overwritten"]);
}

/// Runs `words` with standard output as `sh` leads it elsewhere.
fn with_output(place: &Place, words: &str, flags: &str, output: &str) -> (i32, String) {
    let line = format!("exec \"$QUANTONIUM\" {words} --data-dir data --master-key-file {flags} {output}");
    let mut command = std::process::Command::new("sh");
    let command = command.args(["-c", &line]).current_dir(place.path("")).env_clear();
    let ran = command.env("QUANTONIUM", server::binary().unwrap()).output().unwrap();
    (ran.status.code().unwrap(), String::from_utf8(ran.stderr).unwrap())
}

#[test]
fn an_admin_key_that_cannot_be_handed_over_leaves_everything_as_it_was() {
    let outputs = [">/dev/full", ">&-", ">/dev/null", "--admin-key-file /dev/shm/none/admin"];
    let Some(place) = Place::new() else { return };
    for output in outputs {
        for flags in ["master.key", "new.key --generate-master-key"] {
            let (code, said) = with_output(&place, "init", flags, output);
            assert!([74, 78].contains(&code) && said.lines().count() == 1, "{output}: {code}: {said}");
            assert!(!place.journal().exists() && !place.path("new.key").exists(), "{output}: {flags}");
        }
    }
    place.run("init", &[]).must_be(0);
    let before = fs::read(place.journal()).unwrap();
    for output in outputs {
        let (code, said) = with_output(&place, "store rotate-root", "master.key", output);
        assert!([74, 78].contains(&code) && said.lines().count() == 1, "{output}: {code}: {said}");
        assert_eq!(fs::read(place.journal()).unwrap(), before, "{output}");
        assert!(!place.path("data/root.next").exists(), "{output}");
    }
    assert!(is_api_key(place.run("store rotate-root", &[]).must_be(0).out().trim_end()));
}

#[test]
fn an_accepted_loss_of_the_whole_store_leaves_one_that_is_behind_nothing() {
    let Some(place) = Place::new() else { return };
    let floor = ["--min-store-revision", "7"];
    place.run("init", &floor).must_refuse(78, &["was at 7 before", "--accept-store-rollback"]);
    place.run("init", &[&floor[..], &["--accept-store-rollback"]].concat()).must_be(0);
    place.run("store verify", &floor).must_be(0);
    let beyond = i64::MAX.to_string();
    for words in ["store compact", "store rotate-root"] {
        let flags = ["--min-store-revision", &beyond, "--accept-store-rollback"];
        place.run(words, &flags).must_be(78);
    }
    place.run("store verify", &["--min-store-revision", &beyond]).must_be(78);
    place.run("store verify", &floor).must_be(0);
}

#[test]
fn no_command_prints_a_key() {
    let Some(place) = Place::with_store() else { return };
    place.secret("new.key", b"another-master-key-with-32-bytes");
    let forms = ["master-key-of-the-tests", "another-master-key", &KEY_HEX[..20], &KEY_BASE64[..20]];
    for words in [
        "store verify",
        "store verify --json",
        "store inspect",
        "store compact",
        "init",
        "store rekey --new-master-key-file new.key",
        "store verify",
    ] {
        let ran = place.run(words, &[]);
        let said = format!("{}{}", ran.out(), ran.err());
        assert!(!said.is_empty() && forms.iter().all(|form| !said.contains(form)), "{words}: {said}");
    }
    let journal = fs::read(place.journal()).unwrap();
    assert!(!journal.windows(16).any(|window| window == &KEY[..16]), "the master key is not in the journal");
}

#[test]
fn as_root_the_directory_is_given_away_and_its_owner_keeps_what_commands_write() {
    let Some(place) = Place::with_store() else { return };
    if !nix::unistd::geteuid().is_root() {
        return server::skip("it needs root, to give files away");
    }
    let owner = |path: &Path| (fs::metadata(path).unwrap().uid(), fs::metadata(path).unwrap().gid());
    for name in ["data", "data/journal", "data/lock", "data/audit"] {
        assert_eq!(owner(&place.path(name)), (1001, 1001), "{name}");
    }
    place.run("store compact", &[]).must_be(0);
    assert_eq!(owner(&place.journal()), (1001, 1001));
    // A copy that belongs to root is looked at where it is.
    fs::create_dir(place.path("copy")).unwrap();
    fs::set_permissions(place.path("copy"), Permissions::from_mode(0o700)).unwrap();
    fs::copy(place.journal(), place.path("copy/journal")).unwrap();
    let copy = ["--data-dir", "copy", "--master-key-file", "master.key"];
    place.run_with("store verify", &copy, &[]).must_be(0);
    place.run_with("store compact", &copy, &[]).must_be(0);
    assert_eq!(owner(&place.path("copy/journal")), (0, 0));
    let other =
        ["--data-dir", "other", "--master-key-file", "master.key", "--user-id", "1002", "--group-id", "1003"];
    place.run_with("init", &other, &[]).must_be(0);
    assert_eq!(owner(&place.path("other/journal")), (1002, 1003));
}
