//! How messages and links come and go.

use super::message::Kind;
use super::{Event, Input, MemberMessage, World};

/// How often managers without a link try to make one, in microseconds.
const CONNECT: u64 = 300_000;

impl World {
    pub(crate) fn send(&mut self, from: usize, to: usize, message: MemberMessage) {
        let carried = self.network.has_link(from, to) && self.network.carries(from, to);
        let trouble = self.profile.trouble(Kind::of(&message));
        if !carried || self.nodes[to].member.is_none() || self.is_rare(trouble.lost) {
            return;
        }
        if self.is_rare(trouble.doubled) {
            self.send_once(from, to, trouble.late, message.clone());
        }
        self.send_once(from, to, trouble.late, message);
    }

    /// Whether a fault of which there are so many in a thousand strikes; none do once faults have ended.
    fn is_rare(&mut self, of_1000: u64) -> bool {
        self.random.chance(of_1000) && !self.healing
    }

    fn send_once(&mut self, from: usize, to: usize, late: u64, message: MemberMessage) {
        let late = self.is_rare(late);
        let delay = self.random.between(500, if late { 3_000_000 } else { 8_000 });
        let mut at = self.now + delay;
        if self.profile.ordered || self.healing {
            let newest = self.network.arrives.entry((from, to)).or_default();
            at = at.max(*newest);
            *newest = at;
        }
        let (incarnation, message) = (self.nodes[to].incarnation, Box::new(message));
        self.schedule(at - self.now, Event::Deliver { from, to, incarnation, message });
    }

    pub(crate) fn connect_all(&mut self) {
        self.schedule(CONNECT, Event::Connect);
        for a in 0..self.nodes.len() {
            for b in 0..a {
                let both = self.network.has_link(a, b) && self.network.has_link(b, a);
                if !both && (self.healing || self.random.chance(600)) {
                    self.connect(a, b);
                }
            }
        }
    }

    fn connect(&mut self, a: usize, b: usize) {
        let may = |n: usize| self.nodes[n].is_awake() && !self.nodes[n].removed;
        if may(a) && may(b) && self.network.is_open(a, b) {
            self.link(a, b);
            self.link(b, a);
        }
    }

    /// One that still has the link of a process that is gone may notice its end first, or hear of the new one alone.
    fn link(&mut self, at: usize, peer: usize) {
        let host = self.nodes[peer].host;
        if !self.network.link(at, peer) && self.random.chance(500) {
            self.input(at, Input::Lost(host));
        }
        self.input(at, Input::Met(host));
    }

    /// Nothing comes over a link for a while: it is gone, where there is something amiss.
    pub(crate) fn silence(&mut self, at: usize, peer: usize) {
        let fine = self.network.is_open(at, peer) && self.network.has_link(peer, at);
        if !fine && self.network.unlink(at, peer) {
            let host = self.nodes[peer].host;
            self.input(at, Input::Lost(host));
        }
    }

    /// Cuts one direction, or both; each side notices in its own time.
    pub(crate) fn cut(&mut self, a: usize, b: usize, both: bool) {
        self.note(|| format!("{a} no longer reaches {b}, both ways: {both}"));
        self.network.block(a, b);
        if both {
            self.network.block(b, a);
        }
        self.schedule_between(50_000, 4_000_000, Event::Silence { at: a, peer: b });
        self.schedule_between(50_000, 4_000_000, Event::Silence { at: b, peer: a });
    }

    pub(crate) fn isolate(&mut self, at: usize) {
        let both = self.random.chance(700);
        for peer in (0..self.nodes.len()).filter(|peer| *peer != at) {
            self.cut(at, peer, both);
        }
    }
}
