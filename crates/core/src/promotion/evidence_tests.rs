use super::*;
use crate::board::Report;
use crate::grant::{Basis, GrantId, Grantor, Mark, Parent, SyncRule};
use crate::id::Lineage;
use crate::member::Seals;
use crate::message::Holding;
use crate::promotion::alarms::tests::{HUB, SPARE, THIRD, registry};
use crate::time::UnixMillis;
use uuid::Uuid;

/// The primary on `HUB` has handed over to `SPARE` at this revision.
fn handed_over(at: u64) -> Chain {
    let lineage = Lineage(Uuid::from_u128(9));
    let chain = Chain::begin(Grant::first(lineage, HUB, "hub".parse().unwrap(), UnixMillis(0))).unwrap();
    let before = chain.head().id;
    let parent = Parent { grant: before, mark: Mark { position: before.at(at), hash: [0; 32] } };
    chain.extended(forced(&chain, lineage, SPARE, Basis::Handover, parent)).unwrap()
}

fn forced(chain: &Chain, lineage: Lineage, holder: HostId, basis: Basis, parent: Parent) -> Grant {
    Grant {
        id: GrantId { lineage, epoch: chain.head().id.epoch + 1 },
        holder,
        parent: Some(parent),
        basis,
        sync: SyncRule::alone(),
        at: UnixMillis(0),
        grantor: Grantor::Manager("hub".parse().unwrap()),
        reason: None,
        rejects: vec![],
        proof: None,
    }
}

/// A standby that knows of a hand-over, and has not got all that came before it: what it lacks was acknowledged, also
/// where nobody who holds it is left.
#[test]
fn what_the_newest_grant_builds_on_counts_as_seen_by_somebody() {
    let (chain, rule) = (handed_over(17), SyncRule { members: [HUB, THIRD].into(), min_sync: 1 });
    let (head, registry, board) = (chain.head().id, registry(&rule), Board::new(Monotonic(0)));
    let last = Mark { position: chain.first().id.at(14), hash: [0; 32] };
    let standing = Standing {
        grant: head,
        chain: None,
        last,
        committed: 14,
        rule: rule.clone(),
        seals: Seals::default(),
        leads: false,
    };
    let sight = Sight {
        registry: &registry,
        board: &board,
        me: THIRD,
        chain: &chain,
        standing: &standing,
        peers: &BTreeMap::new(),
        rivals: &[],
        copying: false,
        rolled_back: false,
        proved: None,
        unproved: &BTreeMap::new(),
        now: Monotonic(0),
    };
    let parent = Parent { grant: head, mark: last };
    let proposal = Proposal {
        grant: forced(&chain, Lineage(Uuid::from_u128(10)), THIRD, Basis::Force, parent),
        primary: SPARE,
        primary_answers: false,
        rule,
        heard: BTreeMap::from([(THIRD, standing.clone())]),
        doubt: Some(Refused::TooFewHeard { needed: 2, heard: 1, silent: vec![HUB] }),
    };
    let asked = Asked { way: Way::Forced, id: RequestId(Uuid::from_u128(1)), to: THIRD, refused: None };
    let loss = sight.evidence(&asked, Some(&proposal)).loss;
    assert_eq!((loss.stays, loss.count, loss.revisions), (14, 3, vec![15, 16, 17]));
    assert_eq!((loss.unheard, loss.possible), (vec!["hub".to_owned()], true));

    // What an agent says to have seen beyond that counts where it is proved, and else not.
    let [digest, place] = Default::default();
    let holds = |revision| Some(Holding { position: head.at(revision), view_revision: 1, digest, place });
    let mut board = Board::new(Monotonic(0));
    for (host, revision) in [(SPARE, 40), (HUB, 14)] {
        board.heard(
            Monotonic(0),
            host,
            Report { incarnation: 1, holds: holds(revision), ..Report::default() },
        );
    }
    let told = |proved| {
        let evidence = Sight { board: &board, proved, ..sight }.evidence(&asked, Some(&proposal));
        (evidence.loss.count, evidence.agents.newest.map(|at| at.revision))
    };
    assert_eq!(told(None), (3, None), "of the position under the new grant nobody has heard");
    assert_eq!(told(Some(head.at(20))), (6, Some(20)));
}
