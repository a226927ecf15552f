//! Files and directories that appear whole or not at all.
//!
//! What is not finished is a hidden sibling of its destination, `.NAME.partial-XXXXXX`, and held by a lock. It is gone on
//! any error, and where a signal ends the program ([`remove_partial`]). What a crash leaves nobody holds: the next run
//! with this destination removes it. What is to outlive an interruption has a name of its own, which a run claims ([`claim`]).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::Builder;

/// Between the destination's name and the random letters.
const MARK: &str = ".partial-";
/// Random letters.
const LETTERS: usize = 6;
/// In an unfinished directory, the file whose lock says that somebody is at work. A file is locked itself.
const LOCK: &str = ".lock";

/// What this program has under temporary names. Whoever makes, keeps or removes one holds it meanwhile.
static PARTIAL: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Writes `path` anew: `write` fills a file beside it, which takes its place when it is on disk. On any error there is
/// what was there before, and nothing else. Like any new file it is as readable as the umask lets it be.
///
/// # Errors
/// What `write` gives, and those of the file system.
pub fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    Partial::sweep(path);
    let mut partial = Partial::file(path)?;
    write(&mut partial.held)?;
    partial.held.sync_all()?;
    partial.keep(path)
}

/// Can [`replace`] write `path`? To be asked before the work whose result it is to hold.
///
/// # Errors
/// Those of the file system.
pub fn writable(path: &Path) -> io::Result<()> {
    Partial::file(path).map(|_| ())
}

/// What runs have claimed.
static CLAIMED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A file or directory that one run works on from its beginning to its end, be it saved many times: see [`claim`].
pub struct Claim {
    path: PathBuf,
    /// Its lock is what counts.
    _partial: Partial,
}

impl Drop for Claim {
    fn drop(&mut self) {
        locked(&CLAIMED).remove(&self.path);
    }
}

/// Takes `path` for this run, until what is given is dropped. What lies there stays when the run is interrupted.
///
/// # Errors
/// Those of the file system; [`ErrorKind::ResourceBusy`] where another run has it or is writing it.
pub fn claim(path: &Path) -> io::Result<Claim> {
    match Partial::sweep(path) {
        None => {
            let claim = Claim { _partial: Partial::file(path)?, path: path.to_owned() };
            locked(&CLAIMED).insert(path.to_owned());
            Ok(claim)
        }
        Some(partial) => {
            let what = format!("another run is writing it (in {}); choose another, or end that run", partial.display());
            Err(io::Error::new(ErrorKind::ResourceBusy, what))
        }
    }
}

/// Removes all that this program has under temporary names, for one that a signal ends, and gives what stays: that of which it has a
/// [`Claim`] and that is no empty directory. What threads do with such files from then on waits for the end of the process.
pub fn remove_partial() -> Vec<PathBuf> {
    let partial = locked(&PARTIAL);
    partial.iter().for_each(|path| remove(path));
    std::mem::forget(partial);
    locked(&CLAIMED).iter().filter(|path| fs::remove_dir(path).is_err() && path.exists()).cloned().collect()
}

/// A new file or directory under a temporary name, gone when it is dropped unless it is kept.
pub(crate) struct Partial {
    entry: Entry,
    /// What is locked: of a directory [`LOCK`], else the file itself.
    held: File,
    directory: bool,
}

/// A path in [`PARTIAL`].
struct Entry(PathBuf);

impl Partial {
    /// A file that may become `to`.
    fn file(to: &Path) -> io::Result<Self> {
        Self::new(to, false, |builder, folder| {
            let (held, path) = builder.tempfile_in(folder)?.keep().map_err(|e| e.error)?;
            Ok((path, held))
        })
    }

    /// A directory that may become `to`.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn directory(to: &Path) -> io::Result<Self> {
        Self::new(to, true, |builder, folder| {
            let temp = builder.tempdir_in(folder)?;
            let held = File::create_new(temp.path().join(LOCK))?;
            Ok((temp.keep(), held))
        })
    }

    /// What `make` makes, with what is to be locked of it.
    fn new(
        to: &Path,
        directory: bool,
        make: impl Fn(&Builder<'_, '_>, &Path) -> io::Result<(PathBuf, File)>,
    ) -> io::Result<Self> {
        let (folder, name) = beside(to)?;
        let prefix = format!(".{name}{MARK}");
        let mut builder = Builder::new();
        builder.prefix(&prefix).rand_bytes(LETTERS);
        // tempfile's own are private; a result is as readable as the umask lets it be.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(if directory { 0o777 } else { 0o666 }));
        loop {
            // A signal in between would leave what is not in the list.
            let mut all = locked(&PARTIAL);
            let (path, held) = make(&builder, folder)?;
            all.insert(path.clone());
            drop(all);
            let made = Self { entry: Entry(path), held, directory };
            // Before it was locked, a run that sweeps may have taken it for left behind. Some file systems have no locks.
            let taken = matches!(made.held.try_lock(), Err(TryLockError::WouldBlock));
            if !taken && made.path().exists() {
                return Ok(made);
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.entry.0
    }

    /// The commit point: puts it at `to`, a file in the place of what is there.
    ///
    /// # Errors
    /// Those of the file system; it is gone then.
    pub(crate) fn keep(self, to: &Path) -> io::Result<()> {
        let Self { entry, held, directory } = self;
        let mut held = Some(held);
        let mut all = locked(&PARTIAL);
        if directory {
            // From here on nobody sweeps it: nothing proves that it was left behind. Windows wants no open files in it.
            fs::remove_file(entry.0.join(LOCK))?;
            held = None;
        }
        fs::rename(&entry.0, to)?;
        all.remove(&entry.0);
        drop(held);
        Ok(())
    }

    /// Removes what runs that ended before they were done have left beside `to`, and says so. Gives one that another
    /// process is writing, if there is any. Where nothing can be seen, nothing is done.
    pub(crate) fn sweep(to: &Path) -> Option<PathBuf> {
        let (folder, name) = beside(to).ok()?;
        let mut writing = None;
        for entry in fs::read_dir(folder).ok()?.flatten() {
            if entry.file_name().to_str().and_then(destination) != Some(&name) {
                continue;
            }
            let path = entry.path();
            let lock = if path.is_dir() { path.join(LOCK) } else { path.clone() };
            match File::options().write(true).open(&lock).map(|held| (held.try_lock(), held)) {
                // Held while it is removed.
                Ok((Ok(()), _held)) => {
                    remove(&path);
                    log::info!("{}: removed; a run that did not end left it", path.display());
                }
                Ok((Err(TryLockError::WouldBlock), _)) => writing = Some(path),
                // Its lock goes when all else is on disk, or first of what a sweep that was interrupted removed.
                Err(e) if e.kind() == ErrorKind::NotFound && holds_something(&path) => {
                    let path = path.display();
                    log::warn!(
                        "{path}: left by a run that ended before it renamed it, whole if `wgquant verify` finds it so; rename or remove it"
                    );
                }
                Ok((Err(TryLockError::Error(e)), _)) | Err(e) if path.exists() => {
                    log::warn!("{}: no whole result; remove it if no run writes there ({e})", path.display());
                }
                // Kept or dropped meanwhile.
                _ => {}
            }
        }
        writing
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut all = locked(&PARTIAL);
        if all.remove(&self.0) {
            remove(&self.0);
        }
    }
}

fn locked(paths: &'static Mutex<BTreeSet<PathBuf>>) -> MutexGuard<'static, BTreeSet<PathBuf>> {
    paths.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The folder of `to`, and its name in temporary names.
fn beside(to: &Path) -> io::Result<(&Path, Cow<'_, str>)> {
    let name = to.file_name().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "does not end in a name"))?;
    Ok((folder(to), name.to_string_lossy()))
}

/// The name of what a temporary `name` is to become; `None` for any other.
pub(crate) fn destination(name: &str) -> Option<&str> {
    let (destination, letters) = name.strip_prefix('.')?.rsplit_once(MARK)?;
    (letters.len() == LETTERS && letters.bytes().all(|b| b.is_ascii_alphanumeric())).then_some(destination)
}

/// The folder that `path` is in.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn holds_something(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut all| all.next().is_some())
}

/// Removes a file or directory, where another thread may still be making files.
fn remove(path: &Path) {
    let once = || if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    let last = (0..100).map(|_| once()).find(|r| !matches!(r, Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty));
    if let Some(Err(e)) = last.filter(|r| !matches!(r, Err(e) if e.kind() == ErrorKind::NotFound)) {
        log::warn!("{}: cannot be removed: {e}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Error, Write as _};

    use super::{LOCK, Partial, replace};

    #[test]
    fn replaces_as_a_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        replace(&path, |f| f.write_all(b"one")).unwrap();
        let fails = replace(&path, |f| f.write_all(b"half").and_then(|()| Err(Error::other("full"))));
        assert_eq!(fails.unwrap_err().to_string(), "full");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, |f| f.write_all(b"two")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something is left of it");
    }

    #[test]
    fn what_nobody_holds_is_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (to, at) = (dir.path().join("m"), |name: &str| dir.path().join(name));
        for left in [".m.partial-aaaaaa", ".other.partial-aaaaaa", ".m.partial-b.partial-aaaaaa"] {
            fs::create_dir(at(left)).unwrap();
            fs::write(at(left).join(LOCK), "").unwrap();
            fs::write(at(left).join("shard-0.data"), "half").unwrap();
        }
        fs::write(at(".m.partial-cccccc"), "half a file").unwrap();
        fs::create_dir(at(".m.partial-dddddd")).unwrap();
        fs::create_dir(at(".m.partial-eeeeee")).unwrap();
        fs::write(at(".m.partial-eeeeee").join("config.json"), "{}").unwrap();
        let held = Partial::directory(&to).unwrap();
        assert_eq!(Partial::sweep(&to).as_deref(), Some(held.path()));
        let here = |name: &str| at(name).exists();
        assert!(!here(".m.partial-aaaaaa") && !here(".m.partial-cccccc"));
        assert!(here(".other.partial-aaaaaa") && here(".m.partial-b.partial-aaaaaa"), "another destination's");
        assert!(here(".m.partial-dddddd"), "nothing proves that nobody writes there");
        assert!(here(".m.partial-eeeeee"), "it may be whole");
        assert!(held.path().join(LOCK).exists());
        let was = held.path().to_owned();
        held.keep(&to).unwrap();
        assert!(!was.exists() && to.is_dir() && !to.join(LOCK).exists());
        assert_eq!(Partial::sweep(&to), None);
    }

    #[cfg(unix)]
    #[test]
    fn is_as_readable_as_any_new_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        replace(&dir.path().join("ours"), |f| f.write_all(b"x")).unwrap();
        fs::write(dir.path().join("plain"), b"x").unwrap();
        assert_eq!(mode("ours"), mode("plain"));
    }
}
