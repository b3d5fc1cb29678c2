//! The build script: compiles the seccomp filters and records what the binary was built from and how.
//!
//! It writes `filters.rs` (one `static` array of BPF instructions for each role) and `rules.txt` (the same rules for
//! people, as `src/sandbox/rules.rs` reads them), `crates.zlib` (`build/crates.rs`) and `security.txt` (`build/security_txt.rs`) into `OUT_DIR`, and what is served to browsers, compressed (`build/documents.rs`), and hands version facts to `src/build_info.rs` as compile-time environment variables. A release build whose compiler
//! flags would make the cryptography slow is refused here; `docs/BUILD.md` says why.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

#[path = "build/crates.rs"]
mod crates;
#[path = "build/documents.rs"]
mod documents;
#[path = "build/security_txt.rs"]
mod security_txt;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The roles, each a key of `seccomp/<arch>.json` and a kind of thread.
const ROLES: [&str; 4] = ["worker", "keeper", "archivist", "main"];
/// The filter that every thread has beside that of its role.
const PROCESS: &str = "process";
/// The only filter of the process that speaks to etcd.
const BROKER: &str = "broker";
/// What a change of invalidates the mark of an unclean tree: everything that goes into the binary.
const SOURCES: [&str; 9] = [
    "build.rs",
    "build",
    "src",
    "seccomp",
    "docs/openapi.json",
    "Cargo.toml",
    "Cargo.lock",
    ".cargo/config.toml",
    "SECURITY.md",
];

fn main() -> Outcome<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    for source in SOURCES {
        say(&format!("cargo::rerun-if-changed={source}"))?;
    }
    for variable in ["QUANTONIUM_COMMIT", "QUANTONIUM_ALLOW_SLOW"] {
        say(&format!("cargo::rerun-if-env-changed={variable}"))?;
    }
    refuse_pentest()?;
    compile_filters(&root, &arch)?;
    documents::write(&root, &PathBuf::from(env::var("OUT_DIR")?))?;
    crates::write(&root)?;
    security_txt::write(&root)?;
    let build = Flags::read()?;
    build.check(&arch)?;
    if build.is_v3() {
        say("cargo::rustc-cfg=quantonium_cpu=\"v3\"")?;
    }
    say("cargo::rustc-check-cfg=cfg(quantonium_cpu, values(\"v3\"))")?;
    for (name, value) in [
        ("COMMIT", commit(&root)?),
        ("TARGET", env::var("TARGET")?),
        ("FEATURES", features()),
        ("CPU", build.cpu.clone().unwrap_or_else(|| "portable".to_owned())),
        ("FLAGS", build.shown()),
    ] {
        say(&format!("cargo::rustc-env=QUANTONIUM_BUILD_{name}={value}"))?;
    }
    Ok(())
}

/// What attacks itself on request must never be taken for a release: it is built by its own profile, into its own folder.
fn refuse_pentest() -> Outcome<()> {
    let asked = env::var_os("CARGO_FEATURE_PENTEST").is_some();
    let folder = PathBuf::from(env::var("OUT_DIR")?);
    if asked && folder.components().any(|part| part.as_os_str() == "release") {
        return Err(
            "the feature pentest has a profile of its own: cargo build --profile pentest (make pentest)"
                .into(),
        );
    }
    Ok(())
}

/// Prints one instruction to cargo.
fn say(line: &str) -> Outcome<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

/// Compiles the filters of the target's architecture and writes them as Rust source.
fn compile_filters(root: &Path, arch: &str) -> Outcome<()> {
    let path = root.join("seccomp").join(format!("{arch}.json"));
    let json =
        fs::read(&path).map_err(|error| format!("no filters for {arch}: {}: {error}", path.display()))?;
    let programs = seccompiler::compile_from_json(json.as_slice(), arch.try_into()?)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    if programs.len() != ROLES.len() {
        return Err(format!("{}: not exactly the roles {ROLES:?}", path.display()).into());
    }
    let mut source = String::new();
    let process = compile_process(root, arch, PROCESS)?;
    let broker = compile_process(root, arch, BROKER)?;
    let mut write_program = |name: &str, program: &seccompiler::BpfProgram| -> Outcome<()> {
        writeln!(source, "static {name}: [sock_filter; {}] = [", program.len())?;
        for step in program {
            let seccompiler::sock_filter { code, jt, jf, k } = step;
            writeln!(source, "    sock_filter {{ code: {code}, jt: {jt}, jf: {jf}, k: {k} }},")?;
        }
        Ok(writeln!(source, "];")?)
    };
    write_program("PROCESS", &process)?;
    write_program("BROKER", &broker)?;
    for role in ROLES {
        let program = programs.get(role).ok_or_else(|| format!("{}: no role {role}", path.display()))?;
        write_program(&role.to_uppercase(), program)?;
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("filters.rs"), source)?;
    Ok(fs::write(out.join("rules.txt"), listed(&serde_json::from_slice(&json)?)?)?)
}

/// Compiles the filter of a whole process: what every architecture has, and what this one has beside it.
fn compile_process(root: &Path, arch: &str, name: &str) -> Outcome<seccompiler::BpfProgram> {
    let path = root.join("seccomp").join(format!("{name}.json"));
    let failed = |error: &dyn core::fmt::Display| format!("{}: {error}", path.display());
    let json: Value = serde_json::from_slice(&fs::read(&path).map_err(|error| failed(&error))?)?;
    let everywhere = json.get("everywhere").and_then(Value::as_array).ok_or_else(|| failed(&"no rules"))?;
    let here = json.get(arch).and_then(Value::as_array).into_iter().flatten();
    let rules: Vec<Value> = everywhere.iter().chain(here).cloned().collect();
    let filter = serde_json::json!({
        name: { "mismatch_action": "kill_process", "match_action": "allow", "filter": rules }
    });
    let compiled = seccompiler::compile_from_json(filter.to_string().as_bytes(), arch.try_into()?);
    let mut compiled = compiled.map_err(|error| failed(&error))?;
    Ok(compiled.remove(name).ok_or_else(|| failed(&"nothing was compiled"))?)
}

/// The rules as text: a line each, of fields between tabs: role, call, comment, then for each condition on an argument
/// its index, operator, value and meaning. A third of what static arrays of the same would take.
fn listed(filters: &Value) -> Outcome<String> {
    let text = |value: &Value, member: &str| -> Outcome<String> {
        let found =
            value.get(member).and_then(Value::as_str).ok_or_else(|| format!("no {member} in {value}"))?;
        if found.contains(['\t', '\n']) {
            return Err(format!("a tab or a line break in {found:?}").into());
        }
        Ok(found.to_owned())
    };
    let number = |value: &Value, member: &str| -> Outcome<u64> {
        Ok(value.get(member).and_then(Value::as_u64).ok_or_else(|| format!("no {member} in {value}"))?)
    };
    let mut lines = String::new();
    for role in ROLES {
        let rules = filters.get(role).and_then(|filter| filter.get("filter")).and_then(Value::as_array);
        for rule in rules.ok_or_else(|| format!("no rules of {role}"))? {
            write!(lines, "{role}\t{}\t{}", text(rule, "syscall")?, text(rule, "comment")?)?;
            for condition in rule.get("args").and_then(Value::as_array).into_iter().flatten() {
                let (index, value) = (number(condition, "index")?, number(condition, "val")?);
                let (operator, meaning) = (text(condition, "op")?, text(condition, "comment")?);
                write!(lines, "\t{index}\t{operator}\t{value}\t{meaning}")?;
            }
            lines.push('\n');
        }
    }
    Ok(lines)
}

/// The compiler flags that decide how the cryptography is compiled.
struct Flags {
    /// `-C target-cpu`, if given.
    cpu: Option<String>,
    /// `-C target-feature`, if given.
    target_feature: Option<String>,
    /// `--cfg chacha20_avx512`: the AVX-512 back-end of `chacha20` is compiled in and chosen at run time.
    chacha20_avx512: bool,
    /// `--cfg poly1305_backend="soft"`: `poly1305` does not try AVX2 without being compiled for it.
    poly1305_soft: bool,
}

impl Flags {
    /// Reads what cargo resulted in from configuration and environment.
    fn read() -> Outcome<Self> {
        let encoded = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
        let mut flags = Self {
            cpu: None,
            target_feature: None,
            chacha20_avx512: env::var_os("CARGO_CFG_CHACHA20_AVX512").is_some(),
            poly1305_soft: env::var("CARGO_CFG_POLY1305_BACKEND").is_ok_and(|value| value == "soft"),
        };
        let mut parts = encoded.split('\u{1f}');
        while let Some(part) = parts.next() {
            let option = match part {
                "-C" | "--codegen" => parts.next().ok_or("a code generation flag without its value")?,
                _ => part.strip_prefix("-C").or_else(|| part.strip_prefix("--codegen=")).unwrap_or_default(),
            };
            if let Some(cpu) = option.strip_prefix("target-cpu=") {
                flags.cpu = Some(cpu.to_owned());
            } else if let Some(features) = option.strip_prefix("target-feature=") {
                flags.target_feature = Some(features.to_owned());
            }
        }
        Ok(flags)
    }

    fn is_v3(&self) -> bool {
        self.cpu.as_deref() == Some("x86-64-v3")
    }

    /// Refuses a release build that would run at a fraction of its speed.
    fn check(&self, arch: &str) -> Outcome<()> {
        let fit = match (arch, self.cpu.as_deref()) {
            ("x86_64", None) => self.chacha20_avx512 && self.poly1305_soft,
            ("x86_64", Some("x86-64-v3")) => self.chacha20_avx512 && !self.poly1305_soft,
            ("aarch64", None) => true,
            _ => false,
        };
        let allowed = env::var("QUANTONIUM_ALLOW_SLOW").is_ok_and(|value| value == "1");
        if fit && self.target_feature.is_none() || allowed || env::var("PROFILE")? != "release" {
            return Ok(());
        }
        Err(format!(
            "this release build would be slow: its flags are \"{}\". x86_64 needs either \
             --cfg chacha20_avx512 --cfg poly1305_backend=\"soft\" (portable, from .cargo/config.toml, which \
             RUSTFLAGS replaces) or -C target-cpu=x86-64-v3 --cfg chacha20_avx512 (make build CPU=v3); aarch64 \
             needs no target-cpu. QUANTONIUM_ALLOW_SLOW=1 builds nevertheless; docs/BUILD.md has the figures",
            self.shown()
        )
        .into())
    }

    /// The flags in one line, without those that name paths: they would make the binary differ by directory.
    fn shown(&self) -> String {
        let mut shown = Vec::new();
        shown.extend(self.cpu.as_ref().map(|cpu| format!("-C target-cpu={cpu}")));
        shown.extend(self.target_feature.as_ref().map(|list| format!("-C target-feature={list}")));
        shown.extend(self.chacha20_avx512.then(|| "--cfg chacha20_avx512".to_owned()));
        shown.extend(self.poly1305_soft.then(|| "--cfg poly1305_backend=\"soft\"".to_owned()));
        if shown.is_empty() { "none".to_owned() } else { shown.join(" ") }
    }
}

/// The enabled cargo features, sorted, separated by commas.
fn features() -> String {
    let mut names: Vec<String> = env::vars()
        .filter_map(|(name, _)| Some(name.strip_prefix("CARGO_FEATURE_")?.to_lowercase().replace('_', "-")))
        .collect();
    names.sort();
    if names.is_empty() { "none".to_owned() } else { names.join(",") }
}

/// The commit the sources are from: from `.git`, else from `QUANTONIUM_COMMIT`, else from the file `COMMIT`.
fn commit(root: &Path) -> Outcome<String> {
    if root.join(".git").exists()
        && let Some(id) = commit_of_repository(root)?
    {
        return Ok(if is_unclean(root) { format!("{id}-dirty") } else { id });
    }
    if let Ok(id) = env::var("QUANTONIUM_COMMIT") {
        return checked(&id, "QUANTONIUM_COMMIT");
    }
    let file = root.join("COMMIT");
    if file.exists() {
        say("cargo::rerun-if-changed=COMMIT")?;
        return checked(&fs::read_to_string(file)?, "the file COMMIT");
    }
    Ok("unknown".to_owned())
}

/// Refuses a commit that is none: it ends in a line for the compiler.
fn checked(id: &str, origin: &str) -> Outcome<String> {
    let id = id.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+".contains(&byte);
    if id.is_empty() || id.len() > 80 || !id.bytes().all(plain) {
        return Err(format!("{origin} does not hold a commit").into());
    }
    Ok(id.to_owned())
}

/// Follows `HEAD` by reading files, so that no `git` need be installed. A work tree's `.git` is a file that
/// names its directory, whose `commondir` names the shared one.
fn commit_of_repository(root: &Path) -> Outcome<Option<String>> {
    let mut private = root.join(".git");
    if private.is_file() {
        let pointer = fs::read_to_string(&private)?;
        let Some(path) = pointer.trim().strip_prefix("gitdir: ") else { return Ok(None) };
        private = root.join(path);
    }
    let shared = match fs::read_to_string(private.join("commondir")) {
        Ok(path) => private.join(path.trim()),
        Err(_) => private.clone(),
    };
    let head = private.join("HEAD");
    say(&format!("cargo::rerun-if-changed={}", head.display()))?;
    let Ok(head) = fs::read_to_string(head) else { return Ok(None) };
    let Some(name) = head.trim().strip_prefix("ref: ") else { return checked(&head, "HEAD").map(Some) };
    let packed = shared.join("packed-refs");
    // A missing file would make cargo run this script on every build, so only what exists is watched; a
    // reference moves between the two only together with a change of the one that is watched.
    for file in [shared.join(name), packed.clone()] {
        if file.exists() {
            say(&format!("cargo::rerun-if-changed={}", file.display()))?;
        }
    }
    if let Ok(id) = fs::read_to_string(shared.join(name)) {
        return checked(&id, name).map(Some);
    }
    let lines = fs::read_to_string(packed).unwrap_or_default();
    let id = lines.lines().filter_map(|line| line.split_once(' ')).find(|(_, of)| *of == name);
    id.map(|(id, _)| checked(id, name)).transpose()
}

/// Whether a file that goes into the binary differs from the commit. Without a usable `git`, it is not known
/// and not claimed.
fn is_unclean(root: &Path) -> bool {
    let asked = Command::new("git")
        .current_dir(root)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .args(["status", "--porcelain", "--"])
        .args(SOURCES)
        .output();
    asked.is_ok_and(|answer| answer.status.success() && !answer.stdout.is_empty())
}
