use super::*;
use crate::grant::{Basis, GrantId, Grantor, MAX_GRANTS, Mark, Parent, Relation, SyncRule};
use crate::id::{HostId, Lineage};
use crate::time::UnixMillis;
use proptest::prelude::*;
use uuid::Uuid;

fn host(n: u128) -> HostId {
    HostId(Uuid::from_u128(n))
}

fn first(lineage: u128) -> Chain {
    let lineage = Lineage(Uuid::from_u128(lineage));
    Chain::begin(Grant::first(lineage, host(1), "a".parse().unwrap(), UnixMillis(0))).unwrap()
}

/// The chain with so many hand-overs more to this host.
fn longer(chain: &Chain, by: usize, holder: u128) -> Chain {
    let mut before = chain.head().id;
    let grants: Vec<_> = (0..by)
        .map(|_| {
            let parent = Parent { grant: before, mark: Mark { position: before.at(9), hash: [0; 32] } };
            before = GrantId { epoch: before.epoch + 1, ..before };
            Grant {
                id: before,
                holder: host(holder),
                parent: Some(parent),
                basis: Basis::Handover,
                sync: SyncRule::alone(),
                at: UnixMillis(0),
                grantor: Grantor::Manager("a".parse().unwrap()),
                reason: None,
                rejects: vec![],
                proof: None,
            }
        })
        .collect();
    chain.followed_by(grants).unwrap()
}

/// Two chains that begin with as many common grants, and go on for as many each; on the way the twins have the same
/// names.
fn forked(common: usize, ours: usize, theirs: usize) -> (Chain, Chain) {
    let stem = longer(&first(1), common, 1);
    (longer(&stem, ours, 2), longer(&stem, theirs, 3))
}

/// Tells a chain. Gives what came, and how many grants were told.
fn tell(from: &mut Outgoing, to: &mut Incoming, chain: &Chain, most: usize) -> (Chain, usize) {
    let parts = from.tell(chain, most, |_| 1);
    let told = parts.iter().map(|part| part.grants.len()).sum();
    let (last, before) = parts.split_last().unwrap();
    assert!(!last.more && before.iter().all(|part| part.more && part.grants.len() == most), "{most}");
    assert!(last.grants.len() <= most);
    let heard = parts.into_iter().map(|part| to.take(part).unwrap()).last().unwrap();
    (heard, told)
}

proptest! {
    /// Protects: whoever is behind, ahead, or on another branch learns the chain, and what that costs follows what it
    /// lacks, not what there is.
    #[test]
    fn what_the_other_side_lacks_is_told_and_little_more(
        (common, ours, theirs) in (0..200_usize, 0..40_usize, 0..40_usize),
        keeps in prop::bool::weighted(0.9),
        (most, later) in (1..20_usize, 0..5_usize),
    ) {
        let (ours, theirs) = forked(common, ours, theirs);
        let shared = ours.common(&theirs);
        let (lacks, extra) = (ours.grants().len() - shared, theirs.grants().len() - shared);
        let kept = keeps.then_some(&theirs);
        let (mut out, mut into) = (Outgoing::new(trail(kept)), Incoming::new(kept.cloned()));
        prop_assert_eq!(out.has_told(&ours), kept == Some(&ours));
        let (heard, told) = tell(&mut out, &mut into, &ours, most);
        prop_assert!(heard == ours && out.has_told(&ours));
        let bound = if keeps { lacks + extra } else { ours.grants().len() };
        prop_assert!(told <= bound, "{} told, {} lacking", told, lacks);
        // It goes on: only what is new is told.
        let next = longer(&ours, later, 4);
        let (heard, told) = tell(&mut out, &mut into, &next, most);
        prop_assert!(heard == next);
        prop_assert_eq!(told, later);
        // And the way back.
        let (mut back, mut at_teller) = (into.answer(), Incoming::new(out.told().cloned()));
        let (heard, told) = tell(&mut back, &mut at_teller, &theirs, most);
        prop_assert!(heard == theirs);
        prop_assert_eq!(told, extra);
    }
}

#[test]
fn a_chain_as_long_as_any_is_named_by_few_and_told_in_as_many_parts_as_it_takes() {
    let whole = longer(&first(1), MAX_GRANTS - 1, 2);
    let count = whole.grants().len();
    assert_eq!(count, MAX_GRANTS);
    assert!(whole.extended(longer(&first(1), 1, 3).head().clone()).is_err());
    for kept in [1, 1_000, count - 1_000, count - 1, count] {
        let kept = whole.beginning(kept).unwrap();
        let trail = trail(Some(&kept));
        assert!(trail.len() <= MAX_TRAIL, "{}", trail.len());
        let (mut out, mut into) = (Outgoing::new(trail), Incoming::new(Some(kept.clone())));
        let (heard, told) = tell(&mut out, &mut into, &whole, 100);
        assert_eq!((heard.compare(&whole), told), (Relation::Same, count - kept.grants().len()));
        // Somebody far behind meets somebody who is far ahead.
        let (mut out, mut into) =
            (Outgoing::new(super::trail(Some(&whole))), Incoming::new(Some(whole.clone())));
        let (heard, told) = tell(&mut out, &mut into, &kept, 1_000);
        assert!(heard == kept && told <= count - kept.grants().len(), "{told}");
        let (mut back, mut at_teller) = (into.answer(), Incoming::new(out.told().cloned()));
        let (heard, told) = tell(&mut back, &mut at_teller, &whole, 1_000);
        assert_eq!((heard.compare(&whole), told), (Relation::Same, count - kept.grants().len()));
    }
}

#[test]
fn what_comes_before_all_has_come_is_a_chain_that_can_be_kept_and_gone_on_from() {
    let (whole, kept) = (longer(&first(1), 90, 2), longer(&first(1), 10, 2));
    let parts = Outgoing::new(trail(Some(&kept))).tell(&whole, 20, |_| 1);
    assert_eq!(parts.len(), 4);
    let mut into = Incoming::new(Some(kept));
    let half = parts.into_iter().take(2).map(|part| into.take(part).unwrap()).last().unwrap();
    assert_eq!((half.grants().len(), whole.compare(&half)), (51, Relation::Older));
    let (mut out, mut into) = (Outgoing::new(trail(Some(&half))), Incoming::new(Some(half)));
    let (heard, told) = tell(&mut out, &mut into, &whole, 20);
    assert!(heard == whole && told == 40);
}

#[test]
fn a_build_that_knows_of_no_grants_is_told_none_and_one_that_names_only_its_newest_all() {
    let chain = longer(&first(1), 5, 2);
    assert!(Outgoing::new(vec![]).has_told(&chain));
    let mut out = Outgoing::new(vec![longer(&chain, 1, 3).digest()]);
    assert!(!out.has_told(&chain));
    let parts = out.tell(&chain, 100, |_| 1);
    assert_eq!((parts.len(), parts[0].after, parts[0].grants.len()), (1, None, 6));
}

/// Protects: whoever tells parts without end, or out of order, is not listened to.
#[test]
fn parts_that_do_not_follow_are_refused() {
    let (chain, other) = (longer(&first(1), 40, 2), longer(&first(7), 40, 2));
    let parts = |chain: &Chain| Outgoing::new(trail(None)).tell(chain, 10, |_| 1);
    let taken = |kept: Option<&Chain>, told: &[&Part]| {
        let mut into = Incoming::new(kept.cloned());
        told.iter().map(|part| into.take(Part::clone(part))).last().unwrap().map(drop)
    };
    let (ours, theirs) = (parts(&chain), parts(&other));
    assert_eq!(taken(None, &[&ours[0], &ours[1]]), Ok(()));
    assert_eq!(taken(None, &[&ours[1]]), Err(PartError::Gap), "nothing is known");
    assert_eq!(taken(None, &[&ours[0], &ours[2]]), Err(PartError::Gap), "one is missing");
    assert_eq!(taken(None, &[&ours[0], &ours[0]]), Err(PartError::Gap), "it begins anew before it has ended");
    assert_eq!(taken(Some(&chain), &[&ours[0], &ours[2]]), Err(PartError::Gap), "though that is known");
    assert_eq!(taken(None, &[&ours[0], &theirs[1]]), Err(PartError::Gap));
    let nothing = Part { after: Some(chain.digest()), grants: vec![], more: true };
    assert_eq!(taken(Some(&chain), &[&nothing]), Err(PartError::Gap), "it brings nothing");
    let wrong = Part { after: Some(chain.digest()), ..ours[1].clone() };
    assert!(matches!(taken(Some(&chain), &[&wrong]), Err(PartError::Chain(ChainError::Link(_)))));
    let none = Part { after: None, grants: vec![], more: false };
    assert_eq!(taken(None, &[&none]), Err(PartError::Chain(ChainError::Count { count: 0 })));
}
