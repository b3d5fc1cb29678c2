//! The disk that loses power, mounted: a file system in this process that the kernel asks through `/dev/fuse`.
//!
//! Owns [`Mount`] and the part of the protocol (version 7.31) that it takes. Invariants: one request at a time; what is
//! not known is answered with `ENOSYS`; whatever happens to the test, the file system is unmounted.

use std::fs::{self, File as Device, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::disk::{Content, Disk, File, Node, Survives};
use super::random::Random;
use super::server::client::comes_true;
use super::server::{NO_MOUNT, skip};

/// The longest write that is taken.
const WRITE_BYTES: u32 = 128 * 1024;
/// Seconds for which the kernel may remember what it was told: it is the only one who changes it.
const REMEMBERED: u64 = 3_600;

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const ENOSYS: i32 = 38;

/// A mounted disk.
#[derive(Debug)]
pub(crate) struct Mount {
    path: PathBuf,
    disk: Arc<Mutex<Disk>>,
    server: Option<JoinHandle<()>>,
}

impl Mount {
    /// Mounts an empty disk at `path`, which is made; says aloud why not.
    pub(crate) fn new(path: &Path, exchanges: bool) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skip(&format!("{NO_MOUNT}: it needs root"));
            return None;
        }
        fs::create_dir(path).unwrap();
        let disk = Arc::new(Mutex::new(Disk::new(exchanges)));
        let mut mount = Self { path: path.to_owned(), disk, server: None };
        if let Err(reason) = mount.attach() {
            skip(&format!("{NO_MOUNT}: {reason}"));
            return None;
        }
        Some(mount)
    }

    /// Takes the power away and gives it back. Nobody may use the disk meanwhile. Returns whether it went when
    /// [`fail_before`](Self::fail_before) said.
    pub(crate) fn lose_power(&mut self, survives: Survives, random: &mut Random) -> bool {
        self.detach(&[]);
        let as_said = self.disk().lose_power(survives, random);
        self.attach().unwrap();
        as_said
    }

    /// The power fails before so many more changes of the disk are done; whoever uses it goes on and learns of it when
    /// it is taken away.
    pub(crate) fn fail_before(&self, changes: usize) {
        self.disk().fail_before(changes);
    }

    /// From now on a write may take less than it was given.
    pub(crate) fn write_short(&self, seed: u64) {
        self.disk().short = Some(Random::new(seed));
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attach(&mut self) -> Result<(), String> {
        let open = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        let device = open.map_err(|error| format!("/dev/fuse: {error}"))?;
        // The descriptor of the device is the standard input of who mounts.
        let given = device.try_clone().map_err(|error| error.to_string())?;
        let mounted = Command::new("mount")
            .args(["-i", "-t", "fuse", "-o"])
            .arg("fd=0,rootmode=40755,user_id=0,group_id=0,allow_other,default_permissions")
            .arg("quantonium-test")
            .arg(&self.path)
            .stdin(Stdio::from(given))
            .output()
            .map_err(|error| format!("mount: {error}"))?;
        if !mounted.status.success() {
            return Err(format!(
                "no file system can be mounted: {}",
                String::from_utf8_lossy(&mounted.stderr)
            ));
        }
        let disk = Arc::clone(&self.disk);
        self.server = Some(thread::spawn(move || serve(device, &disk)));
        Ok(())
    }

    fn detach(&mut self, flags: &[&str]) {
        // Who has just ended may hold it for a moment more: a tracer, whose streams are closed before its file is.
        let unmount = || {
            let done = Command::new("umount").args(flags).arg(&self.path).output();
            done.is_ok_and(|output| output.status.success())
        };
        assert!(comes_true(|| unmount() || thread::panicking()), "umount {}", self.path.display());
        if let Some(server) = self.server.take().filter(|_| flags.is_empty()) {
            server.join().unwrap();
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.server.is_some() {
            // What still uses it keeps it until it ends.
            self.detach(&["-l"]);
        }
    }
}

/// Answers the kernel until the file system is unmounted.
fn serve(mut device: Device, disk: &Mutex<Disk>) {
    let mut buffer = vec![0; usize::try_from(WRITE_BYTES).unwrap() + 64 * 1024];
    loop {
        let Ok(read) = device.read(&mut buffer) else { return };
        let request = Request(&buffer[..read]);
        let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(answer) = request.answer(&mut disk) else { continue };
        let (error, body) = match answer {
            Ok(body) => (0, body.0),
            Err(errno) => (-errno, Vec::new()),
        };
        let len = u32::try_from(16 + body.len()).unwrap();
        let head = Out::default().word(len).word(error.cast_unsigned()).long(request.long(8));
        // Whoever asked may be gone.
        let _ = device.write_all(&[head.0, body].concat());
    }
}

/// Bytes of an answer.
#[derive(Debug, Default)]
struct Out(Vec<u8>);

impl Out {
    fn word(mut self, word: u32) -> Self {
        self.0.extend(word.to_ne_bytes());
        self
    }

    fn long(mut self, long: u64) -> Self {
        self.0.extend(long.to_ne_bytes());
        self
    }

    fn zeros(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    fn attributes(self, number: u64, node: &Node) -> Self {
        let len = match &node.content {
            Content::File(file) => file.bytes.len() as u64,
            Content::Directory(_) => 4_096,
        };
        let placed = self.long(number).long(len).long(len.div_ceil(512)).zeros(36).word(node.mode).word(1);
        placed.word(node.uid).word(node.gid).word(0).word(4_096).word(0)
    }

    fn entry(self, number: u64, node: &Node) -> Self {
        self.long(number).long(0).long(REMEMBERED).long(REMEMBERED).zeros(8).attributes(number, node)
    }

    fn opened(self) -> Self {
        self.zeros(16)
    }
}

type Answer = Result<Out, i32>;

/// A request of the kernel.
#[derive(Clone, Copy)]
struct Request<'a>(&'a [u8]);

impl<'a> Request<'a> {
    fn word(self, at: usize) -> u32 {
        self.0[at..].first_chunk().map(|bytes| u32::from_ne_bytes(*bytes)).unwrap()
    }

    fn long(self, at: usize) -> u64 {
        self.0[at..].first_chunk().map(|bytes| u64::from_ne_bytes(*bytes)).unwrap()
    }

    fn size(self, at: usize) -> usize {
        usize::try_from(self.long(at)).unwrap()
    }

    fn node(self) -> u64 {
        self.long(16)
    }

    /// The names that stand from `at` on.
    fn names(self, at: usize) -> impl Iterator<Item = &'a str> {
        self.0[at..].split(|byte| *byte == 0).map(|name| str::from_utf8(name).unwrap())
    }

    fn name(self, at: usize) -> &'a str {
        self.names(at).next().unwrap()
    }

    /// Nothing for a request that is not answered.
    fn answer(self, disk: &mut Disk) -> Option<Answer> {
        // SETATTR, MKDIR, UNLINK, RMDIR, RENAME, WRITE, FSYNC, FSYNCDIR, CREATE, RENAME2
        if [4, 9, 10, 11, 12, 16, 20, 30, 35, 45].contains(&self.word(4)) {
            disk.tick();
        }
        let done = || Ok(Out::default());
        Some(match self.word(4) {
            // FORGET, INTERRUPT, BATCH_FORGET
            2 | 36 | 42 => return None,
            // LOOKUP, GETATTR, SETATTR
            1 => self.look_up(disk),
            3 => self.attributes(disk),
            4 => self.set_attributes(disk),
            // MKDIR, CREATE
            9 => self.make(disk, 48, 40, 0o040_000),
            35 => self.make(disk, 56, 44, 0o100_000).map(Out::opened),
            // UNLINK, RMDIR
            10 | 11 => self.remove(disk),
            // RENAME, RENAME2
            12 => self.rename(disk, 48, 0),
            45 => self.rename(disk, 56, self.word(48)),
            // OPEN, OPENDIR, RELEASE, FLUSH, RELEASEDIR, DESTROY
            14 | 27 => Ok(Out::default().opened()),
            18 | 25 | 29 | 38 => done(),
            // READ, WRITE
            15 => self.read(disk),
            16 => self.write(disk),
            // STATFS: room for all
            17 => Ok((0..5)
                .fold(Out::default(), |out, _| out.long(1 << 20))
                .word(4_096)
                .word(255)
                .word(4_096)
                .zeros(28)),
            // FSYNC, FSYNCDIR
            20 => disk.file(self.node()).map(File::sync).ok_or(EINVAL).and_then(|()| done()),
            30 => {
                disk.sync_names(self.node());
                done()
            }
            // INIT: writes of more than a page
            26 => Ok(Out::default()
                .word(7)
                .word(31)
                .word(0)
                .word(1 << 5)
                .word(0)
                .word(WRITE_BYTES)
                .word(1)
                .zeros(36)),
            28 => self.read_names(disk),
            // FALLOCATE, of room that is not seen
            43 if self.word(64) == 1 => done(),
            _ => Err(ENOSYS),
        })
    }

    fn look_up(self, disk: &mut Disk) -> Answer {
        let number = disk.look_up(self.node(), self.name(40)).ok_or(ENOENT)?;
        Ok(Out::default().entry(number, disk.node(number).ok_or(ENOENT)?))
    }

    fn attributes(self, disk: &mut Disk) -> Answer {
        let node = disk.node(self.node()).ok_or(ENOENT)?;
        Ok(Out::default().long(REMEMBERED).zeros(8).attributes(self.node(), node))
    }

    fn set_attributes(self, disk: &mut Disk) -> Answer {
        let named = |bit: u32| self.word(40) & bit != 0;
        if named(8) {
            disk.file(self.node()).ok_or(EINVAL)?.set_len(self.size(56));
        }
        let node = disk.node(self.node()).ok_or(ENOENT)?;
        if named(1) {
            node.mode = node.mode & 0o170_000 | self.word(108) & 0o7777;
        }
        if named(2) {
            node.uid = self.word(116);
        }
        if named(4) {
            node.gid = self.word(120);
        }
        self.attributes(disk)
    }

    fn make(self, disk: &mut Disk, name: usize, mode: usize, kind: u32) -> Answer {
        let (directory, name) = (self.node(), self.name(name));
        if disk.look_up(directory, name).is_some() {
            return Err(EEXIST);
        }
        let content = match kind {
            0o040_000 => Content::Directory(Default::default()),
            _ => Content::File(File::default()),
        };
        let mode = kind | self.word(mode) & 0o7777;
        let number =
            disk.make(directory, name, Node { mode, uid: self.word(24), gid: self.word(28), content });
        Ok(Out::default().entry(number, disk.node(number).ok_or(ENOENT)?))
    }

    fn remove(self, disk: &mut Disk) -> Answer {
        disk.look_up(self.node(), self.name(40)).ok_or(ENOENT)?;
        disk.rename(vec![(self.node(), self.name(40).to_owned(), None)]);
        Ok(Out::default())
    }

    fn rename(self, disk: &mut Disk, names: usize, flags: u32) -> Answer {
        let (from, to) = (self.node(), self.long(40));
        let mut names = self.names(names).map(str::to_owned);
        let (old, new) = (names.next().ok_or(EINVAL)?, names.next().ok_or(EINVAL)?);
        let number = disk.look_up(from, &old).ok_or(ENOENT)?;
        let there = disk.look_up(to, &new);
        match flags {
            0 => disk.rename(vec![(from, old, None), (to, new, Some(number))]),
            1 if there.is_some() => return Err(EEXIST),
            1 => disk.rename(vec![(from, old, None), (to, new, Some(number))]),
            2 if disk.exchanges => {
                disk.rename(vec![(from, old, Some(there.ok_or(ENOENT)?)), (to, new, Some(number))]);
            }
            _ => return Err(EINVAL),
        }
        Ok(Out::default())
    }

    fn read(self, disk: &mut Disk) -> Answer {
        let file = disk.file(self.node()).ok_or(EINVAL)?;
        let rest = file.bytes.get(self.size(48)..).unwrap_or_default();
        let len = rest.len().min(usize::try_from(self.word(56)).unwrap());
        Ok(Out(rest[..len].to_vec()))
    }

    fn write(self, disk: &mut Disk) -> Answer {
        let mut len = usize::try_from(self.word(56)).unwrap();
        if let Some(random) = disk.short.as_mut().filter(|_| len > 1)
            && random.one_in(3)
        {
            len = random.between(1, len - 1);
        }
        disk.file(self.node()).ok_or(EINVAL)?.write(self.size(48), &self.0[80..80 + len]);
        Ok(Out::default().word(u32::try_from(len).unwrap()).word(0))
    }

    fn read_names(self, disk: &mut Disk) -> Answer {
        let mut out = Out::default();
        let room = usize::try_from(self.word(56)).unwrap();
        let names = disk.names(self.node()).ok_or(EINVAL)?;
        for (at, (name, number)) in (1..).zip(names.iter()).skip(self.size(48)) {
            let padding = name.len().next_multiple_of(8) - name.len();
            if out.0.len() + 24 + name.len() + padding > room {
                break;
            }
            out = out.long(*number).long(at).word(u32::try_from(name.len()).unwrap()).word(0);
            out.0.extend(name.bytes());
            out = out.zeros(padding);
        }
        Ok(out)
    }
}
