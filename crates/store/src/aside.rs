//! Damaged replicas.

use crate::database::{beside, sync_directory};
use crate::error::StoreError;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Most damaged files kept beside a replica: enough to see whether it happens again and again, too few
/// to fill a disk.
pub const MAX_SET_ASIDE: u32 = 3;

/// Renames a damaged file to `.corrupt-1` and so on, so that a new one can take its place; the highest
/// number is the newest. Past [`MAX_SET_ASIDE`] the oldest is removed. The file must not be open.
///
/// # Errors
/// It could not be renamed. It may already be without its log.
pub fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    rename_aside(path).map_err(|e| StoreError::new(path, "set the file aside", e))
}

fn rename_aside(path: &Path) -> std::io::Result<PathBuf> {
    let aside = free_name(path)?;
    // The log goes first: a new file must never meet the log of the old one.
    absent_is_fine(std::fs::rename(beside(path, "-wal"), beside(&aside, "-wal")))?;
    absent_is_fine(std::fs::remove_file(beside(path, "-shm")))?;
    std::fs::rename(path, &aside)?;
    sync_directory(path)?;
    Ok(aside)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    beside(path, &format!(".corrupt-{number}"))
}

/// The lowest free name; where all are taken, the oldest file is removed and the others move up.
fn free_name(path: &Path) -> std::io::Result<PathBuf> {
    for number in 1..=MAX_SET_ASIDE {
        if !numbered(path, number).try_exists()? {
            return Ok(numbered(path, number));
        }
    }
    for number in 1..MAX_SET_ASIDE {
        let (older, newer) = (numbered(path, number), numbered(path, number + 1));
        absent_is_fine(std::fs::remove_file(beside(&older, "-wal")))?;
        absent_is_fine(std::fs::rename(beside(&newer, "-wal"), beside(&older, "-wal")))?;
        std::fs::rename(newer, older)?;
    }
    Ok(numbered(path, MAX_SET_ASIDE))
}

fn absent_is_fine(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_are_kept_in_order_and_only_so_many() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("replica.db");
        for n in 0..5 {
            std::fs::write(&path, format!("file {n}")).unwrap();
            std::fs::write(beside(&path, "-wal"), format!("log {n}")).unwrap();
            std::fs::write(beside(&path, "-shm"), "index").unwrap();
            set_aside(&path).unwrap();
            assert!(!path.exists() && !beside(&path, "-wal").exists() && !beside(&path, "-shm").exists());
        }
        let kept = |n| std::fs::read_to_string(numbered(&path, n)).unwrap();
        let log = |n| std::fs::read_to_string(beside(&numbered(&path, n), "-wal")).unwrap();
        assert_eq!([kept(1), kept(2), kept(3)], ["file 2", "file 3", "file 4"]);
        assert_eq!([log(1), log(2), log(3)], ["log 2", "log 3", "log 4"]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 6);
    }

    #[test]
    fn what_is_not_there_cannot_be_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let error = set_aside(&dir.path().join("replica.db")).unwrap_err();
        assert!(matches!(error.problem, crate::Problem::Missing), "{error}");
    }
}
