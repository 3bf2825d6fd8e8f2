//! How large messages may be, and how lists are cut to fit. A frame carries exactly one message.

use crate::Wire;

/// Largest frame before a peer has shown a certificate: an enrolment is a few KiB, and what one
/// unauthenticated connection can make a manager hold must stay small.
pub const MAX_ANONYMOUS_FRAME: usize = 64 << 10;

/// Largest frame from an agent, and largest request of a peer that may not edit: a heartbeat with as many
/// failing packages and as many routes away from home as there may be, all names as long as they may be,
/// has under 180 KiB, and one agent must not make a manager build much more.
pub const MAX_AGENT_FRAME: usize = 256 << 10;

/// Largest frame to an agent, and largest answer but that to an edit. Senders cut snapshots, reads and
/// reports into parts of [`MAX_PART`]; the rest is room for one large row and for deltas.
pub const MAX_SESSION_FRAME: usize = 1 << 20;

/// Largest edit, and largest answer to one: an `apply` of 100,000 hosts with a package each has about
/// 12 MiB. Only for peers whose certificate allows them to edit.
pub const MAX_EDIT_FRAME: usize = 32 << 20;

/// Largest frame between registry managers: as many entries as [`MAX_PART`] holds, or one, and a whole edit fits into
/// it.
pub const MAX_MEMBER_FRAME: usize = 2 * MAX_EDIT_FRAME;

/// Most entries in one message between managers: small ones come in groups, and a group is one transaction there.
pub const MAX_ENTRIES: usize = 256;

/// How many bytes of rows senders put into one part of a snapshot, a read or a report: small enough that
/// a heartbeat behind it on the same stream waits for milliseconds, large enough that framing costs nothing.
pub const MAX_PART: usize = 256 << 10;

/// How many bytes of grants are put into one part of a chain: some forty, which are checked in a few milliseconds.
pub(crate) const GRANTS_PART: usize = 64 << 10;

/// Bytes around a row in the list of its message: the field's number, and a length of up to 5 bytes.
const ROW_OVERHEAD: usize = 6;

/// Cuts `rows` into parts of at most `most` encoded bytes, in order. A row that is larger by itself gets a
/// part of its own; there is no empty part, and none at all for no rows.
pub fn parts<T: Wire>(rows: impl IntoIterator<Item = T>, most: usize) -> impl Iterator<Item = Vec<T>> {
    parts_by(rows, most, Wire::encoded_len)
}

/// As [`parts`], of anything whose encoded length is known.
pub fn parts_by<T>(
    rows: impl IntoIterator<Item = T>,
    most: usize,
    length: impl Fn(&T) -> usize,
) -> impl Iterator<Item = Vec<T>> {
    let mut rows = rows.into_iter().map(move |row| (length(&row) + ROW_OVERHEAD, row)).peekable();
    std::iter::from_fn(move || {
        let (mut size, first) = rows.next()?;
        let mut part = vec![first];
        while let Some((length, row)) = rows.next_if(|(length, _)| size + length <= most) {
            size += length;
            part.push(row);
        }
        Some(part)
    })
}

/// How many fields there are at the end of `path`, a chain of field numbers of nested messages; so that a
/// list is refused before it is built. Counts up to where `bytes` are no protocol buffer any more, which
/// decoding then says. Groups, which no message here has, are looked into, so that nothing hides in them.
pub(crate) fn occurrences(mut bytes: &[u8], path: &[usize]) -> usize {
    let Some((wanted, deeper)) = path.split_first() else {
        return 1;
    };
    let mut count = 0;
    while let Some((number, content)) = next_field(&mut bytes) {
        if number == *wanted {
            count += content.map_or(0, |content| occurrences(content, deeper));
        }
    }
    count
}

/// The number of the next field, and its content where that has a length.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<(usize, Option<&'a [u8]>)> {
    let key = next_varint(bytes)?;
    let number = key >> 3;
    match key & 7 {
        0 => next_varint(bytes).map(|_| (number, None)),
        1 => take(bytes, 8).map(|_| (number, None)),
        2 => {
            let length = next_varint(bytes)?;
            take(bytes, length).map(|content| (number, Some(content)))
        }
        5 => take(bytes, 4).map(|_| (number, None)),
        _ => Some((number, None)),
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// prost has one public reader of varints, under the name of what they are used for most.
fn next_varint(bytes: &mut &[u8]) -> Option<usize> {
    prost::decode_length_delimiter(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_are_in_order_bounded_and_not_cut_too_early(
            rows in prop::collection::vec(strategies::row(), 0..20),
            most in 1..4000_usize,
        ) {
            let cut: Vec<_> = parts(rows.clone(), most).collect();
            prop_assert_eq!(cut.concat(), rows);
            let size = |rows: &[_]| rows.iter().map(|r: &echelon_core::row::Row| r.encoded_len() + ROW_OVERHEAD).sum::<usize>();
            for part in &cut {
                prop_assert!(part.len() == 1 || (!part.is_empty() && size(part) <= most));
            }
            for pair in cut.windows(2) {
                prop_assert!(size(&pair[0]) + size(&pair[1][..1]) > most);
            }
        }

        #[test]
        fn counting_never_panics_and_counts_what_is_there(
            set in strategies::change_set(),
            noise in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            occurrences(&noise, &[4, 1, 3]);
            let changes = set.changes.len();
            let edit = echelon_core::message::Request::Edit { set, dry_run: true };
            prop_assert_eq!(occurrences(&edit.encode(), &[4, 1, 3]), changes);
        }
    }
}
