//! What is shown before the primary changes: worked out from what one manager knows, with nothing kept.

use super::report::members;
use super::{
    AgentsReport, EvidenceReport, GrantReport, GrantState, LossReport, MemberReport, PrimaryReport,
    RefusedReport, StandingReport, SyncReport, Way, refused,
};
use crate::board::Board;
use crate::grant::{Chain, Grant};
use crate::id::{HostId, RequestId};
use crate::member::{Peer, Proposal, Refused, Standing};
use crate::message::Using;
use crate::name::{HostName, ManagerType};
use crate::names::{Names, Side};
use crate::package::Role;
use crate::position::Position;
use crate::registry::Registry;
use crate::report::millis;
use crate::time::{Monotonic, UnixMillis};
use std::collections::BTreeMap;
use std::time::Duration;

/// Most revisions that are listed one by one: more than that nobody reads.
pub const MAX_LISTED: u64 = 100;

/// Everything that the evidence is drawn from.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// The committed registry.
    pub registry: &'a Registry,
    /// What agents have said.
    pub board: &'a Board,
    /// This manager's host.
    pub me: HostId,
    /// The grants it goes by.
    pub chain: &'a Chain,
    /// Where its journal stands.
    pub standing: &'a Standing,
    /// The other managers.
    pub peers: &'a BTreeMap<HostId, Peer>,
    /// Chains in conflict with its own.
    pub rivals: &'a [Chain],
    /// Whether its journal is being copied from another manager's.
    pub copying: bool,
    /// Whether its journal has lost what others have seen.
    pub rolled_back: bool,
    /// The furthest position that an agent has proved to have been shown, where this manager had not got that.
    pub proved: Option<Position>,
    /// What agents have shown without proof, by their host.
    pub unproved: &'a BTreeMap<HostId, Unproved>,
    /// The time, by the clock of the board and of the journal.
    pub now: Monotonic,
}

/// What an agent has shown that speaks against a manager's journal, and could not prove.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unproved {
    /// The last position of which it has shown something.
    pub position: Position,
    /// Since when it does.
    pub since: Monotonic,
}

/// What the evidence is asked for.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Which way.
    pub way: Way,
    /// Under which name.
    pub id: RequestId,
    /// Who would be the primary.
    pub to: HostId,
    /// Why it would be refused.
    pub refused: Option<&'a Refused>,
}

impl<'a> Sight<'a> {
    /// Names of hosts, as they are now.
    pub fn names(&self) -> Names<'a> {
        Names::new(&[], Side::After, Some(self.registry))
    }

    /// What is known before a promotion: with what was proposed, or without a proposal where none is asked for, as
    /// for a hand-over.
    pub fn evidence(&self, asked: &Asked<'_>, proposal: Option<&Proposal>) -> EvidenceReport {
        let (names, chain) = (self.names(), self.chain);
        let holder = chain.head().holder;
        let answers = match proposal {
            Some(proposal) => proposal.primary_answers,
            None => holder == self.me || self.peer(holder).is_some_and(|p| !p.is_silent(self.now)),
        };
        let heard_ms = match holder == self.me {
            true => Some(0),
            false => self.peer(holder).and_then(|p| p.heard).map(|heard| millis(self.now.since(heard))),
        };
        let sync = self.sync(proposal);
        EvidenceReport {
            way: asked.way,
            framework: self.registry.meta().framework.to_string(),
            manager: self.name_of(self.me),
            to: self.name_of(asked.to),
            request_id: asked.id,
            primary: PrimaryReport { host: names.host_name(holder), answers, heard_ms },
            managers: self.managers().into_iter().map(|host| self.standing_of(host, proposal)).collect(),
            loss: self.loss(proposal, &sync),
            sync,
            agents: self.agents(holder),
            grant: proposal.map(|p| GrantReport::of(&p.grant, GrantState::Proposed, &names)),
            rivals: match asked.way {
                Way::Choice => self.rivals(),
                Way::Planned | Way::Forced => Vec::new(),
            },
            refused: asked.refused.map(|why| {
                let failure = refused(why, &self.name_of(asked.to), &names);
                let (error, message, remedy) = (failure.error, failure.message, failure.remedy);
                RefusedReport { error, message, remedy, class: failure.class }
            }),
        }
    }

    /// All grants of this manager's chain, then those of the lineages in conflict with it that it has not got.
    pub fn grants(&self) -> Vec<GrantReport> {
        let (names, chain) = (self.names(), self.chain);
        let newest = chain.head().id;
        let state = |grant: &Grant| if grant.id == newest { GrantState::Newest } else { GrantState::Past };
        let own = chain.grants().map(|grant| GrantReport::of(grant, state(grant), &names));
        own.chain(self.rivals()).collect()
    }

    fn rivals(&self) -> Vec<GrantReport> {
        let (names, chain) = (self.names(), self.chain);
        let grants = self.rivals.iter().flat_map(|rival| rival.grants());
        let other = grants.filter(|grant| chain.get(grant.id).is_none());
        other.map(|grant| GrantReport::of(grant, GrantState::Rival, &names)).collect()
    }

    /// How every manager of the registry stands, by name. `agents` says how many a manager serves, where that is
    /// known.
    pub fn members(&self, agents: impl Fn(HostId) -> Option<u64>) -> Vec<MemberReport> {
        let (chain, me) = (self.chain, self.me);
        let rule = &self.standing.rule;
        let names = self.names();
        let report = |host: HostId| {
            let (own, peer, standing) = (host == me, self.peer(host), self.last_standing(host));
            let lacks = standing.as_ref().map(|s| self.newest_revision().saturating_sub(s.last.revision()));
            let since = peer.and_then(|p| p.behind_since).map(|since| millis(self.now.since(since)));
            MemberReport {
                host: names.host_name(host),
                role: if chain.is_held_by(host) { "primary" } else { "standby" }.into(),
                fenced_since: self.fenced_since(host).map(|at| at.to_string()),
                follows_nobody_ms: self.follows_nobody().filter(|_| own).map(millis),
                counts: rule.members.contains(&host),
                connected: own || peer.is_some_and(|p| p.connected),
                heard_ms: match own {
                    true => Some(0),
                    false => peer.and_then(|p| p.heard).map(|heard| millis(self.now.since(heard))),
                },
                position: standing.as_ref().map(|s| s.last.position.into()),
                committed: standing.as_ref().map(|s| s.committed),
                lag_edits: lacks,
                lag_ms: since,
                agents: agents(host),
                sealed: standing.as_ref().is_some_and(|s| s.seals.hold_under(s.grant)),
                copying: own && self.copying,
                rolled_back: own && self.rolled_back,
            }
        };
        self.managers().into_iter().map(report).collect()
    }

    /// Since when another manager is the primary by the grants, where the registry has this one for it.
    fn fenced_since(&self, host: HostId) -> Option<UnixMillis> {
        let recorded = self.registry.package(host, &ManagerType::registry())?.role == Some(Role::Primary);
        let others = self.chain.grants().rev().take_while(|grant| grant.holder != host);
        others.last().map(|grant| grant.at).filter(|_| recorded)
    }

    /// For how long this manager has no link to the primary, where that is another one.
    fn follows_nobody(&self) -> Option<Duration> {
        let holder = self.chain.head().holder;
        let primary = self.peer(holder);
        let alone = holder != self.me && !primary.is_some_and(|peer| peer.connected);
        let heard = primary.and_then(|peer| peer.heard).unwrap_or(Monotonic(0));
        alone.then(|| self.now.since(heard))
    }

    /// The hosts with a registry manager, by name.
    pub(super) fn managers(&self) -> Vec<HostId> {
        let registry = ManagerType::registry();
        let mut hosts: Vec<_> = self.registry.packages_of(&registry).map(|package| package.host).collect();
        hosts.sort_by_cached_key(|host| self.name_of(*host));
        hosts
    }

    fn name_of(&self, host: HostId) -> HostName {
        let known = self.registry.host(host).map(|row| row.name.clone());
        // Of a host that is gone nobody asks; a name there is all the same.
        known.unwrap_or_else(|| "unknown".parse().expect("a valid name of a host"))
    }

    fn peer(&self, host: HostId) -> Option<&'a Peer> {
        self.peers.get(&host)
    }

    /// Where a manager said last that it stands.
    fn last_standing(&self, host: HostId) -> Option<Standing> {
        match host == self.me {
            true => Some(self.standing.clone()),
            false => self.peer(host).and_then(|p| p.standing.clone()),
        }
    }

    fn standing_of(&self, host: HostId, proposal: Option<&Proposal>) -> StandingReport {
        let heard = proposal.and_then(|p| p.heard.get(&host)).cloned();
        let linked = || host == self.me || self.peer(host).is_some_and(|p| !p.is_silent(self.now));
        let is_heard = match proposal {
            Some(_) => heard.is_some(),
            None => linked(),
        };
        let standing = heard.or_else(|| self.last_standing(host));
        let rule = &self.standing.rule;
        StandingReport {
            host: self.names().host_name(host),
            counts: rule.members.contains(&host),
            heard: is_heard,
            position: standing.as_ref().map(|s| s.last.position.into()),
            committed: standing.as_ref().map(|s| s.committed),
            lag_edits: standing.as_ref().map(|s| self.newest_revision().saturating_sub(s.last.revision())),
            sealed: standing.as_ref().is_some_and(|s| s.seals.hold_under(s.grant)),
        }
    }

    /// The newest revision under the newest grant that any manager has said it has.
    fn newest_revision(&self) -> u64 {
        let head = self.chain.head().id;
        let of_chain = |standing: &Standing| standing.grant == head;
        let peers = self.peers.values().filter_map(|peer| peer.standing.as_ref());
        let said = peers.filter(|s| of_chain(s)).map(|s| s.last.revision());
        said.fold(self.standing.last.revision(), u64::max)
    }

    fn sync(&self, proposal: Option<&Proposal>) -> SyncReport {
        let rule = proposal.map_or_else(|| &self.standing.rule, |p| &p.rule);
        let is_heard = |host: &&HostId| match proposal {
            Some(proposal) => proposal.heard.contains_key(*host),
            None => **host == self.me || self.peer(**host).is_some_and(|p| !p.is_silent(self.now)),
        };
        let heard = rule.members.iter().filter(is_heard).count();
        SyncReport {
            members: members(rule, &self.names()),
            min_sync: rule.min_sync,
            needed: rule.quorum_to_promote(),
            heard,
            enough: proposal.map_or(heard >= rule.quorum_to_promote(), |p| p.doubt.is_none()),
        }
    }

    /// The newest position of this chain that an agent holds: by its word as far as a manager has said that it has as
    /// much, and beyond that only where it is proved.
    fn newest_of_agents(&self) -> Option<Position> {
        let known = self.newest_revision();
        let said = self.board.agents().filter_map(|(_, agent)| agent.report().holds.map(|h| h.position));
        let believed = said.filter(|position| position.revision <= known).chain(self.proved);
        // Under a newer grant than this manager knows it would have been fenced by it.
        let counting = believed.filter(|position| self.chain.contains(position));
        counting.max_by_key(|position| (position.epoch, position.revision))
    }

    fn agents(&self, primary: HostId) -> AgentsReport {
        let registry = ManagerType::registry();
        let (state, reason) = self.board.state_of(primary, &registry);
        let away = |using: &Using| using.ty == registry;
        let agents = || self.board.agents().map(|(_, agent)| agent).filter(|agent| agent.is_connected());
        AgentsReport {
            connected: agents().count(),
            newest: self.newest_of_agents().map(Into::into),
            primary: state,
            primary_reason: reason,
            not_home: agents().filter(|agent| agent.report().using.iter().any(away)).count(),
        }
    }

    /// What somebody has seen, and whoever is to be the primary would not have: it is brought level first with the
    /// best of those that were heard.
    fn loss(&self, proposal: Option<&Proposal>, sync: &SyncReport) -> LossReport {
        let head = self.chain.head().id;
        let Some(proposal) = proposal else {
            let stays = self.newest_revision();
            let (revisions, unheard) = (Vec::new(), Vec::new());
            return LossReport { stays, revisions, count: 0, unheard, possible: false };
        };
        let of_chain = proposal.heard.values().filter(|s| s.grant == head).map(|s| s.last.revision());
        let stays = of_chain.fold(self.standing.last.revision(), u64::max);
        let agents = self.newest_of_agents().map_or(0, |p| p.revision);
        // All that the newest grant builds on was there, whoever has it now.
        let built_on = self.chain.head().parent.map_or(0, |parent| parent.mark.revision());
        let seen = self.newest_revision().max(agents).max(built_on);
        let names = self.names();
        let count = seen.saturating_sub(stays);
        LossReport {
            stays,
            revisions: (stays.saturating_add(1)..=seen).take(MAX_LISTED as usize).collect(),
            count,
            unheard: proposal.silent().into_iter().map(|host| names.host_name(host)).collect(),
            possible: count > 0 || !sync.enough,
        }
    }
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
