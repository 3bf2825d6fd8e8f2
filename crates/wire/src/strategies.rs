//! Proptest strategies for core's types: any value that core's constructors allow, small ones first.

use crate::Wire;
use echelon_core::access::{Access, Denial, Identity, Subject, Token};
use echelon_core::alarm::{Notice, Raised, Severity};
use echelon_core::announce::{AnnouncedSpec, Announcement, HostWord};
use echelon_core::backup::{BackupHead, BackupPart};
use echelon_core::board::Told;
use echelon_core::change::{Change, ChangeSet, NewIssuer, PackageSpec};
use echelon_core::check::{Check, CheckKind, CheckText};
use echelon_core::digest::Digest;
use echelon_core::endpoint::{Address, Endpoint};
use echelon_core::fencing::Fencing;
use echelon_core::grant::{Basis, Chain, Grant, GrantId, Grantor, Mark, Parent, Part, Proof, SyncRule};
use echelon_core::id::{DomainId, HostId, Lineage, RequestId, TokenId};
use echelon_core::issuer::Issuer;
use echelon_core::member::{Append, Entry, MemberMessage, Seal, Standing};
use echelon_core::message::*;
use echelon_core::name::{ConsoleName, DomainName, DomainPath, FrameworkName, HostName, ManagerType, Text};
use echelon_core::package::{HostSide, Listens, Package, Role, Withdrawal};
use echelon_core::passphrase::Passphrase;
use echelon_core::policy::{Failback, Policy, PolicySettings, Probe, TypeSelector, Walk};
use echelon_core::position::Position;
use echelon_core::promotion::{Promoted, Promotion};
use echelon_core::report::{Down, Outcome};
use echelon_core::row::{Actor, Commit, Domain, Drain, Host, Meta, Row, RowChange, RowKey};
use echelon_core::setting::Setting;
use echelon_core::signed_mark::SignedMark;
use echelon_core::time::UnixMillis;
use echelon_core::view::{Manager, Place, ViewChange, ViewKey, ViewRow};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;
use uuid::Uuid;

/// Lists are short: two entries show what twenty would.
const LIST: std::ops::Range<usize> = 0..3;

fn parsed<T: std::str::FromStr + std::fmt::Debug>(regex: &'static str) -> impl Strategy<Value = T> {
    regex.prop_filter_map("core refuses it", |text: String| text.parse().ok())
}

fn host_name() -> impl Strategy<Value = HostName> {
    parsed("[a-z0-9][a-z0-9._-]{0,30}")
}

fn manager_type() -> impl Strategy<Value = ManagerType> {
    parsed("[a-z0-9][a-z0-9._-]{0,10}")
}

fn domain_path() -> impl Strategy<Value = DomainPath> {
    vec(parsed::<DomainName>("[a-z0-9][a-z0-9._-]{0,8}"), 0..5)
        .prop_map(|steps| DomainPath::from_steps(steps).expect("five levels are not too deep"))
}

fn text() -> impl Strategy<Value = Text> {
    any::<String>().prop_map(|t| Text::lossy(&t))
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn host_id() -> impl Strategy<Value = HostId> {
    uuid().prop_map(HostId)
}

fn token_id() -> impl Strategy<Value = TokenId> {
    uuid().prop_map(TokenId)
}

fn request_id() -> impl Strategy<Value = RequestId> {
    uuid().prop_map(RequestId)
}

fn domain_id() -> impl Strategy<Value = DomainId> {
    any::<u64>().prop_map(DomainId)
}

fn unix_millis() -> impl Strategy<Value = UnixMillis> {
    any::<u64>().prop_map(UnixMillis)
}

fn address() -> impl Strategy<Value = Address> {
    // A name such as `1.2.3.4` is an address; core parses it as one, so that it never is a `Name`.
    let name = host_name().prop_filter("is an address", |n| n.as_str().parse::<IpAddr>().is_err());
    prop_oneof![any::<IpAddr>().prop_map(Address::Ip), name.prop_map(Address::Name)]
}

fn port() -> impl Strategy<Value = NonZeroU16> {
    (1..=u16::MAX).prop_filter_map("0 is no port", NonZeroU16::new)
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    (address(), port()).prop_map(|(address, port)| Endpoint { address, port })
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::from_bytes)
}

fn certificates() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(vec(any::<u8>(), 0..40), LIST)
}

fn millis(range: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn age() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_nanos)
}

fn selector() -> impl Strategy<Value = TypeSelector> {
    prop_oneof![Just(TypeSelector::All), manager_type().prop_map(TypeSelector::One)]
}

/// A position in any lineage.
pub fn position() -> impl Strategy<Value = Position> {
    (uuid(), any::<u64>(), any::<u64>()).prop_map(|(lineage, epoch, revision)| Position {
        lineage: Lineage(lineage),
        epoch,
        revision,
    })
}

fn access() -> impl Strategy<Value = Access> {
    use Access::*;
    prop::sample::select(vec![Agent, Manager, Viewer, Operator, Admin])
}

fn console_name() -> impl Strategy<Value = ConsoleName> {
    parsed("[a-z0-9][a-z0-9._-]{0,10}")
}

fn subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        host_id().prop_map(Subject::Host),
        console_name().prop_map(Subject::Console),
        host_id().prop_map(Subject::Manager)
    ]
}

fn identity() -> impl Strategy<Value = Identity> {
    let types = btree_set(manager_type(), LIST);
    (subject(), any::<u32>(), access(), types, any::<[u8; 32]>(), unix_millis()).prop_map(
        |(subject, enrolment, access, allow_types, key_hash, enrolled)| Identity {
            subject,
            enrolment,
            access,
            allow_types,
            key_hash,
            enrolled,
        },
    )
}

fn denial() -> impl Strategy<Value = Denial> {
    (subject(), any::<u32>(), unix_millis()).prop_map(|(subject, up_to, until)| Denial {
        subject,
        up_to,
        until,
    })
}

fn issuer() -> impl Strategy<Value = Issuer> {
    (any::<[u8; 32]>(), host_id(), unix_millis(), option::of(unix_millis()), any::<bool>()).prop_map(
        |(id, host, not_after, renew_only, dropped)| Issuer { id, host, not_after, renew_only, dropped },
    )
}

fn token() -> impl Strategy<Value = Token> {
    let types = btree_set(manager_type(), LIST);
    let whom = (access(), option::of(host_name()), domain_id(), types, any::<bool>());
    (token_id(), any::<[u8; 32]>(), whom, unix_millis(), any::<u32>()).prop_map(
        |(id, secret_hash, (access, host, domain, allow_types, replace), expires, uses_left)| Token {
            id,
            secret_hash,
            access,
            host,
            domain,
            allow_types,
            replace,
            expires,
            uses_left,
        },
    )
}

fn listens() -> impl Strategy<Value = Listens> {
    prop_oneof![Just(Listens::Nowhere), port().prop_map(Listens::Port), endpoint().prop_map(Listens::At)]
}

fn check_text() -> impl Strategy<Value = CheckText> {
    any::<String>().prop_filter_map("too long", |text| text.try_into().ok())
}

/// Boxed, because packages with checks are part of most strategies: without it those of a test do not fit on the
/// stack of its thread.
fn check() -> BoxedStrategy<Check> {
    let exchange =
        (check_text(), check_text()).prop_map(|(send, expect)| CheckKind::Exchange { send, expect });
    let status = option::of((200..600_u32).prop_filter_map("no status", |s| s.try_into().ok()));
    let http = (parsed("/[a-z]{0,9}"), status, option::of(parsed("[a-z.:]{1,9}")))
        .prop_map(|(path, status, host)| CheckKind::Http { path, status, host });
    let grpc = option::of(parsed("[a-zA-Z.]{1,9}")).prop_map(|service| CheckKind::Grpc { service });
    let kind = prop_oneof![Just(CheckKind::Connect), exchange, http, grpc];
    (kind, millis(50..=3_600_000), millis(10..=60_000), 1..=10_u32)
        .prop_map(|(kind, interval, timeout, misses)| Check { kind, interval, timeout, misses })
        .boxed()
}

fn spec() -> impl Strategy<Value = PackageSpec> {
    (listens(), 0..=65_535_u32, 0..=65_535_u32, option::of(text()), check()).prop_map(
        |(listens, priority, weight, version, check)| PackageSpec {
            listens,
            priority,
            weight,
            version,
            check,
        },
    )
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Primary), Just(Role::Backup)]
}

fn fencing() -> impl Strategy<Value = Fencing> {
    (0u64..1 << 53).prop_map(|number| number.try_into().expect("a number has 53 bits"))
}

fn withdrawal() -> impl Strategy<Value = Withdrawal> {
    option::of(text()).prop_map(|reason| Withdrawal { reason })
}

/// A package on any host.
pub fn package() -> impl Strategy<Value = Package> {
    let withdrawn = option::of(withdrawal());
    let role = (option::of(role()), option::of(fencing()));
    (host_id(), manager_type(), spec(), withdrawn, role, option::of(host_side())).prop_map(
        |(host, ty, spec, withdrawn, (role, fencing), host_side)| Package {
            host,
            ty,
            listens: spec.listens,
            priority: spec.priority,
            weight: spec.weight,
            withdrawn,
            role,
            fencing,
            version: spec.version,
            check: spec.check,
            host_side,
        },
    )
}

fn probe() -> impl Strategy<Value = Option<Probe>> {
    option::of(prop_oneof![Just(Probe::Off), check().prop_map(Probe::By)])
}

fn settings() -> impl Strategy<Value = PolicySettings> {
    let hour = || option::of(millis(0..=3_600_000));
    let walk = option::of(prop::sample::select(vec![Walk::Chain, Walk::Subtree, Walk::Hops]));
    let failback = option::of(prop::sample::select(vec![Failback::Auto, Failback::Dormant, Failback::Off]));
    let connect = (option::of(millis(1..=10_000)), option::of(millis(10..=60_000)), probe());
    let ttl = option::of(millis(1_000..=3_600_000));
    (walk, option::of(any::<bool>()), failback, hour(), hour(), connect, hour(), ttl).prop_map(
        |(walk, boundary, failback, hold, jitter, (hedge, timeout, probe), drain, ttl)| PolicySettings {
            walk,
            boundary,
            failback,
            failback_hold: hold,
            failback_jitter: jitter,
            connect_hedge: hedge,
            connect_timeout: timeout,
            drain_timeout: drain,
            evidence_ttl: ttl,
            probe,
        },
    )
}

fn policy() -> impl Strategy<Value = Policy> {
    (domain_id(), selector(), settings()).prop_map(|(domain, ty, settings)| Policy { domain, ty, settings })
}

fn domain() -> impl Strategy<Value = Domain> {
    (domain_id(), option::of((domain_id(), parsed("[a-z0-9][a-z0-9._-]{0,8}"))))
        .prop_map(|(id, place)| Domain { id, place })
}

/// A host.
pub fn host() -> impl Strategy<Value = Host> {
    let drain =
        (option::of(unix_millis()), option::of(text())).prop_map(|(until, reason)| Drain { until, reason });
    (host_id(), host_name(), domain_id(), option::of(address()), option::of(drain))
        .prop_map(|(id, name, domain, address, drained)| Host { id, name, domain, address, drained })
}

fn meta() -> impl Strategy<Value = Meta> {
    let framework = parsed::<FrameworkName>("[a-z0-9][a-z0-9._-]{0,10}");
    (framework, domain_id(), certificates(), option::of(any::<u64>()), sync_rule()).prop_map(
        |(framework, next_domain, trust, emptied, sync)| Meta {
            framework,
            next_domain,
            trust,
            emptied,
            sync,
        },
    )
}

fn sync_rule() -> impl Strategy<Value = SyncRule> {
    (btree_set(host_id(), LIST), any::<u32>()).prop_map(|(members, min_sync)| SyncRule { members, min_sync })
}

fn grant_proof() -> impl Strategy<Value = Proof> {
    (certificates(), vec(any::<u8>(), 0..8))
        .prop_map(|(certificates, signature)| Proof { certificates, signature })
}

fn signed_mark() -> impl Strategy<Value = SignedMark> {
    (position(), any::<[u8; 32]>(), unix_millis(), grant_proof())
        .prop_map(|(position, hash, at, proof)| SignedMark { mark: Mark { position, hash }, at, proof })
}

fn grantor() -> impl Strategy<Value = Grantor> {
    prop_oneof![console_name().prop_map(Grantor::Console), host_name().prop_map(Grantor::Manager)]
}

/// A chain of one to a few grants that build on each other.
pub fn chain() -> impl Strategy<Value = Chain> {
    let said = (grantor(), option::of(text()), option::of(grant_proof()), sync_rule());
    let grant = (uuid(), host_id(), 0u64..9, any::<[u8; 32]>(), any::<bool>(), said);
    vec(grant, 1..5).prop_map(|drawn| {
        let mut grants: Vec<Grant> = Vec::new();
        for (lineage, holder, more, hash, forced, (grantor, reason, proof, sync)) in drawn {
            let before = grants.last();
            let (basis, epoch) = match before {
                None => (Basis::Init, 1),
                Some(g) => (if forced { Basis::Force } else { Basis::Handover }, g.id.epoch + 1),
            };
            let lineage = before.filter(|_| !forced).map_or(Lineage(lineage), |g| g.id.lineage);
            let parent = before.map(|g| {
                let revision = g.parent.map_or(0, |p| p.mark.revision()) + more;
                Parent { grant: g.id, mark: Mark { position: g.id.at(revision), hash } }
            });
            let id = GrantId { lineage, epoch };
            let at = UnixMillis(more);
            grants.push(Grant {
                id,
                holder,
                parent,
                basis,
                sync,
                at,
                grantor,
                reason,
                rejects: vec![],
                proof,
            });
        }
        Chain::new(grants).expect("each builds on the one before it")
    })
}

/// A part of such a chain, or all of it.
fn part() -> impl Strategy<Value = Part> {
    (chain(), option::of(digest()), any::<bool>()).prop_map(|(chain, after, more)| Part {
        after,
        grants: chain.grants().cloned().collect(),
        more,
    })
}

/// A row of any kind.
pub fn row() -> impl Strategy<Value = Row> {
    prop_oneof![
        meta().prop_map(Row::Meta),
        domain().prop_map(Row::Domain),
        host().prop_map(Row::Host),
        package().prop_map(Row::Package),
        policy().prop_map(Row::Policy),
        identity().prop_map(Row::Identity),
        denial().prop_map(Row::Denial),
        token().prop_map(Row::Token),
        issuer().prop_map(Row::Issuer),
    ]
}

/// A key of any kind.
pub fn row_key() -> impl Strategy<Value = RowKey> {
    row().prop_map(|row| row.key())
}

/// A row set or removed; the one before, where there is one, is the same as the one after.
pub fn row_change() -> impl Strategy<Value = RowChange> {
    (row(), 0..3_u8).prop_map(|(row, which)| RowChange {
        key: row.key(),
        before: (which != 0).then(|| row.clone()),
        after: (which != 1).then_some(row),
    })
}

fn actor() -> impl Strategy<Value = Actor> {
    prop_oneof![
        console_name().prop_map(Actor::Console),
        host_name().prop_map(Actor::Agent),
        host_name().prop_map(Actor::Manager),
        token_id().prop_map(Actor::Token),
    ]
}

/// An entry of the journal.
pub fn commit() -> impl Strategy<Value = Commit> {
    let asked = (actor(), option::of(endpoint()), request_id(), any::<[u8; 32]>());
    (position(), unix_millis(), asked, vec(row_change(), LIST), any::<u64>(), any::<[bool; 2]>()).prop_map(
        |(position, at, (actor, from, request, content), rows, served, [shrinks, alone])| Commit {
            position,
            at,
            actor,
            from,
            request,
            content,
            rows,
            served,
            shrinks,
            alone,
        },
    )
}

fn grant_id() -> impl Strategy<Value = GrantId> {
    (uuid(), any::<u64>()).prop_map(|(lineage, epoch)| GrantId { lineage: Lineage(lineage), epoch })
}

fn journal_mark() -> impl Strategy<Value = Mark> {
    (position(), any::<[u8; 32]>()).prop_map(|(position, hash)| Mark { position, hash })
}

fn seal() -> impl Strategy<Value = Seal> {
    (request_id(), host_id(), grant_id()).prop_map(|(proposal, by, grant)| Seal { proposal, by, grant })
}

fn standing() -> impl Strategy<Value = Standing> {
    let seals = vec(seal(), 0..3).prop_map(|seals| seals.into_iter().collect());
    let grant = (grant_id(), option::of(digest()));
    (grant, journal_mark(), any::<u64>(), sync_rule(), seals, any::<bool>()).prop_map(
        |((grant, chain), last, committed, rule, seals, leads)| Standing {
            grant,
            chain,
            last,
            committed,
            rule,
            seals,
            leads,
        },
    )
}

fn append() -> impl Strategy<Value = Append> {
    (grant_id(), journal_mark(), vec(commit(), 0..3), any::<u64>()).prop_map(
        |(grant, after, commits, committed)| {
            let mut entries: Vec<Entry> = Vec::new();
            for commit in commits {
                let before = entries.last().map_or(after, |e| e.mark);
                entries.push(Entry::after(&before, &commit, commit.encode().to_vec().into()));
            }
            Append { grant, after, entries, committed }
        },
    )
}

/// What managers say to each other.
pub fn member_message() -> impl Strategy<Value = MemberMessage<Part>> {
    prop_oneof![
        standing().prop_map(MemberMessage::Standing),
        Just(MemberMessage::Ask),
        part().prop_map(MemberMessage::Grants),
        append().prop_map(MemberMessage::Append),
        (grant_id(), journal_mark(), any::<bool>())
            .prop_map(|(grant, last, accepted)| MemberMessage::Appended { grant, last, accepted }),
        (grant_id(), any::<u64>()).prop_map(|(grant, revision)| MemberMessage::Committed { grant, revision }),
        (grant_id(), journal_mark()).prop_map(|(grant, after)| MemberMessage::Missing { grant, after }),
        (grant_id(), journal_mark()).prop_map(|(grant, after)| MemberMessage::Fetch { grant, after }),
        (part(), seal()).prop_map(|(chain, seal)| MemberMessage::Seal { chain, seal }),
        (seal(), standing()).prop_map(|(seal, standing)| MemberMessage::Sealed { seal, standing }),
        request_id().prop_map(|proposal| MemberMessage::Unseal { proposal }),
    ]
}

fn change_of_domain() -> impl Strategy<Value = Change> {
    let name = parsed::<DomainName>("[a-z0-9][a-z0-9._-]{0,8}");
    prop_oneof![
        domain_path().prop_map(|path| Change::AddDomain { path }),
        (domain_path(), name).prop_map(|(path, name)| Change::RenameDomain { path, name }),
        (domain_path(), domain_path()).prop_map(|(path, parent)| Change::MoveDomain { path, parent }),
        (domain_path(), any::<bool>()).prop_map(|(path, recursive)| Change::RemoveDomain { path, recursive }),
        (domain_path(), selector(), settings()).prop_map(|(domain, ty, settings)| Change::SetPolicy {
            domain,
            ty,
            settings
        }),
        (domain_path(), selector(), btree_set(prop::sample::select(Setting::ALL.to_vec()), LIST))
            .prop_map(|(domain, ty, keys)| Change::UnsetPolicy { domain, ty, keys }),
        (domain_path(), selector(), settings()).prop_map(|(domain, ty, settings)| Change::ReplacePolicy {
            domain,
            ty,
            settings
        }),
    ]
}

fn change_of_host() -> impl Strategy<Value = Change> {
    prop_oneof![
        (host_id(), host_name(), domain_path(), option::of(address()))
            .prop_map(|(id, name, domain, address)| Change::AddHost { id, name, domain, address }),
        (host_name(), domain_path()).prop_map(|(host, domain)| Change::MoveHost { host, domain }),
        (host_name(), host_name()).prop_map(|(host, name)| Change::RenameHost { host, name }),
        (host_name(), option::of(address())).prop_map(|(host, address)| Change::SetAddress { host, address }),
        (host_name(), any::<bool>())
            .prop_map(|(host, with_packages)| Change::RemoveHost { host, with_packages }),
        (host_name(), option::of(age()), option::of(text()))
            .prop_map(|(host, lasting, reason)| Change::DrainHost { host, lasting, reason }),
        host_name().prop_map(|host| Change::ResumeHost { host }),
        Just(Change::EndDrains),
    ]
}

fn host_side() -> impl Strategy<Value = HostSide> {
    (request_id(), any::<bool>(), any::<bool>()).prop_map(|(number, announced, withdrawn)| HostSide {
        number,
        announced,
        withdrawn,
    })
}

fn host_word() -> impl Strategy<Value = HostWord> {
    let runs = (spec(), any::<bool>()).prop_map(|(spec, listens)| {
        let port = match spec.listens {
            Listens::Port(port) if listens => Some(port),
            _ => None,
        };
        HostWord::Runs(AnnouncedSpec {
            port,
            version: spec.version,
            check: Some(spec.check).filter(|_| listens),
        })
    });
    prop_oneof![runs, Just(HostWord::Withdraws)]
}

fn announcement() -> impl Strategy<Value = Announcement> {
    (request_id(), manager_type(), host_word()).prop_map(|(number, ty, word)| Announcement {
        number,
        ty,
        word,
    })
}

fn change_of_package() -> impl Strategy<Value = Change> {
    let which = || (host_name(), manager_type());
    prop_oneof![
        (which(), spec()).prop_map(|((host, ty), spec)| Change::AddPackage { host, ty, spec }),
        (which(), spec()).prop_map(|((host, ty), spec)| Change::SetPackage { host, ty, spec }),
        (which(), option::of(text())).prop_map(|((host, ty), reason)| Change::WithdrawPackage {
            host,
            ty,
            reason
        }),
        which().prop_map(|(host, ty)| Change::RestorePackage { host, ty }),
        which().prop_map(|(host, ty)| Change::Promote { host, ty }),
        (host_name(), host_name()).prop_map(|(host, from)| Change::PromoteFrom { host, from }),
        (host_id(), manager_type(), host_word()).prop_map(|(host, ty, word)| Change::Announce {
            host,
            ty,
            word
        }),
        (which(), option::of(host_name())).prop_map(|((host, ty), successor)| Change::RemovePackage {
            host,
            ty,
            successor
        }),
    ]
}

fn change_of_access() -> impl Strategy<Value = Change> {
    let asked = (option::of(domain_path()), option::of(address()));
    prop_oneof![
        (token(), domain_path()).prop_map(|(token, domain)| Change::CreateToken { token, domain }),
        token_id().prop_map(|id| Change::RevokeToken { id }),
        (token_id(), host_name(), host_id(), asked, any::<[u8; 32]>()).prop_map(
            |(token, host, id, (domain, address), key_hash)| Change::Enrol {
                token,
                host,
                id,
                domain,
                address,
                key_hash
            }
        ),
    ]
}

fn new_issuer() -> impl Strategy<Value = NewIssuer> {
    (any::<[u8; 32]>(), unix_millis()).prop_map(|(id, not_after)| NewIssuer { id, not_after })
}

fn change_of_managers() -> impl Strategy<Value = Change> {
    let wish = (host_name(), host_id(), option::of(domain_path()), option::of(address()));
    prop_oneof![
        (host_id(), any::<u32>(), any::<[u8; 32]>(), new_issuer()).prop_map(
            |(host, enrolment, key_hash, issuer)| Change::RecordManager { host, enrolment, key_hash, issuer }
        ),
        (token_id(), wish, endpoint(), any::<[u8; 32]>(), new_issuer()).prop_map(
            |(token, (host, id, domain, address), endpoint, key_hash, issuer)| Change::JoinManager {
                token,
                host,
                id,
                domain,
                address,
                endpoint,
                key_hash,
                issuer
            }
        ),
        host_id().prop_map(|host| Change::Admit { host }),
        (host_name(), any::<bool>(), any::<bool>()).prop_map(|(host, accept_loss, compromised)| {
            Change::RemoveManager { host, accept_loss, compromised }
        }),
        (any::<u32>(), any::<bool>())
            .prop_map(|(min_sync, accept_loss)| Change::SetMinSync { min_sync, accept_loss }),
        (host_id(), sync_rule(), any::<bool>()).prop_map(|(holder, sync, gives_up)| Change::TakeOver {
            holder,
            sync,
            gives_up
        }),
    ]
}

/// A change of any kind.
pub fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        change_of_domain(),
        change_of_host(),
        change_of_package(),
        change_of_access(),
        change_of_managers()
    ]
    // On the heap: strategies of many kinds inside each other take much of a test's stack.
    .boxed()
}

/// An edit.
pub fn change_set() -> impl Strategy<Value = ChangeSet> {
    (request_id(), option::of(any::<u64>()), any::<bool>(), vec(change(), LIST)).prop_map(
        |(request, if_revision, allow_shrink, changes)| ChangeSet {
            request,
            if_revision,
            allow_shrink,
            changes,
        },
    )
}

fn manager() -> impl Strategy<Value = Manager> {
    (package(), host_name(), domain_id(), endpoint(), role(), option::of(withdrawal())).prop_map(
        |(p, name, domain, endpoint, role, drained)| Manager {
            withdrawn_by_host: p.is_withdrawn_by_host(),
            host: p.host,
            ty: p.ty,
            name,
            domain,
            endpoint,
            priority: p.priority,
            weight: p.weight,
            role,
            withdrawn: p.withdrawn.is_some(),
            drained,
        },
    )
}

/// A row of the view of any kind.
pub fn view_row() -> impl Strategy<Value = ViewRow> {
    prop_oneof![
        certificates().prop_map(ViewRow::Trust),
        domain().prop_map(ViewRow::Domain),
        manager().prop_map(ViewRow::Manager),
        policy().prop_map(ViewRow::Policy),
        denial().prop_map(ViewRow::Denial),
        issuer().prop_map(ViewRow::Issuer),
    ]
}

/// A key of the view of any kind.
pub fn view_key() -> impl Strategy<Value = ViewKey> {
    view_row().prop_map(|row| row.key())
}

/// A row of the view set or removed.
pub fn view_change() -> impl Strategy<Value = ViewChange> {
    (view_row(), any::<bool>()).prop_map(|(row, set)| ViewChange { key: row.key(), row: set.then_some(row) })
}

/// A state of the view.
pub fn view_mark() -> impl Strategy<Value = ViewMark> {
    (position(), any::<u64>(), digest()).prop_map(|(position, view_revision, digest)| ViewMark {
        position,
        view_revision,
        digest,
    })
}

/// A host's place.
pub fn place() -> impl Strategy<Value = Place> {
    let types = btree_set(manager_type(), LIST);
    let own = (vec(package(), LIST), address(), option::of(denial()), types, option::of(withdrawal()));
    (host_id(), host_name(), domain_path(), vec(domain_id(), LIST), own).prop_map(
        |(host, name, path, domains, (packages, address, denial, allow_types, drained))| Place {
            host,
            name,
            path,
            domains,
            packages,
            address,
            denial,
            allow_types,
            drained,
        },
    )
}

fn holding() -> impl Strategy<Value = Holding> {
    (view_mark(), digest()).prop_map(|(mark, place)| Holding {
        position: mark.position,
        view_revision: mark.view_revision,
        digest: mark.digest,
        place,
    })
}

fn health() -> impl Strategy<Value = Health> {
    let failing = (any::<bool>(), text())
        .prop_map(|(demands_answer, reason)| Health::Failing { demands_answer, reason });
    prop_oneof![Just(Health::Unchecked), Just(Health::Passing), Just(Health::Withdrawn), failing]
}

fn using() -> impl Strategy<Value = Using> {
    use Outcome::*;
    let outcome = prop::sample::select(vec![Home, Failover, LastResort, Unserved]);
    (manager_type(), option::of(host_name()), age(), text(), outcome)
        .prop_map(|(ty, manager, since, cause, outcome)| Using { ty, manager, since, cause, outcome })
}

fn raised() -> impl Strategy<Value = Raised> {
    let severity = prop::sample::select(vec![Severity::Info, Severity::Warning, Severity::Critical]);
    (parsed("[a-z0-9][a-z0-9-]{0,20}"), severity, text(), text(), age()).prop_map(
        |(name, severity, message, remedy, since)| Raised {
            notice: Notice { name, severity, message, remedy },
            since,
        },
    )
}

/// What an agent says, of any kind.
pub fn from_agent() -> impl Strategy<Value = FromAgent> {
    let held = (option::of(holding()), vec(digest(), LIST), option::of(signed_mark()), any::<bool>());
    let hello = ((any::<u32>(), any::<u32>()), text(), any::<u64>(), held).prop_map(
        |(protocol, build, incarnation, (holds, grants, signed, keeps_signed))| Hello {
            protocol,
            build,
            incarnation,
            holds,
            grants,
            signed,
            keeps_signed,
        },
    );
    let packages = btree_map(manager_type(), health(), LIST);
    let own = (packages, vec(using(), LIST), vec(raised(), LIST), any::<bool>());
    let heartbeat = (option::of(holding()), any::<u64>(), own).prop_map(
        |(holds, sequence, (packages, using, alarms, isolated))| AgentHeartbeat {
            isolated,
            holds,
            sequence,
            packages,
            using,
            alarms,
        },
    );
    prop_oneof![
        hello.prop_map(FromAgent::Hello),
        heartbeat.prop_map(FromAgent::Heartbeat),
        Just(FromAgent::Repair),
        part().prop_map(FromAgent::Grants),
    ]
}

/// What is known of one host's packages.
pub fn liveness_entry() -> impl Strategy<Value = LivenessEntry> {
    let packages = btree_map(manager_type(), health(), LIST);
    (host_id(), any::<u64>(), any::<u64>(), any::<bool>(), packages).prop_map(
        |(host, incarnation, sequence, silent, packages)| LivenessEntry {
            host,
            incarnation,
            sequence,
            silent,
            packages,
        },
    )
}

/// What one manager tells another of an agent.
pub fn told() -> impl Strategy<Value = Told> {
    let packages = btree_map(manager_type(), health(), LIST);
    let failing = btree_map(manager_type(), age(), LIST);
    let who = (host_id(), host_id(), any::<[bool; 3]>(), any::<[u64; 3]>(), age());
    let report =
        (packages, vec(using(), LIST), option::of(holding()), vec(raised(), LIST), option::of(text()));
    (who, report, failing, option::of(age())).prop_map(
        |(
            (host, by, [connected, silent, isolated], [word, incarnation, sequence], ago),
            (packages, using, holds, alarms, build),
            failing,
            behind,
        )| Told {
            host,
            by,
            connected,
            silent,
            word,
            ago,
            incarnation,
            sequence,
            packages,
            using,
            holds,
            alarms,
            build,
            isolated,
            failing,
            behind,
        },
    )
}

/// What a manager says on an agent's session, of any kind.
pub fn to_agent() -> impl Strategy<Value = ToAgent> {
    let welcome = (any::<u32>(), text(), host_name(), age())
        .prop_map(|(protocol, build, manager, heartbeat)| Welcome { protocol, build, manager, heartbeat });
    let snapshot = (any::<bool>(), vec(view_row(), LIST), option::of(view_mark()), option::of(any::<u64>()))
        .prop_map(|(first, rows, last, emptied)| SnapshotPart { first, rows, last, emptied });
    let delta = (any::<u64>(), view_mark(), vec(view_change(), LIST))
        .prop_map(|(from_view_revision, mark, changes)| Delta { from_view_revision, mark, changes });
    let heartbeat = (view_mark(), digest(), option::of(any::<[u8; 32]>()))
        .prop_map(|(mark, place, journal)| ManagerHeartbeat { mark, place, journal });
    let liveness = (any::<bool>(), vec(liveness_entry(), LIST))
        .prop_map(|(complete, entries)| Liveness { complete, entries });
    prop_oneof![
        welcome.prop_map(ToAgent::Welcome),
        snapshot.prop_map(ToAgent::Snapshot),
        delta.prop_map(ToAgent::Delta),
        place().prop_map(ToAgent::Place),
        heartbeat.prop_map(ToAgent::Heartbeat),
        liveness.prop_map(ToAgent::Liveness),
        part().prop_map(ToAgent::Grants),
        signed_mark().prop_map(ToAgent::Signed),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    let down = (host_name(), option::of(manager_type())).prop_map(|(host, ty)| Down { host, ty });
    let route = (option::of(host_name()), manager_type(), vec(down, LIST), option::of(any::<u32>()))
        .prop_map(|(host, ty, down, candidates)| Query::Route { host, ty, down, candidates });
    let history = (option::of(any::<u64>()), option::of(any::<u64>()), any::<bool>())
        .prop_map(|(since, limit, follow)| Query::History { since, limit, follow });
    let actual = (host_name(), manager_type()).prop_map(|(host, ty)| Query::Actual { host, ty });
    prop_oneof![
        Just(Query::Status),
        route,
        Just(Query::Tokens),
        Just(Query::Managers),
        history,
        Just(Query::Watch),
        Just(Query::Alarms),
        Just(Query::Lineage),
        Just(Query::Lost),
        option::of(host_name()).prop_map(|host| Query::Agents { host }),
        actual,
    ]
}

/// A wish to enrol.
pub fn enrol() -> impl Strategy<Value = Enrol> {
    let whom = (host_name(), option::of(domain_path()));
    (token_id(), any::<[u8; 32]>(), request_id(), whom, vec(any::<u8>(), 0..40)).prop_map(
        |(token, secret, request, (host, domain), csr)| Enrol { token, secret, request, host, domain, csr },
    )
}

fn join() -> impl Strategy<Value = Join> {
    let place = (option::of(domain_path()), endpoint());
    let build = (vec(any::<u8>(), 0..40), option::of(greeting()));
    (enrol(), place, build).prop_map(|(enrol, (domain, endpoint), (issuer_csr, greeting))| {
        let Enrol { token, secret, request, host, csr, .. } = enrol;
        Join { token, secret, request, host, domain, endpoint, csr, issuer_csr, greeting }
    })
}

fn greeting() -> impl Strategy<Value = Greeting> {
    ((any::<u32>(), any::<u32>()), text(), vec(digest(), LIST))
        .prop_map(|(protocol, build, grants)| Greeting { protocol, build, grants })
}

fn relayed() -> impl Strategy<Value = Relayed> {
    (actor(), option::of(endpoint()), any::<[u8; 32]>(), change_set(), any::<bool>())
        .prop_map(|(actor, from, content, set, dry_run)| Relayed { actor, from, content, set, dry_run })
}

/// A message between managers.
pub fn manager_message() -> impl Strategy<Value = ManagerMessage> {
    let news = (vec(told(), LIST), option::of(signed_mark()))
        .prop_map(|(agents, proved)| ManagerMessage::Board(BoardNews { agents, proved }));
    prop_oneof![
        member_message().prop_map(ManagerMessage::Member),
        news,
        part().prop_map(ManagerMessage::Grants)
    ]
}

/// A request of any kind.
pub fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        Just(Request::Session),
        enrol().prop_map(Request::Enrol),
        vec(any::<u8>(), 0..40).prop_map(|csr| Request::Renew { csr }),
        (change_set(), any::<bool>()).prop_map(|(set, dry_run)| Request::Edit { set, dry_run }).boxed(),
        Just(Request::Read),
        query().prop_map(Request::Query).boxed(),
        announcement().prop_map(Request::Announce).boxed(),
        join().prop_map(Request::Join).boxed(),
        request_id().prop_map(|request| Request::Leave { request }),
        promotion().prop_map(Request::Promotion).boxed(),
        Just(Request::Copy),
        greeting().prop_map(Request::Link),
        relayed().prop_map(Request::Relayed).boxed(),
        option::of("[ -~]{8,40}").prop_map(|passphrase| Request::Backup {
            passphrase: passphrase.map(|text| Passphrase::parse(&text).expect("a line of text")),
        }),
        (console_name(), promotion())
            .prop_map(|(console, step)| Request::PromotionFor { console, step })
            .boxed(),
        (join(), endpoint()).prop_map(|(wish, from)| Request::JoinFor { wish, from }).boxed(),
        any::<u64>().prop_map(|through| Request::DismissLost { through }),
    ]
}

fn promotion() -> impl Strategy<Value = Promotion> {
    let said = || (request_id(), host_name(), option::of(text()), any::<bool>());
    let choose = (request_id(), uuid().prop_map(Lineage), option::of(text()), any::<bool>());
    let grant = chain().prop_map(|chain| chain.head().clone());
    prop_oneof![
        said().prop_map(|(id, to, reason, trial)| Promotion::HandOver { id, to, reason, trial }),
        (said(), any::<bool>()).prop_map(|((id, to, reason, trial), accept_loss)| Promotion::Force {
            id,
            to,
            accept_loss,
            reason,
            trial
        }),
        choose.prop_map(|(id, lineage, reason, trial)| Promotion::Choose { id, lineage, reason, trial }),
        (request_id(), host_name(), grant).prop_map(|(id, to, grant)| Promotion::Signed { id, to, grant }),
        (request_id(), host_name()).prop_map(|(id, to)| Promotion::Abort { id, to }),
    ]
}

fn promoted() -> impl Strategy<Value = Promoted> {
    prop_oneof![
        any::<String>().prop_map(Promoted::Evidence),
        (vec(any::<u8>(), 0..40), any::<String>())
            .prop_map(|(grant, evidence)| Promoted::Proposed { grant, evidence }),
        any::<String>().prop_map(Promoted::Done),
        Just(Promoted::Aborted),
    ]
}

fn failure() -> impl Strategy<Value = Failure> {
    use FailureClass::*;
    let class = prop::sample::select(vec![Failed, Forbidden, Unreachable, NotAllowed, Unknown]);
    let retry = prop::sample::select(vec![Retry::Safe, Retry::Unsafe, Retry::Pointless]);
    let texts = (any::<String>(), any::<String>(), any::<String>(), any::<String>());
    (texts, class, retry).prop_map(|((error, message, place, remedy), class, retry)| Failure {
        error,
        class,
        message,
        place,
        remedy,
        retry,
    })
}

/// An answer of any kind.
pub fn response() -> impl Strategy<Value = Response> {
    let framework = parsed::<FrameworkName>("[a-z0-9][a-z0-9._-]{0,10}");
    let enrolled = (certificates(), framework, host_id(), any::<u32>(), access(), domain_path()).prop_map(
        |(chain, framework, host, enrolment, access, domain)| Enrolled {
            chain,
            framework,
            host,
            enrolment,
            access,
            domain,
        },
    );
    let framework = parsed::<FrameworkName>("[a-z0-9][a-z0-9._-]{0,10}");
    let joined = (certificates(), framework, host_id(), any::<u32>(), domain_path(), any::<bool>()).prop_map(
        |(issuer, framework, host, enrolment, domain, root_unexported)| Joined {
            issuer,
            framework,
            host,
            enrolment,
            domain,
            root_unexported,
        },
    );
    let edited = (position(), request_id(), vec(row_change(), LIST), any::<bool>())
        .prop_map(|(position, request, rows, repeated)| EditAnswer { position, request, rows, repeated });
    let rows = (position(), vec(row(), LIST), vec(liveness_entry(), LIST), any::<bool>())
        .prop_map(|(position, rows, liveness, last)| RowsPart { position, rows, liveness, last });
    prop_oneof![
        failure().prop_map(Response::Failed),
        enrolled.prop_map(Response::Enrolled),
        joined.prop_map(Response::Joined),
        greeting().prop_map(Response::Linked),
        (vec(any::<u8>(), 0..40), any::<bool>()).prop_map(|(part, last)| Response::Copied { part, last }),
        certificates().prop_map(Response::Renewed),
        edited.prop_map(Response::Edited),
        rows.prop_map(Response::Rows),
        (vec(any::<String>(), LIST), any::<bool>())
            .prop_map(|(documents, last)| Response::Documents { documents, last }),
        promoted().prop_map(Response::Promotion),
        backup_part().prop_map(Response::Backup),
    ]
}

fn backup_part() -> impl Strategy<Value = BackupPart> {
    let framework = parsed::<FrameworkName>("[a-z0-9][a-z0-9._-]{0,10}");
    let head = (framework, position(), any::<u64>(), any::<u64>(), any::<bool>());
    prop_oneof![
        head.prop_map(|(framework, position, committed, size, keys)| {
            BackupPart::Head(BackupHead { framework, position, committed, size, keys })
        }),
        vec(any::<u8>(), 0..40).prop_map(BackupPart::Bytes),
        any::<[u8; 32]>().prop_map(BackupPart::End),
    ]
}
