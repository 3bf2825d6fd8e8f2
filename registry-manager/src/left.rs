//! State directories of registry managers that have left: what is in them serves nobody any more.

use crate::paths::Paths;
use echelon_identity::file::{self, FileError};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

/// What a manager that joins anew makes anew. The root key and the identity of a console stay where they are.
const OF_A_MANAGER: [&str; 7] =
    ["registry.db", "registry.db-wal", "registry.db-shm", "issuer.pem", "identity", "manager.toml", "left"];

/// Why it could not be noted that a manager has left.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// The note's text.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its place.
    #[error("the note cannot be put in its place")]
    Place(#[from] io::Error),
}

/// Notes that the manager of this directory has left, and why, as a sentence without its end.
///
/// # Errors
/// The note cannot be written; there is none then.
pub fn mark(paths: &Paths, why: &str) -> Result<(), FileError> {
    file::write(&paths.left(), why, file::SECRET)
}

/// The same from the manager itself, while `leave` may be noting why at the same moment: that note stays.
///
/// # Errors
/// The note cannot be written; there is none then but another's.
pub fn mark_unless_marked(paths: &Paths, why: &str) -> Result<(), MarkError> {
    let own = paths.beside("left-own");
    file::write(&own, why, file::SECRET)?;
    let linked = fs::hard_link(&own, paths.left());
    // What is left of it says nothing to anybody.
    let _ = fs::remove_file(&own);
    match linked {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e.into()),
        _ => Ok(()),
    }
}

/// Why its manager has left; none where it has not.
///
/// # Errors
/// The note cannot be read.
pub fn mark_of(paths: &Paths) -> Result<Option<String>, FileError> {
    match file::read(&paths.left()) {
        Err(e) if e.is_not_found() => Ok(None),
        text => text.map(Some),
    }
}

/// Takes the note back, where there is one: the manager goes on with another registry.
///
/// # Errors
/// It cannot be removed.
pub fn forget(paths: &Paths) -> io::Result<()> {
    match fs::remove_file(paths.left()) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Moves all that a manager which has left has kept into a directory of its own, so that another can be made. The
/// note goes last: until then the whole can be done again, into the same directory. The caller has locked the directory.
///
/// # Errors
/// Something cannot be moved. What was moved before stays moved, and the note is where it was.
pub fn set_aside(paths: &Paths) -> io::Result<PathBuf> {
    let noted = fs::metadata(paths.left())?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let aside = paths.beside(&format!("left-{}", noted.as_millis()));
    fs::DirBuilder::new().recursive(true).mode(file::PRIVATE_DIRECTORY).create(&aside)?;
    for name in OF_A_MANAGER {
        match fs::rename(paths.beside(name), aside.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    [&aside, paths.state()].into_iter().try_for_each(|directory| fs::File::open(directory)?.sync_all())?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_note_that_is_taken_back_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::of(dir.path());
        forget(&paths).unwrap();
        mark(&paths, "it was asked to").unwrap();
        forget(&paths).unwrap();
        assert_eq!(mark_of(&paths).unwrap(), None);
    }

    #[test]
    fn what_the_manager_notes_by_itself_is_no_news_where_it_was_asked_to_leave() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::of(dir.path());
        for (noted, why) in [("it was taken out", None), ("it was asked to", Some("it was asked to"))] {
            why.iter().for_each(|why| mark(&paths, why).unwrap());
            mark_unless_marked(&paths, "it was taken out").unwrap();
            assert_eq!(mark_of(&paths).unwrap().as_deref(), Some(noted));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_manager_kept_is_set_aside_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::of(dir.path());
        assert_eq!(mark_of(&paths).unwrap(), None);
        fs::write(paths.registry(), "the registry").unwrap();
        fs::write(paths.root(), "the root").unwrap();
        mark(&paths, "it was asked to").unwrap();
        assert_eq!(mark_of(&paths).unwrap().as_deref(), Some("it was asked to"));

        let aside = set_aside(&paths).unwrap();
        assert_eq!(mark_of(&paths).unwrap(), None);
        assert!(!paths.registry().exists() && paths.root().exists());
        assert_eq!(fs::read_to_string(aside.join("registry.db")).unwrap(), "the registry");
    }

    /// Protects: whoever looks for what a manager kept finds a database and its log side by side.
    #[test]
    fn what_was_broken_off_goes_on_in_the_same_directory() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::of(dir.path());
        mark(&paths, "it was asked to").unwrap();
        fs::write(paths.registry(), "the registry").unwrap();
        // What cannot be moved there breaks it off.
        let log = paths.beside("registry.db-wal");
        fs::create_dir(&log).unwrap();
        let noted = fs::metadata(paths.left()).unwrap().modified().unwrap().duration_since(UNIX_EPOCH);
        let there = paths.beside(&format!("left-{}", noted.unwrap().as_millis()));
        fs::create_dir_all(there.join("registry.db-wal/full")).unwrap();
        set_aside(&paths).unwrap_err();
        assert!(!paths.registry().exists() && mark_of(&paths).unwrap().is_some());
        fs::remove_dir_all(there.join("registry.db-wal")).unwrap();
        fs::remove_dir(&log).unwrap();
        fs::write(&log, "its log").unwrap();
        let aside = set_aside(&paths).unwrap();
        let kept =
            ["registry.db", "registry.db-wal"].map(|name| fs::read_to_string(aside.join(name)).unwrap());
        assert_eq!(kept, ["the registry", "its log"]);
        assert_eq!(mark_of(&paths).unwrap(), None);
    }
}
