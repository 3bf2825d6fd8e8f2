//! A file that is replaced as a whole.

use crate::on_change::template::MAX_RENDERED;
use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown};
use rustix::process::geteuid;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Mode of a file that was not there before and for which no mode is set.
const MODE: u32 = 0o644;

/// The bits of a mode that are permissions.
const PERMISSIONS: u32 = 0o777;

/// Most links that are followed to a file: as many as the kernel follows.
const MAX_LINKS: u32 = 40;

/// The file that `path` leads to, over links that are root's or this user's: one of anybody else could lead to a file
/// that is not meant.
///
/// # Errors
/// Such a link, too many links, or a directory that is not there.
pub(super) fn target(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(invalid("it is no name of a file"));
        };
        match fs::symlink_metadata(&path) {
            Ok(meta) if !meta.is_symlink() => return Ok(fs::canonicalize(directory)?.join(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(fs::canonicalize(directory)?.join(name));
            }
            Ok(meta) if is_trusted(meta.uid()) => path = directory.join(fs::read_link(&path)?),
            Ok(_) => {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is another user's link"));
            }
            Err(error) => return Err(error),
        }
    }
    Err(invalid("it is a link to a link to a link, and so on"))
}

fn is_trusted(owner: u32) -> bool {
    owner == Uid::ROOT.as_raw() || owner == geteuid().as_raw()
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// Opens a regular file for reading. Whatever else is there is not waited for.
///
/// # Errors
/// There is none, or something else.
pub(super) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(invalid("it is no regular file"));
    }
    Ok((file, meta))
}

/// Makes `path`, as from [`target`], a file with this content and mode, or the mode that it has. At no time is there
/// half a file. Owner and group stay. Says whether the content is another one than before.
///
/// # Errors
/// The file is as it was before.
pub(super) fn replace(path: &Path, content: &[u8], mode: Option<u32>) -> io::Result<bool> {
    let before = match open(path) {
        Ok((file, meta)) => Some((meta, is(&file, content)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let kept = before.as_ref().map(|(meta, _)| meta.permissions().mode() & PERMISSIONS);
    let mode = mode.or(kept).unwrap_or(MODE);
    let same = before.as_ref().is_some_and(|(_, same)| *same);
    if !same || kept != Some(mode) {
        write(path, content, mode, before.as_ref().map(|(meta, _)| meta))?;
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
    let directory = path.parent().ok_or_else(|| invalid("it is no name of a file"))?;
    // Nobody can be there before. What a power cut leaves of it is a hidden file that nobody reads.
    let beside = directory.join(format!(".echelon-{}", Uuid::now_v7().simple()));
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
    use crate::testing::DEADLINE;
    use rustix::fs::{CWD, FileType, mknodat};
    use std::os::unix::fs::{lchown, symlink};
    use std::sync::mpsc::channel;

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

        symlink(&file, &link).unwrap();
        let mut open = File::open(&file).unwrap();
        assert!(replace(&target(&link).unwrap(), b"two", None).unwrap());
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

    /// A pipe that nobody writes to would be waited for for ever.
    #[test]
    fn nothing_but_a_regular_file_is_read_or_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let (done, waiting) = channel();
        let path = pipe.clone();
        std::thread::spawn(move || done.send(replace(&path, b"", None).map_err(|e| e.to_string())));
        let replaced = waiting.recv_timeout(DEADLINE).expect("it is not waited for");
        assert_eq!(replaced, Err("it is no regular file".into()));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_are_followed_unless_they_are_another_users_or_lead_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        let [file, first, second, round] =
            ["file", "first", "second", "round"].map(|name| directory.path().join(name));
        symlink("second", &first).unwrap();
        symlink(&file, &second).unwrap();
        symlink(&round, &round).unwrap();
        let real = fs::canonicalize(directory.path()).unwrap().join("file");
        assert_eq!(target(&first).unwrap(), real, "the file need not be there yet");
        assert!(target(&round).is_err() && target(Path::new("/")).is_err());
        let nobody = 65534;
        assert!(is_trusted(0) && is_trusted(geteuid().as_raw()));
        assert_eq!(is_trusted(nobody), geteuid().as_raw() == nobody);
        // Only root can give a link away.
        if geteuid().is_root() {
            lchown(&second, Some(nobody), None).unwrap();
            assert_eq!(target(&first).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        }
    }
}
