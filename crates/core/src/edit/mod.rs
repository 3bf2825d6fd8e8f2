//! Carrying out change sets: all of one or nothing.

mod domain;
mod enrol;
mod host;
mod manager;
mod package;
mod policy;
mod roles;

use crate::access::Token;
use crate::change::{Change, ChangeSet};
use crate::endpoint::Endpoint;
use crate::fencing::Fencing;
use crate::hierarchy::TreeError;
use crate::id::RequestId;
use crate::limits::{MAX_CHANGES, MAX_TOKENS, REQUEST_CLOCK_SKEW, REQUEST_TTL};
use crate::name::{HostName, ManagerType};
use crate::refusal::Refusal;
use crate::registry::Registry;
use crate::row::{Actor, Commit, Meta, Row, RowChange, RowKey};
use crate::time::UnixMillis;
use enrol::Wish;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a token is kept that expired or is used up, so that a manager's log can say why it is refused.
const DEAD_TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);

/// Most forgotten tokens and denials that one edit clears away, so that no edit pays for a backlog.
const MAX_CLEARED: usize = 64;

/// Under which circumstances an edit is carried out.
#[derive(Clone, Debug)]
pub struct Context {
    /// The time, by the clock of the manager.
    pub now: UnixMillis,
    /// Who asks.
    pub actor: Actor,
    /// From where; none for the manager itself.
    pub from: Option<Endpoint>,
    /// The digest of what is asked: of the changes alone, without request id and `if_revision`.
    pub content: [u8; 32],
}

/// What has become of an edit.
#[derive(Clone, Debug)]
pub enum Edited {
    /// It makes this commit, after which the registry is this. The rows may be none: the edit asked for
    /// what was so already, and is recorded all the same.
    Done(Box<Registry>, Commit),
    /// It was committed before, at this revision, and has no effect now.
    Repeated(u64),
}

impl Registry {
    /// Works out what `set` does to this registry, which stays as it is.
    ///
    /// A repeated request id is looked up first, before `if_revision` and validation.
    ///
    /// # Errors
    /// See [`Refusal`]: nothing of the set is carried out.
    pub fn edit(&self, set: &ChangeSet, context: &Context) -> Result<Edited, Refusal> {
        if let Some(answered) = self.answered(set.request) {
            return match answered.content == context.content {
                true => Ok(Edited::Repeated(answered.position.revision)),
                false => {
                    Err(Refusal::RequestReused { id: set.request, revision: answered.position.revision })
                }
            };
        }
        check_request(set.request, context.now)?;
        if let Some(expected) = set.if_revision.filter(|&r| r != self.position.revision) {
            return Err(Refusal::RevisionMoved { expected, actual: self.position.revision });
        }
        match set.changes.len() {
            0 => return Err(Refusal::Empty),
            1..=MAX_CHANGES => {}
            changes => return Err(Refusal::TooManyChanges { changes }),
        }
        if set.changes.len() > 1 && set.changes.iter().any(Change::is_of_managers) {
            return Err(Refusal::ManagersApart);
        }
        let mut draft = Draft::new(self, context.now, set.request);
        set.changes.iter().try_for_each(|change| draft.carry_out(change))?;
        draft.check_roles()?;
        draft.number_primaries(Fencing::at(&self.position.next()))?;
        draft.clear_away()?;
        draft.note_emptied(self)?;
        let shrinks = self.guard(&draft.next, set.allow_shrink, context)?;
        Ok(draft.finish(set.request, context, self.serving().total(), shrinks))
    }

    /// Whether the edit that leads to `next` leaves so few managers that its sender has to mean it. What a host
    /// wants for itself is not held against it: it may know that its managers are broken.
    fn guard(&self, next: &Self, meant: bool, context: &Context) -> Result<bool, Refusal> {
        let check = match context.actor {
            Actor::Agent(_) => Ok(()),
            _ => self.serving().check_shrink(next.serving(), context.now),
        };
        match check {
            Err(refusal) if !meant => Err(refusal),
            check => Ok(check.is_err()),
        }
    }
}

fn check_request(id: RequestId, now: UnixMillis) -> Result<(), Refusal> {
    let made = id.made_at().ok_or(Refusal::RequestNotTimed { id })?;
    if made < now - REQUEST_TTL {
        return Err(Refusal::RequestTooOld { id });
    }
    if made > now + REQUEST_CLOCK_SKEW {
        return Err(Refusal::RequestFromFuture { id });
    }
    Ok(())
}

/// A registry being changed, and what its changed rows were before.
struct Draft {
    next: Registry,
    before: BTreeMap<RowKey, Option<Row>>,
    now: UnixMillis,
    request: RequestId,
    /// The types whose primary went without a successor, and the host it was on.
    orphaned: BTreeMap<ManagerType, HostName>,
    /// See [`Commit::alone`].
    alone: bool,
}

impl Draft {
    fn new(registry: &Registry, now: UnixMillis, request: RequestId) -> Self {
        let (next, before, orphaned) = (registry.clone(), BTreeMap::new(), BTreeMap::new());
        Self { next, before, now, request, orphaned, alone: false }
    }

    fn set(&mut self, row: Row) -> Result<(), TreeError> {
        let key = row.key();
        let old = self.next.row(&key);
        self.next.set(row)?;
        self.before.entry(key).or_insert(old);
        Ok(())
    }

    fn unset(&mut self, key: RowKey) -> Result<(), TreeError> {
        let old = self.next.row(&key);
        self.next.unset(&key)?;
        self.before.entry(key).or_insert(old);
        Ok(())
    }

    /// Notes in the registry that its last manager went.
    fn note_emptied(&mut self, before: &Registry) -> Result<(), Refusal> {
        if before.has_managers() && !self.next.has_managers() {
            let emptied = Some(before.position.next().revision);
            self.set(Row::Meta(Meta { emptied, ..self.next.meta().clone() }))?;
        }
        Ok(())
    }

    fn finish(self, request: RequestId, context: &Context, served: u64, shrinks: bool) -> Edited {
        let (mut next, alone) = (self.next, self.alone);
        let rows = self.before.into_iter().map(|(key, before)| {
            let after = next.row(&key);
            RowChange { key, before, after }
        });
        let rows = rows.filter(|change| change.before != change.after).collect();
        next.position = next.position.next();
        let Context { now: at, actor, from, content } = context.clone();
        let position = next.position;
        let commit = Commit { position, at, actor, from, request, content, rows, served, shrinks, alone };
        next.note(&commit);
        Edited::Done(Box::new(next), commit)
    }

    /// Takes away what has lost its purpose: denials that no certificate can outlive, issuers that have left and
    /// whose certificates have ended, and dead tokens, at once where they fill half of the room there is for tokens.
    fn clear_away(&mut self) -> Result<(), Refusal> {
        let crowded = self.next.token_count() > MAX_TOKENS / 2;
        let dead = |t: &Token| t.expires <= self.now || t.uses_left == 0;
        let old = |t: &Token| t.expires + DEAD_TOKEN_TTL <= self.now;
        let tokens = self.next.tokens().filter(|t| old(t) || (crowded && dead(t)));
        let denials = self.next.denials().filter(|d| d.until < self.now);
        let issuers = self.next.issuers().filter(|i| i.forgotten_at().is_some_and(|at| at < self.now));
        let keys = tokens
            .map(|t| RowKey::Token(t.id))
            .chain(denials.map(|d| RowKey::Denial(d.subject.clone())))
            .chain(issuers.map(|i| RowKey::Issuer(i.id)));
        let keys: Vec<_> = keys.take(MAX_CLEARED).collect();
        keys.into_iter().try_for_each(|key| self.unset(key)).map_err(Refusal::from)
    }

    fn carry_out(&mut self, change: &Change) -> Result<(), Refusal> {
        match change {
            Change::AddDomain { path } => self.add_domain(path),
            Change::RenameDomain { path, name } => self.rename_domain(path, name),
            Change::MoveDomain { path, parent } => self.move_domain(path, parent),
            Change::RemoveDomain { path, recursive } => self.remove_domain(path, *recursive),
            Change::AddHost { id, name, domain, address } => {
                let domain = self.domain(domain)?;
                self.add_host(*id, name, domain, address.clone())
            }
            Change::MoveHost { host, domain } => {
                let domain = self.domain(domain)?;
                self.change_host(host, |h| h.domain = domain)
            }
            Change::RenameHost { host, name } => self.rename_host(host, name),
            Change::SetAddress { host, address } => self.change_host(host, |h| h.address = address.clone()),
            Change::RemoveHost { host, with_packages } => self.remove_host(host, *with_packages),
            Change::DrainHost { host, lasting, reason } => self.drain_host(host, *lasting, reason.as_ref()),
            Change::ResumeHost { host } => self.change_host(host, |h| h.drained = None),
            Change::EndDrains => self.end_drains(),
            Change::AddPackage { host, ty, spec } => self.add_package(host, ty, spec),
            Change::SetPackage { host, ty, spec } => self.set_package(host, ty, spec),
            Change::WithdrawPackage { host, ty, reason } => self.withdraw_package(host, ty, reason.as_ref()),
            Change::RestorePackage { host, ty } => self.restore_package(host, ty),
            Change::RemovePackage { host, ty, successor } => {
                self.remove_package(host, ty, successor.as_ref())
            }
            Change::Promote { host, ty } => self.promote(host, ty),
            Change::PromoteFrom { host, from } => self.promote_from(host, from),
            Change::Announce { host, ty, word } => self.announce(*host, ty, word),
            Change::SetPolicy { domain, ty, settings } => self.set_policy(domain, ty, settings),
            Change::UnsetPolicy { domain, ty, keys } => self.unset_policy(domain, ty, keys),
            Change::ReplacePolicy { domain, ty, settings } => self.replace_policy(domain, ty, settings),
            Change::CreateToken { token, domain } => self.create_token(token, domain),
            Change::RevokeToken { id } => self.revoke_token(*id),
            Change::Enrol { token, host, id, domain, address, key_hash } => {
                let wish = Wish { host, id: *id, domain: domain.as_ref(), address, key_hash };
                self.enrol(*token, &wish)
            }
            Change::RecordManager { host, enrolment, key_hash, issuer } => {
                self.record_manager(*host, *enrolment, key_hash, issuer)
            }
            Change::JoinManager { token, host, id, domain, address, endpoint, key_hash, issuer } => {
                let wish = Wish { host, id: *id, domain: domain.as_ref(), address, key_hash };
                self.join_manager(*token, &wish, endpoint, issuer)
            }
            Change::Admit { host } => self.admit(*host),
            Change::RemoveManager { host, accept_loss, compromised } => {
                self.remove_manager(host, *accept_loss, *compromised)
            }
            Change::SetMinSync { min_sync, accept_loss } => self.set_min_sync(*min_sync, *accept_loss),
            Change::TakeOver { holder, sync, gives_up } => self.take_over(*holder, sync, *gives_up),
        }
    }
}
