use std::io::{self, Read};

/// Reads `source` to its end, or gives `None` when it holds more than `max` bytes.
///
/// Never holds more than `max` + 1 bytes, whatever the source says about its own size.
pub(crate) fn read_at_most(source: impl Read, max: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    source.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|len| len <= max);
    Ok(fits.then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_itself_is_allowed_and_one_more_is_not() {
        assert_eq!(read_at_most(&b"1234"[..], 4).unwrap(), Some(b"1234".to_vec()));
        assert_eq!(read_at_most(&b"12345"[..], 4).unwrap(), None);
        assert_eq!(read_at_most(io::repeat(0), 4).unwrap(), None);
    }
}
