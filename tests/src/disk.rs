//! A small disk of a test's own, which can be full.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is written at a time: a page, so that none is left.
const PAGE: [u8; 4096] = [0; 4096];

/// A file system in memory, mounted inside [`crate::namespace::with_disks`]. Whoever uses it has to end before it does.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts an empty one of so many MiB, for its owner alone, at a directory that is made for it.
    pub fn mount(at: &Path, mib: u32) -> Self {
        DirBuilder::new().mode(0o700).create(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0700"), "tmpfs"]).arg(at);
        let output = mount.output().unwrap();
        assert!(output.status.success(), "{mount:?}: {output:?}");
        Self { at: at.to_owned() }
    }

    /// Takes all room that is left.
    pub fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        loop {
            match filler.write_all(&PAGE) {
                Ok(()) => {}
                Err(full) if full.kind() == ErrorKind::StorageFull => return,
                Err(other) => panic!("{}: {other}", self.filler().display()),
            }
        }
    }

    /// Gives the room back.
    pub fn empty(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What cannot be unmounted goes with the namespace.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}
