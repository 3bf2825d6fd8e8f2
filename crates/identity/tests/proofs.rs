//! Grants are believed only from those who may give them, with real certificates.
#![allow(clippy::unwrap_used)] // These are tests; clippy only sees that of functions marked as such.

use echelon_core::grant::{Basis, Chain, Grant, GrantId, Grantor, Mark, Parent, SyncRule};
use echelon_core::id::{HostId, Lineage};
use echelon_core::signed_mark::SignedMark;
use echelon_core::time::UnixMillis;
use echelon_identity::proof::{
    ProofError, ProveError, Purpose, UnprovedError, UnprovedMark, check_mark, prove, prove_grant, prove_mark,
    verify,
};
use echelon_identity::{Authority, Credentials, Issuer, KeyPair, Leaf, Spiffe, TrustBundle, check_chain};
use echelon_wire::Wire;
use std::time::{Duration, Instant};
use uuid::Uuid;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A framework with its root and one issuer.
struct Framework {
    authority: Authority,
    issuer: Issuer,
}

impl Framework {
    fn new(name: &str) -> Self {
        let authority = Authority::create(&name.parse().unwrap(), NOW).unwrap();
        let issuer = authority.issue_intermediate(host(1), NOW).unwrap();
        Self { authority, issuer }
    }

    fn trust(&self) -> TrustBundle {
        self.authority.trust()
    }

    /// The credentials of somebody for a day from `NOW`.
    fn credentials(&self, subject: &Spiffe) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let leaf = Leaf { subject, name: "x", enrolment: 1, lifetime: DAY };
        let chain = self.issuer.issue(&leaf, &key.public_key(), NOW).unwrap();
        Credentials::new(key, chain).unwrap()
    }
}

fn host(n: u128) -> HostId {
    HostId(Uuid::from_u128(n))
}

fn anna() -> Spiffe {
    Spiffe::Console("anna".parse().unwrap())
}

/// The grant of host 1 at init.
fn init() -> Chain {
    let lineage = Lineage(Uuid::from_u128(1));
    Chain::begin(Grant::first(lineage, host(1), "a".parse().unwrap(), NOW)).unwrap()
}

/// An unproved grant to host 2 that follows on a chain.
fn next(chain: &Chain, basis: Basis) -> Grant {
    let before = chain.head();
    let lineage = match basis.begins_lineage() {
        true => Lineage(Uuid::from_u128(u128::from(before.id.epoch) + 1)),
        false => before.id.lineage,
    };
    Grant {
        id: GrantId { lineage, epoch: before.id.epoch + 1 },
        holder: host(2),
        parent: Some(Parent { grant: before.id, mark: Mark { position: before.id.at(7), hash: [3; 32] } }),
        basis,
        sync: SyncRule::alone(),
        at: NOW,
        grantor: Grantor::Console("anna".parse().unwrap()),
        reason: None,
        rejects: vec![],
        proof: None,
    }
}

fn extended(chain: &Chain, basis: Basis, by: &Credentials) -> Chain {
    chain.extended(prove_grant(by, &next(chain, basis)).unwrap()).unwrap()
}

#[test]
fn what_was_signed_is_known_by_its_signer_also_after_its_certificate_has_run_out() -> Result<(), ProveError> {
    let acme = Framework::new("acme");
    let proof = prove(&acme.credentials(&anna()), Purpose::Grant, b"words")?;
    assert_eq!(proof.certificates.len(), 2, "leaf and issuer: the root is known");
    let trust = acme.trust();
    assert_eq!(verify(&trust, &proof, Purpose::Grant, b"words", NOW).unwrap().subject, anna());
    for other in [NOW + DAY * 2, NOW - DAY] {
        assert!(matches!(verify(&trust, &proof, Purpose::Grant, b"words", other), Err(ProofError::Chain(_))));
    }
    assert_eq!(verify(&trust, &proof, Purpose::Grant, b"other words", NOW), Err(ProofError::Signature));
    let other = Framework::new("other").trust();
    assert!(matches!(verify(&other, &proof, Purpose::Grant, b"words", NOW), Err(ProofError::Chain(_))));
    Ok(())
}

#[test]
fn certificates_that_are_none_prove_nothing() {
    let acme = Framework::new("acme");
    let trust = acme.trust();
    let good = prove(&acme.credentials(&anna()), Purpose::Grant, b"words").unwrap();
    let with = |certificates: Vec<Vec<u8>>| {
        let proof = echelon_core::grant::Proof { certificates, ..good.clone() };
        verify(&trust, &proof, Purpose::Grant, b"words", NOW).unwrap_err()
    };
    with(vec![]);
    with(vec![vec![0x30; 5]]);
    with(vec![good.certificates[0].clone()]);
    with(vec![good.certificates[0].clone(); 100]);
    // An issuer is nobody, though its chain is good.
    let issuer = prove(acme.issuer.credentials(), Purpose::Grant, b"words").unwrap();
    assert!(matches!(
        verify(&trust, &issuer, Purpose::Grant, b"words", NOW),
        Err(ProofError::Certificate(_))
    ));
    // Another's certificates around a signature.
    let other = prove(&acme.credentials(&anna()), Purpose::Grant, b"words").unwrap();
    assert_eq!(with(other.certificates), ProofError::Signature);
}

#[test]
fn each_kind_of_grant_has_its_own_signer() {
    let acme = Framework::new("acme");
    let trust = acme.trust();
    let signers = [
        anna(),
        Spiffe::Console("berta".parse().unwrap()),
        Spiffe::Manager(host(1)),
        Spiffe::Manager(host(2)),
        Spiffe::Manager(host(3)),
        Spiffe::Host(host(1)),
    ];
    let before = init();
    for (basis, right) in [
        (Basis::Force, Some(0)),
        (Basis::Choice, Some(0)),
        (Basis::Handover, Some(2)),
        (Basis::Restore, Some(3)),
        (Basis::Majority, None),
    ] {
        for (i, signer) in signers.iter().enumerate() {
            let after = extended(&before, basis, &acme.credentials(signer));
            let checked = check_chain(&trust, Some(&before), &after);
            match right == Some(i) {
                true => {
                    let given_by = checked.unwrap().unwrap();
                    assert_eq!(given_by.subject, *signer, "{basis:?}");
                    let issuer = acme.issuer.credentials().key().public_key_hash();
                    assert_eq!(given_by.issuer, Some(issuer), "whether it counts is for others to say");
                }
                false => {
                    let (grant, signer) = (after.head().id, signer.clone());
                    assert_eq!(checked, Err(UnprovedError::Signer { grant, signer }), "{basis:?}");
                }
            }
        }
    }
}

#[test]
fn a_grant_that_was_changed_or_is_of_another_framework_is_not_believed() {
    let (acme, other) = (Framework::new("acme"), Framework::new("other"));
    let before = init();
    let good = prove_grant(&acme.credentials(&anna()), &next(&before, Basis::Force)).unwrap();
    let check = |grant: Grant| check_chain(&acme.trust(), Some(&before), &before.extended(grant).unwrap());
    check(good.clone()).unwrap();
    let tampered = [
        Grant { holder: host(9), ..good.clone() },
        Grant { at: NOW + Duration::from_millis(1), ..good.clone() },
        Grant { sync: SyncRule { min_sync: 0, ..SyncRule::alone() }, ..good.clone() },
        Grant { reason: Some("no".parse().unwrap()), ..good.clone() },
    ];
    for grant in tampered {
        let source = ProofError::Signature;
        assert_eq!(check(grant), Err(UnprovedError::Proof { grant: good.id, source }));
    }
    // The time that a grant names is signed with it: a certificate that has run out signs nothing new.
    let late = Grant { at: NOW + DAY * 2, ..next(&before, Basis::Force) };
    let late = prove_grant(&acme.credentials(&anna()), &late).unwrap();
    assert!(matches!(check(late), Err(UnprovedError::Proof { source: ProofError::Chain(_), .. })));
    let foreign = prove_grant(&other.credentials(&anna()), &next(&before, Basis::Force)).unwrap();
    assert!(matches!(check(foreign), Err(UnprovedError::Proof { source: ProofError::Chain(_), .. })));
    assert_eq!(check(good.unproved()), Err(UnprovedError::Missing(good.id)));
}

/// The chain without the proofs of its grants from `from` up to before `to`.
fn without_proofs(chain: &Chain, from: usize, to: usize) -> Chain {
    let strip = |(at, grant): (usize, &Grant)| match (from..to).contains(&at) {
        true => grant.unproved(),
        false => grant.clone(),
    };
    Chain::new(chain.grants().enumerate().map(strip).collect()).unwrap()
}

fn long(count: usize, signer: &Credentials) -> Chain {
    (1..count).fold(init(), |chain, _| extended(&chain, Basis::Force, signer))
}

/// Protects: builds of old took the proofs of all but the newest grants away; whoever knows none trusts whom it asks.
#[test]
fn grants_without_proof_are_taken_only_before_the_first_one_with_it_of_the_first_chain_ever_seen() {
    let acme = Framework::new("acme");
    let (trust, anna) = (acme.trust(), acme.credentials(&anna()));
    let chain = long(40, &anna);
    check_chain(&trust, None, &chain).unwrap();
    check_chain(&trust, Some(&init()), &chain).unwrap();
    let id = |at| chain.grants().nth(at).unwrap().id;
    let cut = without_proofs(&chain, 0, 8);
    check_chain(&trust, None, &cut).unwrap();
    assert_eq!(check_chain(&trust, Some(&init()), &cut), Err(UnprovedError::Missing(id(1))));
    let known = Chain::new(chain.grants().take(20).cloned().collect()).unwrap();
    check_chain(&trust, Some(&known), &cut).unwrap();
    let stripped = without_proofs(&chain, 39, 40);
    assert_eq!(check_chain(&trust, None, &stripped), Err(UnprovedError::Missing(id(39))));
}

/// Protects: what promotions cost in the long run. A thousand grants, about one a week for twenty years.
#[test]
fn a_thousand_grants_are_all_proved_and_have_less_than_two_kib_each() {
    let acme = Framework::new("acme");
    let (trust, anna) = (acme.trust(), acme.credentials(&anna()));
    let chain = long(1_000, &anna);
    let bytes = chain.encoded_len();
    let began = Instant::now();
    check_chain(&trust, Some(&init()), &chain).unwrap();
    println!("{bytes} bytes, checked in {:?}", began.elapsed());
    assert!((1_000 << 10..2_000 << 10).contains(&bytes), "{bytes}");
}

/// Protects: a mark of the journal is proved by a registry manager alone, as it is and when it says, and as long as the
/// issuer of that manager has a certificate; a grant's signature is none of a mark.
#[test]
fn a_mark_is_proved_by_a_registry_manager_and_by_nobody_else() {
    let acme = Framework::new("acme");
    let trust = acme.trust();
    let position = init().head().id.at(7);
    let mark = Mark { position, hash: [3; 32] };
    let manager = acme.credentials(&Spiffe::Manager(host(2)));
    let good = prove_mark(&manager, mark, NOW).unwrap();
    let later = NOW + DAY * 100;
    let signer = check_mark(&trust, &good, later).unwrap();
    let issuer = acme.issuer.credentials().key().public_key_hash();
    assert_eq!((signer.subject, signer.issuer), (Spiffe::Manager(host(2)), Some(issuer)));
    assert!(matches!(check_mark(&trust, &good, NOW + DAY * 400), Err(UnprovedMark::Ended(_))));
    for subject in [anna(), Spiffe::Host(host(2))] {
        let shown = prove_mark(&acme.credentials(&subject), mark, NOW).unwrap();
        assert_eq!(check_mark(&trust, &shown, NOW), Err(UnprovedMark::Signer(subject)));
    }
    let tampered = [
        SignedMark { mark: Mark { position: position.next(), ..mark }, ..good.clone() },
        SignedMark { mark: Mark { hash: [4; 32], ..mark }, ..good.clone() },
        SignedMark { at: NOW + Duration::from_millis(1), ..good.clone() },
    ];
    for shown in tampered {
        assert_eq!(check_mark(&trust, &shown, NOW), Err(UnprovedMark::Proof(ProofError::Signature)));
    }
    let late = prove_mark(&manager, mark, NOW + DAY * 2).unwrap();
    assert!(matches!(check_mark(&trust, &late, NOW), Err(UnprovedMark::Proof(ProofError::Chain(_)))));
    let stranger = Framework::new("acme").credentials(&Spiffe::Manager(host(2)));
    let foreign = prove_mark(&stranger, mark, NOW).unwrap();
    assert!(matches!(check_mark(&trust, &foreign, NOW), Err(UnprovedMark::Proof(ProofError::Chain(_)))));
    let of_a_mark = prove(&manager, Purpose::Mark, b"words").unwrap();
    let as_a_grant = verify(&trust, &of_a_mark, Purpose::Grant, b"words", NOW);
    assert_eq!(as_a_grant, Err(ProofError::Signature));
}
