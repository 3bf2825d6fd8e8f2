//! Issuers, and what a certificate is worth.

use crate::access::{Access, Subject};
use crate::id::HostId;
use crate::limits::RENEW_GRACE;
use crate::registry::Registry;
use crate::signed_mark::Claim;
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};

/// Names an issuer: BLAKE3 of its public key, as SubjectPublicKeyInfo in DER. A new certificate for the same key
/// is the same issuer.
pub type IssuerId = [u8; 32];

/// An issuer's name as text: 64 hexadecimal digits.
pub fn issuer_name(id: &IssuerId) -> String {
    blake3::Hash::from(*id).to_hex().to_string()
}

/// What a registry manager signs certificates with. An issuer counts for as long as it is in the registry: what an
/// unknown one has signed is refused everywhere.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Issuer {
    /// Its name.
    pub id: IssuerId,
    /// The host of the manager that has, or had, it.
    pub host: HostId,
    /// When its certificate ends.
    pub not_after: UnixMillis,
    /// Set once its manager has left: whoever holds a certificate of it may renew that one elsewhere until
    /// then, and do nothing else with it.
    pub renew_only: Option<UnixMillis>,
    /// Its key is in wrong hands: what it has signed is worth nothing. The row stays until the certificate ends, so
    /// that everybody is told.
    pub dropped: bool,
}

impl Issuer {
    /// Whether it still signs.
    pub fn is_in_force(&self) -> bool {
        self.renew_only.is_none() && !self.dropped
    }

    /// When nobody has to know of it any more; none while it is in force.
    pub fn forgotten_at(&self) -> Option<UnixMillis> {
        let until = self.renew_only.unwrap_or(self.not_after).max(self.not_after);
        (!self.is_in_force()).then_some(until)
    }
}

/// A certificate whose chain holds, as far as it matters here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certified {
    /// Whose it is.
    pub subject: Subject,
    /// Which enrolment of that subject.
    pub enrolment: u32,
    /// Who signed it; none where that could not be told.
    pub issuer: Option<IssuerId>,
    /// Its last moment.
    pub not_after: UnixMillis,
}

/// What a certificate is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// All that its access level allows.
    Good(Access),
    /// It may be renewed, and serves for nothing else.
    RenewOnly(RenewReason),
    /// Nothing.
    Refused(Doubt),
}

/// Why a certificate has to be renewed before anything else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenewReason {
    /// It has expired, not long ago.
    Expired,
    /// The manager that signed it has left.
    IssuerLeft,
}

/// Why a certificate is refused. For the manager's log: peers get one answer for all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Doubt {
    /// The registry has no such enrolment.
    #[error("the registry knows no such enrolment")]
    Unknown,
    /// The enrolment is denied.
    #[error("the enrolment is denied")]
    Denied,
    /// Whoever signed it does not count any more.
    #[error("it is signed by an issuer that does not count in the registry")]
    Issuer,
    /// It has expired too long ago, or is of a kind that cannot be renewed then.
    #[error("it has expired")]
    Expired,
}

impl Registry {
    /// What a certificate is worth at this time.
    pub fn standing(&self, certified: &Certified, now: UnixMillis) -> Standing {
        let Certified { subject, enrolment, issuer, not_after } = certified;
        if self.denial(subject).is_some_and(|d| d.up_to >= *enrolment) {
            return Standing::Refused(Doubt::Denied);
        }
        let Some(identity) = self.identity(subject).filter(|i| i.enrolment == *enrolment) else {
            return Standing::Refused(Doubt::Unknown);
        };
        let renewable = |why| match (why, subject) {
            // A manager renews with its own issuer; one whose issuer has left has left itself.
            (_, Subject::Manager(_)) | (RenewReason::Expired, Subject::Console(_)) => None,
            _ => Some(Standing::RenewOnly(why)),
        };
        let left = match self.trust_in(*issuer, now) {
            IssuerTrust::None => return Standing::Refused(Doubt::Issuer),
            IssuerTrust::Renewals => true,
            IssuerTrust::Whole => false,
        };
        let renew_until = *not_after + RENEW_GRACE;
        match now > *not_after {
            true if now > renew_until => Standing::Refused(Doubt::Expired),
            true => renewable(RenewReason::Expired).unwrap_or(Standing::Refused(Doubt::Expired)),
            false if left => renewable(RenewReason::IssuerLeft).unwrap_or(Standing::Refused(Doubt::Issuer)),
            false => Standing::Good(identity.access),
        }
    }

    /// What this registry knows against somebody who has signed something with this certificate, however valid that was
    /// then; none where it knows nothing. Who is unknown here may have come with edits that are unknown, too.
    pub fn knows_against(&self, signer: &Certified) -> Option<Doubt> {
        let Certified { subject, enrolment, issuer, .. } = signer;
        if self.denial(subject).is_some_and(|d| d.up_to >= *enrolment) {
            return Some(Doubt::Denied);
        }
        let issuer = issuer.and_then(|id| self.issuer(&id))?;
        // A manager's issuer goes with it, and is remembered for longer than that it is denied.
        let has_left = matches!(subject, Subject::Manager(_)) && !issuer.is_in_force();
        (issuer.dropped || has_left).then_some(Doubt::Issuer)
    }

    /// What this registry knows against a mark of the journal that was signed with this certificate, whose chain held
    /// then; none where it counts.
    ///
    /// What an issuer in wrong hands has signed never counts. What a manager has signed that has left since counts as
    /// far as this journal goes: it was one of the managers when it showed that. Beyond this journal it does not: whoever
    /// has left has seen the end of its own time, which is here already, and shows nothing after that.
    pub fn knows_against_mark(&self, signer: &Certified, claim: Claim) -> Option<Doubt> {
        let issuer = signer.issuer.and_then(|id| self.issuer(&id));
        match claim {
            _ if issuer.is_some_and(|issuer| issuer.dropped) => Some(Doubt::Issuer),
            Claim::Differs => None,
            Claim::Further if issuer.is_some_and(|issuer| !issuer.is_in_force()) => Some(Doubt::Issuer),
            Claim::Further => self.knows_against(signer),
        }
    }

    fn trust_in(&self, issuer: Option<IssuerId>, now: UnixMillis) -> IssuerTrust {
        // One that was made before issuers were recorded knows none until its manager has recorded its own.
        if self.issuers().next().is_none() {
            return IssuerTrust::Whole;
        }
        match issuer.and_then(|id| self.issuer(&id)) {
            None => IssuerTrust::None,
            Some(known) if known.dropped => IssuerTrust::None,
            Some(known) => match known.renew_only {
                None => IssuerTrust::Whole,
                Some(until) if now <= until => IssuerTrust::Renewals,
                Some(_) => IssuerTrust::None,
            },
        }
    }
}

/// How far what an issuer has signed is believed.
enum IssuerTrust {
    Whole,
    Renewals,
    None,
}
