//! What an edit asks for, as one hash.

use crate::change::Change as PackedChange;
use crate::field::Field;
use echelon_core::change::{Change, ChangeSet};
use echelon_core::id::{DomainId, HostId, TokenId};
use echelon_core::time::UnixMillis;
use prost::Message;
use uuid::Uuid;

/// The hash by which a repeated edit is told from another one under the same request id: BLAKE3 of the
/// change set's changes in their encoding, each with its length before it.
///
/// The encoding of one value is always the same, and fields added later do not change the hash of changes
/// that do not use them. Left out is what does not belong to the wish itself: the request id, the revision
/// it was made for, and what its sender makes up anew at every try (ids of hosts and tokens, the hash of a
/// token's secret, when it expires), so that the same command typed again is a repetition.
pub fn content_hash(set: &ChangeSet) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for change in &set.changes {
        let packed: PackedChange = wish(change).pack();
        hasher.update(&packed.encode_length_delimited_to_vec());
    }
    *hasher.finalize().as_bytes()
}

/// The change without what its sender made up.
fn wish(change: &Change) -> Change {
    let mut change = change.clone();
    match &mut change {
        Change::AddHost { id, .. } | Change::Enrol { id, .. } => *id = HostId(Uuid::nil()),
        Change::CreateToken { token, .. } => {
            token.id = TokenId(Uuid::nil());
            token.secret_hash = [0; 32];
            token.domain = DomainId::ROOT;
            token.expires = UnixMillis(0);
        }
        _ => {}
    }
    change
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn request_id_and_expected_revision_do_not_belong_to_the_content(
            one in strategies::change_set(),
            other in strategies::change_set(),
        ) {
            let same = ChangeSet { changes: one.changes.clone(), ..other.clone() };
            prop_assert_eq!(content_hash(&one), content_hash(&same));
            if one.changes.iter().map(wish).ne(other.changes.iter().map(wish)) {
                prop_assert_ne!(content_hash(&one), content_hash(&other));
            }
        }
    }

    #[test]
    fn a_host_added_again_under_a_new_id_is_a_repetition_but_not_under_a_new_name() {
        let add = |id, name: &str| ChangeSet {
            request: echelon_core::id::RequestId(Uuid::nil()),
            if_revision: None,
            allow_shrink: false,
            changes: vec![Change::AddHost {
                id: HostId(Uuid::from_u128(id)),
                name: name.parse().unwrap(),
                domain: "/".parse().unwrap(),
                address: None,
            }],
        };
        assert_eq!(content_hash(&add(1, "a")), content_hash(&add(2, "a")));
        assert_ne!(content_hash(&add(1, "a")), content_hash(&add(1, "b")));
    }

    #[test]
    fn the_hash_of_a_known_wish_never_changes() {
        let set = ChangeSet {
            request: echelon_core::id::RequestId(Uuid::nil()),
            if_revision: Some(7),
            allow_shrink: false,
            changes: vec![Change::AddDomain { path: "/emea/de".parse().unwrap() }],
        };
        // Encoded: length 12, field 1 (AddDomain) of 10 bytes, field 1 (path) of 8 bytes.
        let expected = blake3::hash(b"\x0c\x0a\x0a\x0a\x08/emea/de");
        assert_eq!(content_hash(&set), *expected.as_bytes());
    }
}
