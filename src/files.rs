//! Files that appear whole or not at all.

use std::io;
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

/// Writes `path` anew: `write` fills a file beside it, which takes its place when it is on disk. On any error there is
/// what was there before, and nothing else. Like any new file it is as readable as the umask lets it be.
///
/// # Errors
/// What `write` gives, and those of the file system.
pub fn replace(path: &Path, write: impl FnOnce(&mut NamedTempFile) -> io::Result<()>) -> io::Result<()> {
    let mut temp = beside(path)?;
    write(&mut temp)?;
    temp.as_file().sync_all()?;
    temp.persist(path).map(|_| ()).map_err(|e| e.error)
}

/// Can [`replace`] write `path`? To be asked before the work whose result it is to hold.
///
/// # Errors
/// Those of the file system.
pub fn writable(path: &Path) -> io::Result<()> {
    beside(path).map(|_| ())
}

/// A new file in the folder of `path`, gone when it is dropped.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = Builder::new();
    builder.prefix(".wgquant-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Error, Write as _};

    use super::replace;

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
