//! A manager: a process that may be running, and its disk.

use super::disk::Disk;
use echelon_core::grant::{Hash, Mark};
use echelon_core::id::{HostId, Lineage, RequestId};
use echelon_core::member::{Input, Member};
use uuid::Uuid;

/// Most older states of a disk that are kept, for it to be rolled back to.
const OLDER: usize = 8;

pub(crate) struct Node {
    pub(crate) host: HostId,
    pub(crate) disk: Disk,
    /// The process; none while it is down.
    pub(crate) member: Option<Member>,
    /// Counts the processes.
    pub(crate) incarnation: u64,
    /// Counts the state machines that there were.
    pub(crate) life: u64,
    /// Counts how often it has joined.
    pub(crate) enrolment: u64,
    /// The last promotion by force that was tried here, and whether loss was accepted for it.
    pub(crate) tried: Option<(RequestId, Lineage, bool)>,
    /// What came while the process was paused.
    pub(crate) paused: Option<Vec<Input>>,
    /// When it is to be woken.
    pub(crate) tick: u64,
    /// Committed, as far as this process has shown it.
    pub(crate) shown: u64,
    /// Edits that wait to be committed, for an answer.
    pub(crate) waiting: Vec<(u64, Mark)>,
    /// The entry that is being written here.
    pub(crate) made: Option<Hash>,
    /// The copy that is being fetched, of all that ever were.
    pub(crate) copy: u64,
    /// The disk is gone: it has to join again.
    pub(crate) gone: bool,
    /// It was removed from the registry.
    pub(crate) removed: bool,
    pub(crate) older: Vec<Disk>,
}

impl Node {
    pub(crate) fn new(index: usize, disk: Disk) -> Self {
        Self {
            host: host(index),
            disk,
            member: None,
            incarnation: 0,
            life: 0,
            enrolment: 1,
            tried: None,
            paused: None,
            tick: 0,
            shown: 0,
            waiting: vec![],
            made: None,
            copy: 0,
            gone: false,
            removed: false,
            older: vec![],
        }
    }

    /// Whether it does something when something happens.
    pub(crate) fn is_awake(&self) -> bool {
        self.member.is_some() && self.paused.is_none()
    }

    pub(crate) fn is_leading(&self) -> bool {
        self.member.as_ref().is_some_and(Member::is_leading)
    }

    /// Keeps the disk as it is now, to be rolled back to.
    pub(crate) fn remember(&mut self) {
        if self.older.len() == OLDER {
            self.older.remove(0);
        }
        self.older.push(self.disk.clone());
    }
}

pub(crate) fn host(index: usize) -> HostId {
    HostId(Uuid::from_u128(index as u128 + 1))
}

pub(crate) fn index(host: HostId) -> usize {
    host.0.as_u128() as usize - 1
}
