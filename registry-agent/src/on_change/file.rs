//! A file that is replaced as a whole.

use crate::on_change::template::MAX_RENDERED;
use rustix::fs::{Gid, Mode, Uid, fchmod, fchown};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Mode of a file that was not there before and for which no mode is set.
const MODE: u32 = 0o644;

/// The bits of a mode that are permissions.
const PERMISSIONS: u32 = 0o777;

/// Makes `path` a file with this content and mode, or the mode that it has. At no time is there half a file. Owner and
/// group stay; of a symbolic link, what it leads to is replaced. Says whether the content is another one than before.
///
/// # Errors
/// The file is as it was before.
pub(super) fn replace(path: &Path, content: &[u8], mode: Option<u32>) -> io::Result<bool> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let before = match File::open(&path) {
        Ok(file) => Some((file.metadata()?, is(&file, content)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let kept = before.as_ref().map(|(meta, _)| meta.permissions().mode() & PERMISSIONS);
    let mode = mode.or(kept).unwrap_or(MODE);
    let same = before.as_ref().is_some_and(|(_, same)| *same);
    if !same || kept != Some(mode) {
        write(&path, content, mode, before.as_ref().map(|(meta, _)| meta))?;
    }
    Ok(!same)
}

/// Whether the file has this content.
fn is(file: &File, content: &[u8]) -> io::Result<bool> {
    let mut found = Vec::new();
    file.take(MAX_RENDERED as u64 + 1).read_to_end(&mut found)?;
    Ok(found == content)
}

fn write(path: &Path, content: &[u8], mode: u32, before: Option<&Metadata>) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no name of a file"));
    };
    // Of one rule and one agent, which make one file at a time: what is there is left from a power cut.
    let beside = directory.join(format!(".{}.echelon", name.to_string_lossy()));
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let put = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(content)?;
        keep_owner(&file, before)?;
        fchmod(&file, Mode::from_raw_mode(mode))?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(directory)?.sync_all()
    };
    put().inspect_err(|_| {
        // What went wrong first is told.
        let _ = fs::remove_file(&beside);
    })
}

fn keep_owner(file: &File, before: Option<&Metadata>) -> io::Result<()> {
    let (Some(before), now) = (before, file.metadata()?) else { return Ok(()) };
    if (before.uid(), before.gid()) == (now.uid(), now.gid()) {
        return Ok(());
    }
    Ok(fchown(file, Some(Uid::from_raw(before.uid())), Some(Gid::from_raw(before.gid())))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_keeps_its_mode_and_its_link() {
        let directory = tempfile::tempdir().unwrap();
        let [file, link] = ["file", "link"].map(|name| directory.path().join(name));
        let mode = || fs::metadata(&file).unwrap().permissions().mode() & PERMISSIONS;
        assert!(replace(&file, b"one", None).unwrap());
        assert_eq!((fs::read(&file).unwrap(), mode()), (b"one".to_vec(), MODE));
        let inode = fs::metadata(&file).unwrap().ino();
        assert!(!replace(&file, b"one", None).unwrap());
        assert_eq!(fs::metadata(&file).unwrap().ino(), inode, "what is the same is left alone");
        assert!(!replace(&file, b"one", Some(0o600)).unwrap());
        assert_eq!(mode(), 0o600);

        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mut open = File::open(&file).unwrap();
        fs::write(directory.path().join(".file.echelon"), "left over").unwrap();
        assert!(replace(&link, b"two", None).unwrap());
        assert_eq!((fs::read(&file).unwrap(), mode()), (b"two".to_vec(), 0o600));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let mut old = String::new();
        open.read_to_string(&mut old).unwrap();
        assert_eq!(old, "one", "who has it open reads on in the old one");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);

        assert!(replace(&directory.path().join("none/file"), b"", None).is_err());
        assert!(replace(directory.path(), b"", None).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
