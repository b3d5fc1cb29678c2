//! The memory of this process as the kernel lists it (proc_pid_maps(5)).
//!
//! Owns the reading of the list and what is wrong with it. Invariants: the buffer has a fixed size, whatever the list's
//! length; a line that is not understood is a finding, and no line is passed over; paths are not compared, because the
//! file of a running program may be renamed or removed by an update.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::Failure;
use crate::limits::{EXECUTABLE_MAPPINGS_MAX_COUNT, PROC_MAPS_BUFFER_BYTES};

/// A stretch of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    start: u64,
    end: u64,
    writable: bool,
    executable: bool,
    /// Where in which file it begins: offset, device and inode.
    offset: u64,
    device: (u32, u32),
    inode: u64,
}

/// The executable stretches, in order of their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executables(Vec<Mapping>);

impl Executables {
    /// What is executable now.
    ///
    /// # Errors
    /// What the kernel refuses; memory that is writable and executable; more stretches than there ever are.
    pub fn read(maps: &File) -> Result<Self, Failure> {
        let mut all = Vec::with_capacity(EXECUTABLE_MAPPINGS_MAX_COUNT);
        for_each(maps, |mapping| {
            unless_both(&mapping)?;
            if mapping.executable {
                if all.len() >= EXECUTABLE_MAPPINGS_MAX_COUNT {
                    return Err(finding("more executable memory than a program of one file has"));
                }
                all.push(mapping);
            }
            Ok(())
        })?;
        Ok(Self(all))
    }

    /// Fails unless exactly these stretches are executable, and none of the others is writable and executable.
    ///
    /// # Errors
    /// What is otherwise.
    pub fn confirm(&self, maps: &File) -> Result<(), Failure> {
        let mut known = self.0.iter();
        for_each(maps, |mapping| {
            unless_both(&mapping)?;
            match mapping.executable.then(|| known.next() == Some(&mapping)) {
                Some(false) => Err(finding("memory is executable that was not at the start")),
                _ => Ok(()),
            }
        })?;
        match known.next() {
            Some(_) => Err(finding("memory is not executable any more that was at the start")),
            None => Ok(()),
        }
    }
}

fn unless_both(mapping: &Mapping) -> Result<(), Failure> {
    if mapping.writable && mapping.executable {
        return Err(finding("memory is writable and executable"));
    }
    Ok(())
}

fn finding(what: &str) -> Failure {
    Failure::refused("mappings", what)
}

/// Hands each line's mapping to `each`, from the list's beginning on.
fn for_each(maps: &File, mut each: impl FnMut(Mapping) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut buffer = [0; PROC_MAPS_BUFFER_BYTES];
    let (mut offset, mut kept) = (0u64, 0);
    loop {
        let Some(room) = buffer.get_mut(kept..).filter(|room| !room.is_empty()) else {
            return Err(finding("a line of the list is too long"));
        };
        let read = maps.read_at(room, offset).map_err(|error| Failure::refused("mappings", error))?;
        if read == 0 {
            return if kept == 0 { Ok(()) } else { Err(finding("the list ends within a line")) };
        }
        offset = offset.saturating_add(read as u64);
        let filled = kept.saturating_add(read);
        let whole = take_lines(buffer.get(..filled).unwrap_or_default(), &mut each)?;
        buffer.copy_within(whole..filled, 0);
        kept = filled.saturating_sub(whole);
    }
}

/// Hands on the lines that are whole; returns how long they are together.
fn take_lines(text: &[u8], each: &mut impl FnMut(Mapping) -> Result<(), Failure>) -> Result<usize, Failure> {
    let mut taken = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        each(parse(line).ok_or_else(|| finding("a line of the list is not understood"))?)?;
        taken += line.len() + 1;
    }
    Ok(taken)
}

/// Reads a line: `start-end rwxp offset major:minor inode path`; nothing if it is none.
fn parse(line: &[u8]) -> Option<Mapping> {
    // A path may hold any byte; what counts stands before it.
    let mut fields = line.splitn(6, |byte| *byte == b' ').map(|field| core::str::from_utf8(field).ok());
    let mut next = || fields.next().flatten();
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = next()?.split_once('-')?;
    let rights = next()?.as_bytes();
    let [b'r' | b'-', writable @ (b'w' | b'-'), executable @ (b'x' | b'-'), b'p' | b's'] = rights else {
        return None;
    };
    let offset = hex(next()?)?;
    let (major, minor) = next()?.split_once(':')?;
    let number = |text: &str| u32::from_str_radix(text, 16).ok();
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        writable: *writable == b'w',
        executable: *executable == b'x',
        offset,
        device: (number(major)?, number(minor)?),
        inode: next()?.trim().parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
        7f0000000000-7f0000001000 r--p 00000000 fe:01 77                         /srv/a program\n\
        7f0000001000-7f0000400000 r-xp 00001000 fe:01 77                         /srv/a program\n\
        7f0000400000-7f0000500000 rw-p 00000000 00:00 0 \n\
        7ffe00000000-7ffe00021000 rw-p 00000000 00:00 0                          [stack]\n\
        7ffe00031000-7ffe00033000 r-xp 00000000 00:00 0                          [vdso]\n\
        ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";

    /// A file of this content, without a name.
    fn listed(text: &str) -> File {
        let path = std::env::temp_dir().join(format!(
            "quantonium-maps-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::write(&path, text).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file
    }

    fn told(result: Result<(), Failure>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_list_that_is_as_it_was_is_confirmed() {
        let known = Executables::read(&listed(TEXT)).unwrap();
        assert_eq!(known.0.len(), 3);
        known.confirm(&listed(TEXT)).unwrap();
        let renamed = TEXT.replace("/srv/a program", "/srv/a program (deleted)");
        known.confirm(&listed(&renamed)).unwrap();
        let grown = TEXT.replace("7f0000500000 rw-p", "7f0000900000 rw-p");
        known.confirm(&listed(&grown)).unwrap();
    }

    #[test]
    fn memory_that_is_writable_and_executable_is_found() {
        let known = Executables::read(&listed(TEXT)).unwrap();
        for right in ["rwxp", "-wxp", "rwxs"] {
            let text = TEXT.replace("7f0000500000 rw-p", &format!("7f0000500000 {right}"));
            assert!(told(known.confirm(&listed(&text))).contains("writable and executable"), "{right}");
            assert!(Executables::read(&listed(&text)).is_err(), "{right}");
        }
    }

    #[test]
    fn memory_that_became_executable_or_is_another_is_found() {
        let known = Executables::read(&listed(TEXT)).unwrap();
        let changes = [
            ("7f0000500000 rw-p", "7f0000500000 r-xp"),
            ("7f0000400000 r-xp", "7f0000401000 r-xp"),
            ("7f0000001000-7f", "7f0000002000-7f"),
            ("r-xp 00001000", "r-xp 00002000"),
            ("r-xp 00001000 fe:01 77", "r-xp 00001000 fe:01 78"),
            ("r-xp 00001000 fe:01 77", "r-xp 00001000 fe:02 77"),
            ("r-xp 00001000", "r--p 00001000"),
            ("r-xp 00000000 00:00 0                          [vdso]", "r--p 00000000 00:00 0 "),
        ];
        for (from, to) in changes {
            let text = TEXT.replace(from, to);
            assert_ne!(text, TEXT, "{from}");
            assert!(known.confirm(&listed(&text)).is_err(), "{from} -> {to}");
        }
        let shorter: String = TEXT.lines().take(5).map(|line| format!("{line}\n")).collect();
        assert!(told(known.confirm(&listed(&shorter))).contains("not executable any more"));
    }

    #[test]
    fn a_line_that_is_not_understood_confirms_nothing() {
        let known = Executables::read(&listed(TEXT)).unwrap();
        for broken in ["\n", "x\n", "1-2 r-xp 0 0:0\n", "1-2 r-zp 0 0:0 0\n", "1-2 r-xpp 0 0:0 0\n", "1-2"] {
            assert!(known.confirm(&listed(&format!("{TEXT}{broken}"))).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn lists_longer_than_the_buffer_are_read_to_their_end() {
        let line = "7f0000500000-7f0000600000 rw-p 00000000 00:00 0 \n";
        let long: String = core::iter::repeat_n(line, 1_000).collect();
        let known = Executables::read(&listed(&format!("{long}{TEXT}"))).unwrap();
        assert_eq!(known.0.len(), 3);
        known.confirm(&listed(&format!("{TEXT}{long}"))).unwrap();
        let last = line.replace("rw-p", "rwxp");
        assert!(known.confirm(&listed(&format!("{TEXT}{long}{last}"))).is_err());
        let endless = format!("1-2 rw-p 0 0:0 0 {}\n", "a".repeat(PROC_MAPS_BUFFER_BYTES));
        assert!(told(known.confirm(&listed(&endless))).contains("too long"));
    }

    #[test]
    fn this_process_has_executable_memory_and_none_that_is_writable_too() {
        let maps = File::open("/proc/self/maps").unwrap();
        let known = Executables::read(&maps).unwrap();
        assert!(!known.0.is_empty());
        known.confirm(&maps).unwrap();
    }
}
