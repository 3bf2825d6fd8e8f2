//! What is due at a moment.

use super::disk::Disk;
use super::{Input, MemberMessage, World};
use echelon_core::grant::Grant;
use echelon_core::id::{HostId, RequestId};

pub(crate) enum Event {
    /// A message arrives at this process of a manager.
    Deliver {
        from: usize,
        to: usize,
        incarnation: u64,
        message: Box<MemberMessage>,
    },
    Tick {
        at: usize,
        incarnation: u64,
    },
    /// A manager notices that a link carries nothing.
    Silence {
        at: usize,
        peer: usize,
    },
    /// Managers without a link try to make one.
    Connect,
    Start {
        at: usize,
    },
    Resume {
        at: usize,
        incarnation: u64,
    },
    /// A manager whose disk is gone tries to join.
    Rejoin {
        at: usize,
    },
    /// Another manager begins to give a copy of its journal.
    Lend {
        to: usize,
        incarnation: u64,
        copy: u64,
        from: usize,
    },
    /// The copy is there; or it is not to be had.
    Copied {
        at: usize,
        incarnation: u64,
        copy: u64,
        disk: Option<Box<Disk>>,
    },
    /// A grant is proved.
    Proved {
        at: usize,
        incarnation: u64,
        grant: Box<Grant>,
    },
    /// A primary has a standby counted.
    Admit {
        at: usize,
        incarnation: u64,
        standby: HostId,
    },
    Abort {
        at: usize,
        id: RequestId,
    },
    /// Somebody edits.
    Edit,
    /// An agent asks a manager how things are.
    Visit {
        agent: usize,
    },
    /// Something fails, or an admin does something.
    Fault,
    /// An admin promotes this manager by force.
    Force {
        at: usize,
        lossy: bool,
    },
    Crash {
        at: usize,
    },
    /// Two managers no longer reach each other; they do again.
    Cut {
        a: usize,
        b: usize,
    },
    Reach {
        a: usize,
        b: usize,
    },
    Mend,
}

impl World {
    pub(crate) fn happen(&mut self, event: Event) {
        let is = |world: &Self, at: usize, incarnation| world.nodes[at].incarnation == incarnation;
        match event {
            Event::Deliver { from, to, incarnation, message } => {
                if is(self, to, incarnation) && self.network.has_link(to, from) {
                    let said = self.said(to, self.nodes[from].host, *message);
                    self.input(to, said);
                }
            }
            Event::Tick { at, incarnation } => {
                if is(self, at, incarnation) && self.nodes[at].is_awake() && self.nodes[at].tick <= self.now {
                    self.input(at, Input::Tick);
                    self.take_over(at);
                }
            }
            Event::Silence { at, peer } => self.silence(at, peer),
            Event::Connect => self.connect_all(),
            Event::Start { at } => self.start(at),
            Event::Resume { at, incarnation } if is(self, at, incarnation) => self.resume(at),
            Event::Resume { .. } => {}
            Event::Rejoin { at } => self.rejoin(at),
            Event::Lend { to, incarnation, copy, from } => self.lend(to, incarnation, copy, from),
            Event::Copied { at, incarnation, copy, disk } => {
                if is(self, at, incarnation) && self.nodes[at].copy == copy {
                    self.copied(at, disk);
                }
            }
            Event::Proved { at, incarnation, grant } if is(self, at, incarnation) => {
                self.input(at, Input::Promote(*grant));
                self.take_over(at);
            }
            Event::Proved { .. } => {}
            Event::Admit { at, incarnation, standby } => {
                if is(self, at, incarnation) && self.nodes[at].is_awake() {
                    self.admit(at, standby);
                }
            }
            Event::Abort { at, id } => self.input(at, Input::Abort(id)),
            Event::Edit => self.edit(),
            Event::Visit { agent } => self.visit(agent),
            Event::Fault | Event::Force { .. } | Event::Crash { .. } | Event::Cut { .. } if self.healing => {}
            Event::Fault => self.fault(),
            Event::Force { at, lossy } => self.force_with(at, lossy, false),
            Event::Crash { at } => self.crash_for_a_while(at),
            Event::Cut { a, b } => self.cut(a, b, true),
            Event::Reach { a, b } => self.network.reach(a, b),
            Event::Mend => self.network.heal(),
        }
    }
}
