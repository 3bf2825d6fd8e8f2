//! Archives as `tar` reads them: as much of the format (POSIX.1-1988, "ustar") as a few plain files take.

use std::io::{self, ErrorKind, Read};

/// Everything in an archive is in blocks of this size.
const BLOCK: usize = 512;

/// The same as a length.
const BLOCK_LENGTH: u64 = BLOCK as u64;

/// Two blocks of zeros end an archive.
const END: usize = 2 * BLOCK;

/// Fields of a header: where they begin and how long they are.
mod at {
    use std::ops::Range;

    pub(super) const NAME: Range<usize> = 0..100;
    pub(super) const MODE: Range<usize> = 100..108;
    pub(super) const OWNER: Range<usize> = 108..116;
    pub(super) const GROUP: Range<usize> = 116..124;
    pub(super) const SIZE: Range<usize> = 124..136;
    pub(super) const TIME: Range<usize> = 136..148;
    pub(super) const SUM: Range<usize> = 148..156;
    pub(super) const KIND: usize = 156;
    pub(super) const MAGIC: Range<usize> = 257..265;
}

/// Name and version of the format.
const MAGIC: &[u8; 8] = b"ustar\x0000";

/// The kind of a plain file.
const PLAIN: u8 = b'0';

/// Mode of all files: what is in them is for nobody else.
const MODE: u64 = 0o600;

/// The header of a file, for its name (of 100 bytes at most), its length and its time in seconds since 1970.
pub(super) fn header(name: &str, size: u64, seconds: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    put(&mut block, at::NAME, name.as_bytes());
    put(&mut block, at::MODE, octal(MODE, 7).as_bytes());
    put(&mut block, at::OWNER, octal(0, 7).as_bytes());
    put(&mut block, at::GROUP, octal(0, 7).as_bytes());
    put(&mut block, at::SIZE, octal(size, 11).as_bytes());
    put(&mut block, at::TIME, octal(seconds, 11).as_bytes());
    put(&mut block, at::KIND..at::KIND + 1, &[PLAIN]);
    put(&mut block, at::MAGIC, MAGIC);
    let sum = octal(sum_of(&block), 6);
    put(&mut block, at::SUM, &[sum.as_bytes(), b"\0 "].concat());
    block
}

/// How many zeros follow a file of this length.
pub(super) fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK_LENGTH) - size
}

/// How many bytes a file of this length takes with its header.
pub(super) fn space(size: u64) -> u64 {
    BLOCK_LENGTH + size + padding(size)
}

/// What stands after the last file.
pub(super) fn end() -> [u8; END] {
    [0; END]
}

fn octal(number: u64, digits: usize) -> String {
    format!("{number:0digits$o}")
}

fn put(block: &mut [u8; BLOCK], field: std::ops::Range<usize>, bytes: &[u8]) {
    block[field].iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
}

/// The sum of all bytes, with that field taken as blanks.
fn sum_of(block: &[u8; BLOCK]) -> u64 {
    let bytes = block.iter().enumerate();
    bytes.map(|(at, byte)| if at::SUM.contains(&at) { u64::from(b' ') } else { u64::from(*byte) }).sum()
}

/// The header of a file in an archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Member {
    /// Its name.
    pub(super) name: String,
    /// Its length.
    pub(super) size: u64,
}

/// The next file's header; none at the archive's end. Its bytes follow, and then [`padding`].
pub(super) fn next(from: &mut impl Read) -> io::Result<Option<Member>> {
    let mut block = [0; BLOCK];
    from.read_exact(&mut block)?;
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let sound = number(&block[at::SUM]) == Some(sum_of(&block)) && block[at::MAGIC].starts_with(b"ustar");
    let name = std::str::from_utf8(until_nul(&block[at::NAME])).ok();
    match (name, number(&block[at::SIZE])) {
        (Some(name), Some(size)) if sound && matches!(block[at::KIND], PLAIN | 0) => {
            Ok(Some(Member { name: name.to_owned(), size }))
        }
        _ => Err(io::Error::new(ErrorKind::InvalidData, "it is no archive of plain files")),
    }
}

/// Skips what fills a file's last block.
pub(super) fn skip_padding(from: &mut impl Read, size: u64) -> io::Result<()> {
    let padding = padding(size);
    match io::copy(&mut from.take(padding), &mut io::sink())? {
        skipped if skipped == padding => Ok(()),
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// An octal number with blanks or zeros around it.
fn number(field: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(until_nul(field)).ok()?;
    u64::from_str_radix(digits.trim_matches(' '), 8).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// An archive of these files.
    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, content) in files {
            let size = content.len() as u64;
            bytes.extend(header(name, size, 1_700_000_000));
            bytes.extend(*content);
            bytes.resize(bytes.len() + usize::try_from(padding(size)).unwrap(), 0);
        }
        bytes.extend(end());
        bytes
    }

    fn files_in(mut bytes: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut files = Vec::new();
        while let Some(Member { name, size }) = next(&mut bytes)? {
            let mut content = Vec::new();
            (&mut bytes).take(size).read_to_end(&mut content)?;
            skip_padding(&mut bytes, size)?;
            files.push((name, content));
        }
        Ok(files)
    }

    #[test]
    fn files_come_back_as_they_were() {
        let long = vec![7; 1_000];
        let files: [(&str, &[u8]); 3] = [("a.json", b"{}"), ("empty", b""), ("b.db", &long)];
        let bytes = archive(&files);
        let expected: u64 = files.iter().map(|(_, content)| space(content.len() as u64)).sum();
        assert_eq!(bytes.len() as u64, expected + END as u64);
        let found = files_in(&bytes).unwrap();
        assert_eq!(found, files.map(|(name, content)| (name.to_owned(), content.to_vec())));
    }

    #[test]
    fn damage_and_other_files_are_told() {
        let bytes = archive(&[("a.json", b"{}")]);
        for at in [0, 130, 150, 260] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(files_in(&damaged).unwrap_err().kind(), ErrorKind::InvalidData, "byte {at}");
        }
        for cut in [0, 100, BLOCK, BLOCK + 1] {
            assert_eq!(files_in(&bytes[..cut]).unwrap_err().kind(), ErrorKind::UnexpectedEof, "{cut}");
        }
        assert!(files_in(&[b'x'; 4 * BLOCK]).is_err());
    }

    /// Somebody else's program writes and reads the same format.
    #[test]
    fn tar_reads_what_is_written_here_and_the_other_way_round() {
        let tar = |arguments: &[&str]| {
            std::process::Command::new("tar").args(arguments).output().expect("every system has tar")
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        std::fs::write(&path, archive(&[("a.json", b"{}"), ("b.db", &[7; 600])])).unwrap();
        let listed = tar(&["tf", path.to_str().unwrap()]);
        assert_eq!(String::from_utf8(listed.stdout).unwrap(), "a.json\nb.db\n");
        std::fs::write(dir.path().join("c"), "content").unwrap();
        let made = tar(&["cf", "-", "--format=ustar", "-C", dir.path().to_str().unwrap(), "c"]);
        assert_eq!(files_in(&made.stdout).unwrap(), [("c".to_owned(), b"content".to_vec())]);
    }
}
