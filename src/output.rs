//! Run directories: `out/<scenario>/<run>/`, written beside their place and renamed into it, and the `latest` link.
//!
//! A run directory appears whole or not at all: everything goes into `.partial-<pid>` first, which a drop guard
//! removes on every way out. `<run>` is a hash of what the results depend on, so the same run again replaces itself.

use crate::exit::Failure;
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// SHA-256 of the parts, each preceded by its length, in hex.
pub fn hash(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hex digits of the hash in a directory's name.
pub const RUN_DIGITS: usize = 12;

/// A run directory in the making.
pub struct RunDir {
    /// `out/<scenario>`.
    parent: PathBuf,
    /// `.partial-<pid>` in it.
    partial: PathBuf,
    /// `<run>`.
    name: String,
}

impl RunDir {
    /// Begins `<out>/<scenario>/<run>`.
    pub fn begin(out: &Path, scenario: &str, run: &str) -> Result<RunDir, Failure> {
        let parent = out.join(scenario);
        let partial = parent.join(format!(".partial-{}", std::process::id()));
        let told = |error: io::Error| {
            Failure::Input(format!("error: cannot write into {}: {error}\n", parent.display()))
        };
        fs::create_dir_all(&parent).map_err(told)?;
        fs::create_dir(&partial).map_err(told)?;
        Ok(RunDir { partial, name: run.to_owned(), parent })
    }

    /// Writes one file, making its folders.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        let full = self.partial.join(path);
        let folder = full.parent().unwrap_or(&self.partial);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&full, bytes))
            .map_err(|error| Failure::Ours(format!("cannot write {}: {error}", full.display())))
    }

    /// Puts the directory in its place, instead of an older one of the same name, and points `latest` at it.
    pub fn commit(self) -> Result<PathBuf, Failure> {
        let place = self.parent.join(&self.name);
        let old = self.parent.join(format!(".old-{}", std::process::id()));
        let told =
            |error: io::Error| Failure::Ours(format!("cannot put {} in its place: {error}", place.display()));
        // Another process may put the same run there between our two renames: then ours goes in its place again.
        let mut attempts = 0;
        loop {
            let replaced = match fs::rename(&place, &old) {
                Ok(()) => true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(told(error)),
            };
            let put = fs::rename(&self.partial, &place);
            if put.is_err() && replaced && !place.exists() {
                fs::rename(&old, &place).map_err(told)?;
            } else if replaced {
                fs::remove_dir_all(&old).map_err(told)?;
            }
            match put {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && attempts < 10 => {
                    attempts += 1
                }
                Err(error) => return Err(told(error)),
            }
        }
        self.link_latest()
            .map_err(|e| Failure::Ours(format!("cannot link {}/latest: {e}", self.parent.display())))?;
        Ok(place)
    }

    /// A new link renamed over the old: there is always one.
    #[cfg(unix)]
    fn link_latest(&self) -> io::Result<()> {
        let new = self.parent.join(format!(".latest-{}", std::process::id()));
        std::os::unix::fs::symlink(&self.name, &new)?;
        fs::rename(&new, self.parent.join("latest")).inspect_err(|_| {
            let _ = fs::remove_file(&new);
        })
    }

    /// Elsewhere links need rights that users lack: a file with the name.
    #[cfg(not(unix))]
    fn link_latest(&self) -> io::Result<()> {
        fs::write(self.parent.join("latest"), &self.name)
    }
}

impl Drop for RunDir {
    /// Removes what was not committed; after `commit` there is nothing left under this name.
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.partial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("windtunnel-output-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    fn entries(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_run_directory_appears_whole_and_the_next_one_replaces_it() {
        let out = scratch("whole");
        for text in ["first", "second"] {
            let run = RunDir::begin(&out, "s", "abc").unwrap();
            run.write(Path::new("csv/a.csv"), text.as_bytes()).unwrap();
            if text == "first" {
                run.write(Path::new("gone.txt"), b"").unwrap();
                assert!(!out.join("s/abc").exists(), "nothing is seen before commit");
            }
            run.commit().unwrap();
        }
        assert_eq!(entries(&out.join("s")), ["abc", "latest"]);
        assert_eq!(entries(&out.join("s/latest")), ["csv"]);
        assert_eq!(fs::read_to_string(out.join("s/latest/csv/a.csv")).unwrap(), "second");
        fs::remove_dir_all(&out).unwrap();
    }

    #[test]
    fn runs_of_the_same_scenario_at_the_same_time_do_not_disturb_each_other() {
        let out = scratch("together");
        let make = |who: &str| {
            let mut run = RunDir::begin(&out, "s", "abc").unwrap();
            // One process id stands for two processes here.
            let own = out.join("s").join(format!(".partial-{who}"));
            fs::rename(&run.partial, &own).unwrap();
            run.partial = own;
            run.write(Path::new("who"), who.as_bytes()).unwrap();
            run
        };
        let (first, second) = (make("1"), make("2"));
        first.commit().unwrap();
        second.commit().unwrap();
        assert_eq!(entries(&out.join("s")), ["abc", "latest"]);
        assert_eq!(fs::read_to_string(out.join("s/abc/who")).unwrap(), "2");
        fs::remove_dir_all(&out).unwrap();
    }

    #[test]
    fn a_run_that_is_given_up_leaves_nothing() {
        let out = scratch("nothing");
        let run = RunDir::begin(&out, "s", "abc").unwrap();
        run.write(Path::new("a"), b"x").unwrap();
        drop(run);
        assert!(entries(&out.join("s")).is_empty());
        fs::remove_dir_all(&out).unwrap();
    }

    #[test]
    fn a_hash_tells_apart_where_one_part_ends() {
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
        assert_eq!(hash(&[]).len(), 64);
    }
}
