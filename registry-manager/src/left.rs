//! State directories of registry managers that have left: what is in them serves nobody any more.

use crate::clock::unix_now;
use crate::paths::Paths;
use echelon_identity::file::{self, FileError};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

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
/// note goes last: until then the whole can be done again. The caller has locked the directory.
///
/// # Errors
/// Something cannot be moved. What was moved before stays moved, and the note is where it was.
pub fn set_aside(paths: &Paths) -> io::Result<PathBuf> {
    let aside = paths.beside(&format!("left-{}", unix_now().0));
    fs::DirBuilder::new().mode(file::PRIVATE_DIRECTORY).create(&aside)?;
    for name in OF_A_MANAGER {
        match fs::rename(paths.beside(name), aside.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
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
}
