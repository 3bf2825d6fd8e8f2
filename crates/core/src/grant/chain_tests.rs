use super::*;
use crate::grant::{Grantor, Mark, SyncRule};
use crate::id::Lineage;
use crate::time::UnixMillis;
use uuid::Uuid;

fn lineage(n: u128) -> Lineage {
    Lineage(Uuid::from_u128(n))
}

fn host(n: u128) -> HostId {
    HostId(Uuid::from_u128(n))
}

fn first() -> Chain {
    let name = "a".parse().unwrap();
    Chain::begin(Grant::first(lineage(1), host(1), name, UnixMillis(0))).unwrap()
}

/// The chain with one grant more, which builds on this revision.
fn then(chain: &Chain, basis: Basis, of: u128, holder: u128, revision: u64) -> Chain {
    chain.extended(grant(chain, basis, of, holder, revision)).unwrap()
}

fn grant(chain: &Chain, basis: Basis, of: u128, holder: u128, revision: u64) -> Grant {
    let before = chain.head().id;
    let mark = Mark { position: before.at(revision), hash: [0; 32] };
    Grant {
        id: GrantId { lineage: lineage(of), epoch: before.epoch + 1 },
        holder: host(holder),
        parent: Some(Parent { grant: before, mark }),
        basis,
        sync: SyncRule::alone(),
        at: UnixMillis(0),
        grantor: Grantor::Manager("a".parse().unwrap()),
        reason: None,
        rejects: vec![],
        proof: None,
    }
}

fn choice(chain: &Chain, rejects: Vec<GrantId>) -> Chain {
    let of = chain.head().id.lineage.0.as_u128();
    let choice = Grant { rejects, ..grant(chain, Basis::Choice, of, 1, 9) };
    chain.extended(choice).unwrap()
}

fn cut(relation: Relation) -> u64 {
    match relation {
        Relation::Newer(cut) => cut.parent.mark.revision(),
        other => panic!("{other:?} is not newer"),
    }
}

#[test]
fn a_chain_that_goes_on_beats_its_beginning() {
    let one = first();
    let two = then(&one, Basis::Handover, 1, 2, 5);
    let three = then(&two, Basis::Force, 2, 3, 8);
    assert_eq!(one.compare(&one), Relation::Same);
    assert_eq!(cut(one.compare(&two)), 5);
    assert_eq!(cut(one.compare(&three)), 5, "what the first new grant builds on, not the last");
    assert_eq!(cut(two.compare(&three)), 8);
    assert_eq!(three.compare(&one), Relation::Older);
}

#[test]
fn two_children_of_one_parent_are_a_conflict_until_somebody_chooses() {
    let one = first();
    let left = then(&one, Basis::Force, 2, 2, 5);
    let right = then(&one, Basis::Force, 3, 3, 7);
    let conflict = Relation::Conflict { ours: left.head().id, theirs: right.head().id };
    assert_eq!(left.compare(&right), conflict);
    let chosen = choice(&left, vec![right.head().id]);
    assert_eq!(cut(right.compare(&chosen)), 5, "what the other branch wrote above its parent is given up");
    assert_eq!(chosen.compare(&right), Relation::Older);
    assert_eq!(cut(one.compare(&chosen)), 5);
    let chosen = choice(&right, vec![left.head().id]);
    assert_eq!(cut(left.compare(&chosen)), 5, "also where the chosen one builds on a later state");
}

#[test]
fn a_choice_does_not_reject_what_it_did_not_know() {
    let one = first();
    let left = then(&one, Basis::Force, 2, 2, 5);
    let right = then(&one, Basis::Force, 3, 3, 7);
    let further = then(&right, Basis::Handover, 3, 4, 9);
    let chosen = choice(&left, vec![right.head().id]);
    assert!(matches!(chosen.compare(&further), Relation::Conflict { .. }));
    // Both sides chosen: whoever chooses last, knowing the other choice, decides.
    let other = choice(&right, vec![left.head().id]);
    assert!(matches!(chosen.compare(&other), Relation::Conflict { .. }));
    let last = choice(&chosen, vec![right.head().id, other.head().id]);
    assert_eq!(cut(other.compare(&last)), 5);
    assert_eq!(last.compare(&other), Relation::Older);
}

#[test]
fn another_registry_is_foreign() {
    let other = Grant::first(lineage(9), host(1), "a".parse().unwrap(), UnixMillis(0));
    assert_eq!(first().compare(&Chain::begin(other).unwrap()), Relation::Foreign);
}

#[test]
fn a_position_belongs_to_a_chain_up_to_what_the_next_grant_builds_on() {
    let chain = then(&then(&first(), Basis::Handover, 1, 2, 5), Basis::Force, 2, 3, 8);
    let at = |of, epoch, revision| GrantId { lineage: lineage(of), epoch }.at(revision);
    for inside in [at(1, 1, 0), at(1, 1, 5), at(1, 2, 6), at(1, 2, 8), at(2, 3, 9), at(2, 3, 1000)] {
        assert!(chain.contains(&inside), "{inside:?}");
    }
    for outside in [at(1, 1, 6), at(1, 2, 5), at(1, 2, 9), at(2, 3, 8), at(2, 4, 9), at(3, 3, 9)] {
        assert!(!chain.contains(&outside), "{outside:?}");
    }
}

#[test]
fn grants_that_do_not_follow_are_no_chain() {
    let one = first();
    let good = grant(&one, Basis::Force, 2, 2, 5);
    let id = good.id;
    let extend = |grant: Grant| one.extended(grant).unwrap_err();
    assert_eq!(extend(Grant { parent: None, ..good.clone() }), ChainError::Link(id));
    assert_eq!(extend(Grant { basis: Basis::Init, ..good.clone() }), ChainError::Link(id));
    assert_eq!(extend(Grant { basis: Basis::Handover, ..good.clone() }), ChainError::Lineage(id));
    assert_eq!(extend(Grant { rejects: vec![id], ..good.clone() }), ChainError::Rejects(id));
    let same = GrantId { lineage: lineage(1), epoch: 2 };
    assert_eq!(extend(Grant { id: same, ..good.clone() }), ChainError::Lineage(same));
    let early = GrantId { epoch: 1, ..id };
    assert_eq!(extend(Grant { id: early, ..good.clone() }), ChainError::Link(early));
    let two = one.extended(good.clone()).unwrap();
    let back = grant(&two, Basis::Handover, 2, 3, 4);
    assert_eq!(
        two.extended(back.clone()).unwrap_err(),
        ChainError::Link(back.id),
        "it builds on an older state"
    );
    assert_eq!(Chain::new(vec![good]).unwrap_err(), ChainError::First);
    assert_eq!(Chain::new(vec![]).unwrap_err(), ChainError::Count { count: 0 });
}

#[test]
fn what_gives_up_revisions_is_looked_for_after_one_grant() {
    let one = first();
    let two = then(&one, Basis::Force, 2, 2, 5);
    let three = then(&two, Basis::Handover, 2, 3, 5);
    assert!(!one.gives_up_since(one.head().id));
    assert!(three.gives_up_since(one.head().id) && !three.gives_up_since(two.head().id));
    assert!(three.gives_up_since(GrantId { epoch: 9, ..one.head().id }), "none of this chain");
}
