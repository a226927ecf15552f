//! Models by name in the cache that Hugging Face's tools keep on this machine. Nothing is ever downloaded.

use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// The revision of who names none.
const REVISION: &str = "main";

/// The directory that `model` means: itself, where there is anything at that path or it does not look like `owner/name` or
/// `owner/name@revision`; else the snapshot of that name in the hub's cache: `HF_HUB_CACHE` or `HUGGINGFACE_HUB_CACHE`, or `hub` below `HF_HOME`, or
/// `huggingface/hub` below `XDG_CACHE_HOME` or `~/.cache`.
///
/// # Errors
/// [`Error::BadCheckpoint`] naming the directory looked in, where it does not hold such a model.
pub fn locate(model: PathBuf) -> Result<PathBuf> {
    let env = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    match model.to_str().and_then(named).filter(|_| model.symlink_metadata().is_err()) {
        Some((name, revision)) => snapshot(&cache(env), name, revision),
        None => Ok(model),
    }
}

/// `owner/name` of a model that is a snapshot in a hub's cache.
pub(crate) fn repository(dir: &Path) -> Option<String> {
    let dir = fs::canonicalize(dir).ok()?;
    let repository = dir.parent().filter(|p| p.ends_with("snapshots"))?.parent()?;
    let (owner, name) = repository.file_name()?.to_str()?.strip_prefix("models--")?.split_once("--")?;
    Some(format!("{owner}/{name}")).filter(|name| is_name(name))
}

/// Is this `owner/name`, as the hub has them?
fn is_name(text: &str) -> bool {
    let fits = |part: &str| {
        let plain = part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        let ends = part.starts_with(['-', '.']) || part.ends_with(['-', '.']);
        !part.is_empty() && plain && !ends && !part.contains("--") && !part.contains("..")
    };
    text.split_once('/').is_some_and(|(owner, name)| fits(owner) && fits(name))
}

/// Name and revision, if `text` looks like such.
fn named(text: &str) -> Option<(&str, &str)> {
    let (name, revision) = text.split_once('@').unwrap_or((text, REVISION));
    // A revision is a file's path below the cache.
    let plain = Path::new(revision).components().all(|c| matches!(c, Component::Normal(_)));
    Some((name, revision)).filter(|_| is_name(name) && plain && !revision.is_empty())
}

fn cache(env: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let home = || std::env::home_dir().unwrap_or_default();
    // As Hugging Face's own tools read them, where no shell has put the home in the place of `~`.
    let dir = |name: &str| {
        let dir = PathBuf::from(env(name)?);
        Some(dir.strip_prefix("~").map(|rest| home().join(rest)).unwrap_or(dir))
    };
    let given = dir("HF_HUB_CACHE").or_else(|| dir("HUGGINGFACE_HUB_CACHE"));
    let given = given.or_else(|| Some(dir("HF_HOME")?.join("hub")));
    given.unwrap_or_else(|| dir("XDG_CACHE_HOME").unwrap_or_else(|| home().join(".cache")).join("huggingface/hub"))
}

/// Where the cache has a revision: a branch or tag, whose file holds the commit, or the commit itself.
fn snapshot(cache: &Path, name: &str, revision: &str) -> Result<PathBuf> {
    let repository = cache.join(format!("models--{}", name.replace('/', "--")));
    let commit = fs::read_to_string(repository.join("refs").join(revision));
    let commit = commit.as_ref().map_or(revision, |text| text.trim());
    let plain = !commit.is_empty() && commit.chars().all(|c| c.is_ascii_alphanumeric());
    let found = repository.join("snapshots").join(commit);
    if plain && found.is_dir() {
        return Ok(found);
    }
    let (asked, flag) = match revision {
        REVISION => (name.to_owned(), String::new()),
        other => (format!("{name}@{other}"), format!(" --revision {other}")),
    };
    let cache = cache.display();
    let reason = format!(
        "is no directory, and {cache}, the Hugging Face cache, holds no such model; `hf download {name}{flag}` puts it there"
    );
    Err(Error::bad(asked, reason))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_hub() {
        assert_eq!(named("nvidia/Nemotron-H-8B-Base-8K"), Some(("nvidia/Nemotron-H-8B-Base-8K", "main")));
        assert_eq!(named("a/b.c_d@refs/pr/1"), Some(("a/b.c_d", "refs/pr/1")));
        for path in ["a", "/a/b", "./a", "../a", "a/b/c", "a/", "a/.b", "a b/c", "a/b--c", "a/b@", "a/b@../x", "a/b@/x"]
        {
            assert_eq!(named(path), None, "{path}");
        }
    }

    #[test]
    fn the_first_variable_that_is_set_says_where() {
        let of = |set: &[&str]| {
            let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
            cache(move |name| set.iter().any(|s| s == name).then(|| format!("/{name}").into()))
        };
        assert_eq!(of(&["HF_HUB_CACHE", "HF_HOME"]), Path::new("/HF_HUB_CACHE"));
        assert_eq!(of(&["HUGGINGFACE_HUB_CACHE", "HF_HOME"]), Path::new("/HUGGINGFACE_HUB_CACHE"));
        assert_eq!(of(&["HF_HOME", "XDG_CACHE_HOME"]), Path::new("/HF_HOME/hub"));
        let home = std::env::home_dir().unwrap();
        assert_eq!(cache(|name| (name == "HF_HOME").then(|| "~/x".into())), home.join("x/hub"));
        assert_eq!(of(&["XDG_CACHE_HOME"]), Path::new("/XDG_CACHE_HOME/huggingface/hub"));
        assert!(of(&[]).ends_with(".cache/huggingface/hub"));
    }

    #[test]
    fn revisions_lead_to_snapshots_and_nowhere_else() {
        let temp = tempfile::tempdir().unwrap();
        let repository = temp.path().join("models--a--b");
        fs::create_dir_all(repository.join("refs/refs/pr")).unwrap();
        fs::create_dir_all(repository.join("snapshots/c0ffee")).unwrap();
        for (name, commit) in [("main", "c0ffee\n"), ("refs/pr/1", "c0ffee"), ("out", "../../.."), ("gone", "abc")] {
            fs::write(repository.join("refs").join(name), commit).unwrap();
        }
        for revision in ["main", "refs/pr/1", "c0ffee"] {
            let found = snapshot(temp.path(), "a/b", revision).unwrap();
            assert_eq!(found, repository.join("snapshots/c0ffee"));
            assert_eq!(super::repository(&found).unwrap(), "a/b");
        }
        for revision in ["out", "gone", "abc", "other"] {
            let error = snapshot(temp.path(), "a/b", revision).unwrap_err().to_string();
            let words = [temp.path().to_str().unwrap(), &format!("hf download a/b --revision {revision}")];
            assert!(words.iter().all(|w| error.contains(w)), "{error}");
        }
        assert_eq!(super::repository(temp.path()), None);
    }
}
