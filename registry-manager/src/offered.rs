//! Whether what others offer, grants and marks of the journal, is to be gone by.

use crate::clock::unix_now;
use crate::failure;
use crate::requests::certified;
use echelon_core::grant::{Chain, Grant};
use echelon_core::issuer::Doubt;
use echelon_core::registry::Registry;
use echelon_core::signed_mark::{Claim, SignedMark};
use echelon_identity::proof::{UnprovedError, UnprovedMark, check_mark};
use echelon_identity::trust::TrustError;
use echelon_identity::{TrustBundle, check_chain};

/// Why grants prove nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OfferError {
    #[error("they cannot be checked by this registry's roots")]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Unproved(#[from] UnprovedError),
}

/// Checks what is new in a chain for whoever goes by `known`. Gives what the registry knows against whoever has given
/// the first new grant: somebody who has left, or was put out, can still sign, with a time at which that was right. Of
/// the later ones it need not have heard. Takes the time of some signatures.
///
/// # Errors
/// They are not proved.
pub(crate) fn examine(
    registry: &Registry,
    known: &Chain,
    offered: &Chain,
) -> Result<Option<Doubt>, OfferError> {
    let trust = TrustBundle::new(registry.meta().trust.clone())?;
    let signer = check_chain(&trust, Some(known), offered)?;
    Ok(signer.and_then(|signer| registry.knows_against(&certified(&signer))))
}

/// Whether all who go by `known` will believe this grant, as far as this registry can tell.
///
/// # Errors
/// Says why not.
pub(crate) fn is_believed(registry: &Registry, known: &Chain, grant: &Grant) -> Result<(), String> {
    let chain = known.extended(grant.clone()).map_err(|e| e.to_string())?;
    match examine(registry, known, &chain).map_err(|e| failure::in_full(&e))? {
        None => Ok(()),
        Some(against) => Err(against.to_string()),
    }
}

/// Why a mark of the journal that somebody shows is no evidence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MarkError {
    #[error("it cannot be checked by this registry's roots")]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Unproved(#[from] UnprovedMark),
    #[error("its signer does not count")]
    Signer(#[from] Doubt),
}

/// Checks a mark that speaks so against this manager's journal. Takes the time of some signatures.
///
/// # Errors
/// It is no evidence.
pub(crate) fn examine_mark(registry: &Registry, claim: Claim, signed: &SignedMark) -> Result<(), MarkError> {
    let trust = TrustBundle::new(registry.meta().trust.clone())?;
    let signer = check_mark(&trust, signed, unix_now())?;
    registry.knows_against_mark(&certified(&signer), claim).map_or(Ok(()), |doubt| Err(doubt.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::witnesses::Witnesses;
    use echelon_core::access::{Denial, Subject};
    use echelon_core::grant::{Basis, GrantId, Grantor, Mark, Parent, SyncRule};
    use echelon_core::id::{DomainId, HostId, Lineage};
    use echelon_core::issuer;
    use echelon_core::row::{Domain, Host, Meta, Row};
    use echelon_core::time::{Monotonic, UnixMillis};
    use echelon_identity::proof::{prove_grant, prove_mark};
    use echelon_identity::{Authority, Credentials, Issuer, KeyPair, Leaf, Spiffe, lifetime};
    use uuid::Uuid;

    /// The manager that is removed.
    const GONE: HostId = HostId(Uuid::from_u128(2));

    struct World {
        authority: Authority,
        issuer: Issuer,
        chain: Chain,
    }

    impl World {
        fn new() -> Self {
            let authority = Authority::create(&"acme".parse().unwrap(), unix_now()).unwrap();
            let issuer = authority.issue_intermediate(GONE, unix_now()).unwrap();
            let (lineage, host) = (Lineage(Uuid::from_u128(7)), HostId(Uuid::from_u128(1)));
            let first = Grant::first(lineage, host, "hub".parse().unwrap(), unix_now());
            Self { authority, issuer, chain: Chain::begin(first).unwrap() }
        }

        /// What the manager that is gone makes of a backup.
        fn restored(&self) -> Chain {
            let before = self.chain.head().id;
            let mark = Mark { position: before.at(3), hash: [0; 32] };
            let grant = Grant {
                id: GrantId { lineage: Lineage(Uuid::from_u128(8)), epoch: 2 },
                holder: GONE,
                parent: Some(Parent { grant: before, mark }),
                basis: Basis::Restore,
                sync: SyncRule::alone(),
                at: unix_now(),
                grantor: Grantor::Manager("gone".parse().unwrap()),
                reason: None,
                rejects: vec![],
                proof: None,
            };
            self.chain.extended(prove_grant(&self.credentials(), &grant).unwrap()).unwrap()
        }

        fn registry(&self, more: Option<Row>) -> Registry {
            let meta = Meta {
                framework: "acme".parse().unwrap(),
                next_domain: DomainId(1),
                trust: self.authority.trust().roots().to_vec(),
                emptied: None,
                sync: SyncRule::alone(),
            };
            let (name, domain) = ("gone".parse().unwrap(), DomainId::ROOT);
            let host = Host { id: GONE, name, domain, address: None, drained: None };
            let root = Domain { id: DomainId::ROOT, place: None };
            let rows = [Row::Meta(meta), Row::Domain(root), Row::Host(host)].into_iter().chain(more);
            Registry::from_rows(self.chain.head().id.at(5), rows).unwrap()
        }

        fn denial(&self, up_to: u32) -> Row {
            Row::Denial(Denial { subject: Subject::Manager(GONE), up_to, until: unix_now() })
        }

        fn issuer(&self, dropped: bool) -> Row {
            Row::Issuer(self.issuer_row(None, dropped))
        }

        fn issuer_row(&self, renew_only: Option<UnixMillis>, dropped: bool) -> issuer::Issuer {
            let id = self.issuer.credentials().key().public_key_hash();
            let not_after = self.issuer.not_after();
            issuer::Issuer { id, host: GONE, not_after, renew_only, dropped }
        }

        fn credentials(&self) -> Credentials {
            let key = KeyPair::generate().unwrap();
            let subject = Spiffe::Manager(GONE);
            let leaf = Leaf { subject: &subject, name: "gone", enrolment: 1, lifetime: lifetime::MANAGER };
            let chain = self.issuer.issue(&leaf, &key.public_key(), unix_now()).unwrap();
            Credentials::new(key, chain).unwrap()
        }
    }

    #[test]
    fn a_grant_by_somebody_who_was_put_out_is_proved_and_contested() {
        let world = World::new();
        let judged = |row| examine(&world.registry(row), &world.chain, &world.restored()).unwrap();
        assert_eq!(judged(None), None, "who is unknown may have joined later");
        assert_eq!(judged(Some(world.issuer(false))), None);
        assert_eq!(judged(Some(world.denial(0))), None, "an enrolment before");
        assert_eq!(judged(Some(world.denial(1))), Some(Doubt::Denied));
        assert_eq!(judged(Some(world.issuer(true))), Some(Doubt::Issuer));
        let registry = world.registry(Some(world.denial(1)));
        assert_eq!(examine(&registry, &world.restored(), &world.restored()).unwrap(), None, "nothing is new");
        let stranger = World::new();
        assert!(examine(&world.registry(None), &world.chain, &stranger.restored()).is_err());
    }

    /// Protects: whose issuer is in wrong hands proves nothing; who has left has seen nothing that came after, and what it
    /// has shown before counts.
    #[test]
    fn marks_count_by_what_the_registry_knows_of_their_signer() {
        let world = World::new();
        let mark = Mark { position: world.chain.head().id.at(9), hash: [1; 32] };
        let signed = prove_mark(&world.credentials(), mark, unix_now()).unwrap();
        let judged = |row| {
            let registry = world.registry(row);
            [Claim::Further, Claim::Differs].map(|claim| examine_mark(&registry, claim, &signed).is_ok())
        };
        let left = || Row::Issuer(world.issuer_row(Some(unix_now()), false));
        assert_eq!(judged(None), [true, true], "who is unknown may have joined later");
        assert_eq!(judged(Some(world.issuer(false))), [true, true]);
        assert_eq!(judged(Some(world.denial(0))), [true, true], "an enrolment before");
        assert_eq!(judged(Some(world.denial(1))), [false, true]);
        assert_eq!(judged(Some(left())), [false, true]);
        assert_eq!(judged(Some(world.issuer(true))), [false, false]);
        let stranger = prove_mark(&World::new().credentials(), mark, unix_now()).unwrap();
        assert!(examine_mark(&world.registry(None), Claim::Differs, &stranger).is_err());
    }

    /// Protects: what another manager tells that agents have proved is believed as though it had been shown here, by the
    /// same signatures.
    #[test]
    fn what_other_managers_tell_of_marks_is_checked_as_well() {
        let world = World::new();
        let at = |revision| Mark { position: world.chain.head().id.at(revision), hash: [1; 32] };
        let (registry, own) = (world.registry(None), at(5).position);
        let witnesses = Witnesses::new(world.chain.clone());
        let hear = |signed| {
            witnesses.hear_told(&registry, &own, HostId(Uuid::from_u128(9)), &signed);
            witnesses.proved_position()
        };
        let stranger = World::new();
        assert_eq!(hear(prove_mark(&stranger.credentials(), at(9), unix_now()).unwrap()), None);
        assert_eq!(hear(prove_mark(&world.credentials(), at(5), unix_now()).unwrap()), None, "nothing new");
        let proved = hear(prove_mark(&world.credentials(), at(9), unix_now()).unwrap());
        assert_eq!(proved, Some(at(9).position));
    }

    /// Protects: who has shown what it cannot prove is remembered until it does so no more, and is not listened to
    /// all the time.
    #[test]
    fn an_agent_is_listened_to_so_often_and_no_more() {
        let (world, stranger) = (World::new(), World::new());
        let (registry, host) = (world.registry(None), HostId(Uuid::from_u128(5)));
        let witnesses = Witnesses::new(world.chain.clone());
        let shows = |revision, signer: &World| {
            let mark = Mark { position: world.chain.head().id.at(revision), hash: [1; 32] };
            let signed = prove_mark(&signer.credentials(), mark, unix_now()).unwrap();
            witnesses.hear_mark(&registry, Monotonic(revision), host, Claim::Further, &signed);
            witnesses.unproved().get(&host).map(|claim| (claim.position.revision, claim.since.0))
        };
        assert_eq!([9, 8].map(|revision| shows(revision, &stranger)), [Some((9, 9)), Some((8, 9))]);
        assert_eq!((shows(7, &world), witnesses.proved_position().unwrap().revision), (None, 7));
        assert_eq!(shows(9, &stranger), Some((9, 9)));
        assert_eq!(shows(8, &stranger), Some((9, 9)), "once more is too often");
    }

    /// Protects: a manager that was removed, and restores a backup, puts no primary out of its place by way of an agent
    /// that had not heard of the removal.
    #[test]
    fn what_an_agent_holds_of_such_a_grant_is_told_as_contested() {
        let world = World::new();
        for (row, contested) in [(world.issuer(false), false), (world.denial(1), true)] {
            let witnesses = Witnesses::new(world.chain.clone());
            witnesses.hear_chain(&world.registry(Some(row)), HostId(Uuid::from_u128(5)), world.restored());
            let heard = witnesses.heard().borrow().clone().unwrap();
            assert_eq!(heard.against.is_some(), contested);
            let input = heard.input();
            assert_eq!(matches!(input, echelon_core::member::Input::Contested(_)), contested, "{input:?}");
        }
    }
}
