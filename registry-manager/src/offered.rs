//! Whether grants that others offer are to be gone by.

use crate::failure;
use crate::requests::certified;
use echelon_core::grant::{Chain, Grant};
use echelon_core::issuer::Doubt;
use echelon_core::registry::Registry;
use echelon_identity::proof::UnprovedError;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::clock::unix_now;
    use crate::witnesses::Witnesses;
    use echelon_core::access::{Denial, Subject};
    use echelon_core::grant::{Basis, GrantId, Grantor, Mark, Parent, SyncRule};
    use echelon_core::id::{DomainId, HostId, Lineage};
    use echelon_core::issuer;
    use echelon_core::row::{Domain, Host, Meta, Row};
    use echelon_identity::proof::prove_grant;
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
            let key = KeyPair::generate().unwrap();
            let subject = Spiffe::Manager(GONE);
            let leaf = Leaf { subject: &subject, name: "gone", enrolment: 1, lifetime: lifetime::MANAGER };
            let chain = self.issuer.issue(&leaf, &key.public_key(), unix_now()).unwrap();
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
            let signer = Credentials::new(key, chain).unwrap();
            self.chain.extended(prove_grant(&signer, &grant).unwrap()).unwrap()
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
            let id = self.issuer.credentials().key().public_key_hash();
            let not_after = self.issuer.not_after();
            Row::Issuer(issuer::Issuer { id, host: GONE, not_after, renew_only: None, dropped })
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
