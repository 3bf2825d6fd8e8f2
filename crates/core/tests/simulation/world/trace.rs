//! What happened, as text that can be read.

/// Shortens what `Debug` says: ids of the simulation are small numbers, and hashes and bytes say nothing.
pub(crate) fn shorten(text: &str) -> String {
    let mut short = String::with_capacity(text.len() / 2);
    let mut rest = text;
    while let Some(at) = rest.find(['H', '[', ' ']) {
        short.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(id) = rest.strip_prefix("Hyphenated(") {
            let (id, after) = id.split_once(')').unwrap_or((id, ""));
            short.push_str(id.trim_start_matches(['0', '-']));
            rest = after;
        } else if let Some(bytes) =
            rest.strip_prefix('[').filter(|b| b.starts_with(|c: char| c.is_ascii_digit()))
        {
            let (bytes, after) = bytes.split_once(']').unwrap_or((bytes, ""));
            short.push_str(&format!(
                "#{:x}",
                bytes.bytes().fold(7u16, |h, b| h.wrapping_mul(31) ^ u16::from(b))
            ));
            rest = after;
        } else {
            short.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    short.push_str(rest);
    short
}
