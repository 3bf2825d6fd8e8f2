//! Who may announce packages, and bring connections back.

use crate::listen::{Caller, listed_id};
use echelon_core::name::{ManagerType, quoted};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::str::FromStr;

/// Where users are listed, and how much of it is read: ten thousand users.
const USERS: (&str, u64) = ("/etc/passwd", 1 << 20);

/// Longest name of a user: that of useradd(8) and then some.
const MAX_NAME: usize = 64;

/// For each type, the users that may announce it and bring its connections back, besides root and the user of the agent's process.
pub type ApiWriters = BTreeMap<ManagerType, Vec<User>>;

/// A user of this system: a name, or a number where no list of users has a name for it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum User {
    /// By its number.
    Id(u32),
    /// By its name in the system's list of users.
    Name(String),
}

/// Why a text names no user.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{} is no user: write a name such as web, or a number such as \"1001\"", quoted(.0))]
pub struct UserError(String);

/// Who has made a connection to the API.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Peer {
    /// Any program on this host.
    Tcp,
    /// A program of this user, as the kernel says; none where it does not.
    User(Option<u32>),
}

/// Why somebody may not write. The text is for the program that tried.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NotWriter {
    #[error(
        "over TCP this API can only be read, since anybody on this host could write; use its unix socket"
    )]
    Tcp,
    #[error("the kernel does not tell which user this is")]
    Unknown,
    #[error(
        "user {user} may neither announce {ty} nor bring its connections back; root, the agent's own user and those listed for the type under \
         api_writers in the agent's settings may"
    )]
    User { user: u32, ty: ManagerType },
}

impl FromStr for User {
    type Err = UserError;
    fn from_str(text: &str) -> Result<Self, UserError> {
        let usable = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@' | '$');
        match text.parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) if !text.is_empty() && text.len() <= MAX_NAME && text.chars().all(usable) => {
                Ok(Self::Name(text.into()))
            }
            Err(_) => Err(UserError(text.chars().take(MAX_NAME).collect())),
        }
    }
}

impl TryFrom<String> for User {
    type Error = UserError;
    fn try_from(text: String) -> Result<Self, UserError> {
        text.parse()
    }
}

impl Peer {
    /// Who is at the other end of a connection.
    pub(crate) fn of(caller: &Caller) -> Self {
        match caller {
            Caller::Tcp(_) => Self::Tcp,
            Caller::Unix(stream) => Self::User(stream.peer_cred().ok().map(|peer| peer.uid())),
        }
    }

    /// Whether it may announce this type, and bring its connections back.
    ///
    /// # Errors
    /// [`NotWriter`].
    pub(crate) fn may_write(self, ty: &ManagerType, writers: &ApiWriters) -> Result<(), NotWriter> {
        let user = match self {
            Self::Tcp => return Err(NotWriter::Tcp),
            Self::User(None) => return Err(NotWriter::Unknown),
            Self::User(Some(user)) => user,
        };
        let own = rustix::process::geteuid().as_raw();
        let listed = || writers.get(ty).is_some_and(|users| is_among(user, users, &list_of_users()));
        match user == 0 || user == own || listed() {
            true => Ok(()),
            false => Err(NotWriter::User { user, ty: ty.clone() }),
        }
    }
}

fn is_among(user: u32, users: &[User], list: &str) -> bool {
    users.iter().any(|known| match known {
        User::Id(id) => *id == user,
        User::Name(name) => listed_id(list, name) == Some(user),
    })
}

/// Read anew each time: users come and go, and announcements are rare.
fn list_of_users() -> String {
    let (file, most) = USERS;
    let mut list = String::new();
    // Without a list only numbers count.
    let _ = File::open(file).and_then(|f| f.take(most).read_to_string(&mut list));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_names_or_numbers_and_count_as_the_system_knows_them() {
        let list = "root:x:0:0:root:/root:/bin/sh\nweb:x:412:412::/:/bin/false\n";
        let users: Vec<User> = ["web", "1001", "gone"].map(|u| u.parse().unwrap()).into();
        let among = |user| is_among(user, &users, list);
        assert_eq!([412, 1001, 0, 413].map(among), [true, true, false, false]);
        for bad in ["", "a b", "x:0", "\u{1b}[2J", &"x".repeat(65)] {
            assert!(bad.parse::<User>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn root_the_own_user_and_those_listed_for_the_type_may_write_and_nobody_over_tcp() {
        let own = rustix::process::geteuid().as_raw();
        let other = own.wrapping_add(4321);
        let ty: ManagerType = "audit".parse().unwrap();
        let writers = ApiWriters::from([(ty.clone(), vec![User::Id(other)])]);
        let may = |peer: Peer, ty: &ManagerType| peer.may_write(ty, &writers);
        for user in [0, own, other] {
            assert_eq!(may(Peer::User(Some(user)), &ty), Ok(()));
        }
        let elsewhere: ManagerType = "web".parse().unwrap();
        assert!(matches!(may(Peer::User(Some(other)), &elsewhere), Err(NotWriter::User { .. })));
        assert!(matches!(may(Peer::User(Some(other + 1)), &ty), Err(NotWriter::User { .. })));
        assert_eq!(may(Peer::User(None), &ty), Err(NotWriter::Unknown));
        assert_eq!(may(Peer::Tcp, &ty), Err(NotWriter::Tcp));
    }
}
