//! Join tokens, and hosts that enrol with them. Every wrong token gets one and the same refusal.

use super::Draft;
use crate::access::{Access, Identity, Subject, Token};
use crate::endpoint::Address;
use crate::id::{HostId, TokenId};
use crate::limits::{MAX_TOKEN_TTL, MAX_TOKEN_USES, MAX_TOKENS};
use crate::name::{DomainPath, HostName, ManagerType};
use crate::package::NumberError;
use crate::refusal::{EnrolRefusal, Refusal};
use crate::row::{Host, Row, RowKey};
use std::sync::Arc;

impl Draft {
    pub(super) fn create_token(&mut self, token: &Token, path: &DomainPath) -> Result<(), Refusal> {
        let domain = self.domain(path)?;
        if self.next.token(token.id).is_some() {
            return Err(Refusal::TokenExists { id: token.id });
        }
        if self.next.token_count() >= MAX_TOKENS {
            return Err(Refusal::TooManyTokens);
        }
        if token.replace && token.host.is_none() {
            return Err(Refusal::ReplaceNeedsHost);
        }
        if token.allow_types.iter().any(ManagerType::is_registry) {
            return Err(Refusal::RegistryType);
        }
        NumberError::check("uses", token.uses_left.into(), 1, MAX_TOKEN_USES.into())?;
        let left = token.expires.0.saturating_sub(self.now.0);
        // Of the shortest life a part has passed when the edit arrives.
        let ttl = (left / 1000).max(u64::from(left > 0));
        NumberError::check("ttl in seconds", ttl, 1, MAX_TOKEN_TTL.as_secs())?;
        Ok(self.set(Row::Token(Token { domain, ..token.clone() }))?)
    }

    pub(super) fn revoke_token(&mut self, id: TokenId) -> Result<(), Refusal> {
        if self.next.token(id).is_none() {
            return Err(Refusal::UnknownToken { id });
        }
        Ok(self.unset(RowKey::Token(id))?)
    }

    pub(super) fn enrol(&mut self, token: TokenId, wish: &Wish<'_>) -> Result<(), Refusal> {
        let token = self.usable_token(token, wish, Access::Agent)?;
        let host = match self.next.host_named(wish.host).cloned() {
            Some(host) => self.check_known_host(&token, &host, wish).map(|()| host.id)?,
            None => self.enrol_new_host(&token, wish)?,
        };
        self.enrol_subject(Subject::Host(host), &token, wish.key_hash)
    }

    /// Gives a subject its next enrolment, denies the one before, and uses the token once.
    pub(super) fn enrol_subject(
        &mut self,
        subject: Subject,
        token: &Token,
        key_hash: &[u8; 32],
    ) -> Result<(), Refusal> {
        let before = self.next.identity(&subject).map_or(0, |i| i.enrolment);
        let denied = self.next.denial(&subject).map_or(0, |d| d.up_to);
        if before > 0 {
            self.deny(subject.clone(), before)?;
        }
        self.set(Row::Identity(Identity {
            subject,
            enrolment: before.max(denied) + 1,
            access: token.access,
            allow_types: token.allow_types.clone(),
            key_hash: *key_hash,
            enrolled: self.now,
        }))?;
        Ok(self.set(Row::Token(Token { uses_left: token.uses_left - 1, ..token.clone() }))?)
    }

    /// The token with this id, where it is good for this wish and for identities of this access level.
    pub(super) fn usable_token(
        &self,
        token: TokenId,
        wish: &Wish<'_>,
        access: Access,
    ) -> Result<Arc<Token>, Refusal> {
        let token = self.next.token(token).cloned().ok_or(EnrolRefusal::UnknownToken)?;
        let refusal = if token.expires <= self.now {
            EnrolRefusal::Expired
        } else if token.uses_left == 0 {
            EnrolRefusal::UsedUp
        } else if token.access != access {
            EnrolRefusal::WrongAccess
        } else if token.host.as_ref().is_some_and(|h| h != wish.host) {
            EnrolRefusal::WrongHost
        } else {
            return Ok(token);
        };
        Err(refusal.into())
    }

    fn check_known_host(&self, token: &Token, host: &Host, wish: &Wish<'_>) -> Result<(), Refusal> {
        if self.next.identity(&Subject::Host(host.id)).is_some() && !token.replace {
            return Err(EnrolRefusal::AlreadyEnrolled.into());
        }
        self.check_known_place(token, host, wish)
    }

    /// Whether a host that is in the registry is where the token and the wish have it.
    pub(super) fn check_known_place(
        &self,
        token: &Token,
        host: &Host,
        wish: &Wish<'_>,
    ) -> Result<(), Refusal> {
        if !self.next.hierarchy().is_within(host.domain, token.domain) {
            return Err(EnrolRefusal::WrongDomain.into());
        }
        match wish.domain {
            Some(asked) if self.next.hierarchy().find(asked) != Some(host.domain) => {
                Err(Refusal::HostElsewhere { host: host.name.clone(), domain: self.next.path(host.domain) })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn enrol_new_host(&mut self, token: &Token, wish: &Wish<'_>) -> Result<HostId, Refusal> {
        let domain = wish.domain.map_or(Ok(token.domain), |path| self.domain(path))?;
        if !self.next.hierarchy().is_within(domain, token.domain) {
            return Err(EnrolRefusal::WrongDomain.into());
        }
        self.add_host(wish.id, wish.host, domain, wish.address.clone())?;
        Ok(wish.id)
    }
}

/// What a host that enrols wishes for.
pub(super) struct Wish<'a> {
    pub(super) host: &'a HostName,
    pub(super) id: HostId,
    pub(super) domain: Option<&'a DomainPath>,
    pub(super) address: &'a Option<Address>,
    pub(super) key_hash: &'a [u8; 32],
}
