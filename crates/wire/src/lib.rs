//! Carries core's messages as bounded, versioned bytes, and back.
//!
//! The bytes are protocol buffers, without a schema file: each message is declared once, beside the core
//! type it carries, and both directions come from that declaration. The rules that keep builds of
//! different age talking to each other:
//!
//! - a field number, and the number of a kind or of a word, is never used for anything else again;
//! - fields that a build does not know are skipped;
//! - a kind or a word that it does not know is refused ([`DecodeError::UnknownKind`],
//!   [`DecodeError::UnknownWord`]): half a message is never taken for a whole one;
//! - a value equal to its default (0, empty, false) takes no bytes, so that a new field changes neither
//!   the bytes nor the hashes of messages that do not use it;
//! - what core's constructors would refuse is refused here.
//!
//! Bytes that were decoded once and encoded again may differ from what came (unknown fields are gone,
//! fields are in order), but one value always gives the same bytes: maps and sets are ordered.

#[macro_use]
mod macros;

mod access;
mod backup;
mod change;
mod content;
mod error;
mod field;
mod frame;
mod grant;
pub mod grpc_health;
mod member;
mod package;
mod policy;
mod promotion;
mod request;
mod row;
mod session;
#[cfg(any(test, feature = "strategies"))]
pub mod strategies;
mod view;

#[cfg(test)]
mod tests;

pub use bytes::Bytes;
pub use content::content_hash;
pub use error::DecodeError;
pub use frame::{
    MAX_AGENT_FRAME, MAX_ANONYMOUS_FRAME, MAX_EDIT_FRAME, MAX_ENTRIES, MAX_MEMBER_FRAME, MAX_PART,
    MAX_SESSION_FRAME, parts, parts_by,
};
pub use grant::chain_parts;
pub use request::decode_anonymous;

use echelon_core::board::Told;
use echelon_core::change::ChangeSet;
use echelon_core::grant::{Chain, Grant, Mark};
use echelon_core::member::Seals;
use echelon_core::message::{
    BoardNews, FromAgent, LivenessEntry, ManagerMessage, Request, Response, ToAgent, ViewMark,
};
use echelon_core::position::Position;
use echelon_core::row::{Commit, Row, RowChange, RowKey};
use echelon_core::signed_mark::SignedMark;
use echelon_core::view::{Place, ViewChange, ViewKey, ViewRow};
use field::Field;
use prost::Message;

/// What managers say to each other, of a chain the last part.
type MemberMessage = echelon_core::member::MemberMessage<echelon_core::grant::Part>;

/// What has bytes.
pub trait Wire: Sized {
    /// The message as bytes. One value always gives the same ones.
    fn encode(&self) -> Bytes;

    /// How many bytes [`Wire::encode`] gives.
    fn encoded_len(&self) -> usize;

    /// The message that these bytes are, all of them.
    ///
    /// Takes memory in proportion to `bytes`; callers bound those by one of the frame sizes of this crate.
    ///
    /// # Errors
    /// They are no such message; see [`DecodeError`]. Nothing is kept.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
}

macro_rules! wire {
    ($($core:ident => $proto:path $(, after $check:path)?;)*) => {$(
        impl Wire for $core {
            fn encode(&self) -> Bytes {
                let packed: $proto = self.pack();
                packed.encode_to_vec().into()
            }

            fn encoded_len(&self) -> usize {
                let packed: $proto = self.pack();
                packed.encoded_len()
            }

            fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
                const NAME: &str = stringify!($core);
                $($check(bytes)?;)?
                let packed = <$proto>::decode(bytes).map_err(|source| DecodeError::Malformed { message: NAME, source })?;
                Self::unpack(packed, NAME)
            }
        }
    )*};
}

wire! {
    FromAgent => session::FromAgent;
    ToAgent => session::ToAgent;
    Request => request::Request, after request::check_change_count;
    Response => request::Response;
    ChangeSet => change::ChangeSet, after change::check_change_count;
    Position => row::Position;
    Row => row::Row;
    RowKey => row::RowKey;
    RowChange => row::RowChange;
    Commit => row::Commit;
    ViewRow => view::ViewRow;
    ViewKey => view::ViewKey;
    ViewChange => view::ViewChange;
    ViewMark => view::ViewMark;
    Place => view::Place;
    LivenessEntry => session::LivenessEntry;
    Told => session::Told;
    BoardNews => session::BoardNews;
    Chain => grant::Chain;
    Grant => grant::Grant;
    Mark => grant::Mark;
    SignedMark => grant::SignedMark;
    MemberMessage => member::MemberMessage;
    ManagerMessage => request::ManagerMessage;
    Seals => member::Promises;
}
