use super::*;
use crate::strategies as any;
use echelon_core::alarm::{Notice, Raised};
use echelon_core::limits::{MAX_ALARMS, MAX_CHANGES, MAX_PACKAGES_PER_HOST, MAX_WANTED_TYPES};
use echelon_core::message::{AgentHeartbeat, Anonymous, Health, Using};
use echelon_core::name::Text;
use echelon_core::report::Outcome;
use proptest::prelude::*;
use std::fmt::Debug;

/// What every message promises: it comes back as it was, and from no bytes does decoding panic.
fn holds<T: Wire + PartialEq + Debug>(value: &T, noise: &Noise) -> Result<(), TestCaseError> {
    let bytes = value.encode();
    prop_assert_eq!(bytes.len(), value.encoded_len());
    prop_assert_eq!(&T::decode(&bytes).expect("what was encoded decodes"), value);
    let unknown = [&bytes[..], &noise.unknown_field].concat();
    prop_assert_eq!(&T::decode(&unknown).expect("unknown fields are skipped"), value);
    let _ = T::decode(&noise.bytes);
    if let Ok(other) = T::decode(&noise.mutate(&bytes)) {
        // Whatever was taken is a valid value, so that it survives another trip.
        prop_assert_eq!(&T::decode(&other.encode()).expect("what was decoded encodes and decodes"), &other);
    }
    Ok(())
}

#[derive(Debug, Clone)]
struct Noise {
    bytes: Vec<u8>,
    unknown_field: Vec<u8>,
    edits: Vec<(prop::sample::Index, Edit)>,
}

#[derive(Debug, Clone)]
enum Edit {
    Flip(u8),
    Cut,
    Insert(u8),
    Double,
}

impl Noise {
    fn mutate(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for (index, edit) in &self.edits {
            let at = index.index(bytes.len() + 1);
            match edit {
                Edit::Flip(mask) => bytes.iter_mut().skip(at).take(1).for_each(|b| *b ^= mask),
                Edit::Cut => bytes.truncate(at),
                Edit::Insert(b) => bytes.insert(at, *b),
                Edit::Double => bytes.extend_from_within(at..),
            }
        }
        bytes
    }
}

fn noise() -> impl Strategy<Value = Noise> {
    let edit = prop_oneof![
        4 => (1..=u8::MAX).prop_map(Edit::Flip),
        1 => Just(Edit::Cut),
        2 => any::<u8>().prop_map(Edit::Insert),
        1 => Just(Edit::Double),
    ];
    // Field 1000, of a length; no message has as many.
    let unknown = prop::collection::vec(any::<u8>(), 0..100)
        .prop_map(|content| [vec![0xc2, 0x3e, content.len() as u8], content].concat());
    let bytes = prop::collection::vec(any::<u8>(), 0..300);
    let edits = prop::collection::vec((any::<prop::sample::Index>(), edit), 1..4);
    (bytes, unknown, edits).prop_map(|(bytes, unknown_field, edits)| Noise { bytes, unknown_field, edits })
}

macro_rules! round_trips {
    ($($name:ident: $strategy:expr),* $(,)?) => {
        proptest! {
            $(#[test]
            fn $name(value in $strategy, noise in noise()) {
                holds(&value, &noise)?;
            })*
        }
    };
}

round_trips! {
    round_trip_from_agent: any::from_agent(),
    round_trip_to_agent: any::to_agent(),
    round_trip_request: any::request(),
    round_trip_response: any::response(),
    round_trip_change_set: any::change_set(),
    round_trip_position: any::position(),
    round_trip_row: any::row(),
    round_trip_row_key: any::row_key(),
    round_trip_row_change: any::row_change(),
    round_trip_commit: any::commit(),
    round_trip_view_row: any::view_row(),
    round_trip_view_key: any::view_key(),
    round_trip_view_change: any::view_change(),
    round_trip_view_mark: any::view_mark(),
    round_trip_place: any::place(),
    round_trip_liveness_entry: any::liveness_entry(),
    round_trip_told: any::told(),
    round_trip_chain: any::chain(),
    round_trip_member_message: any::member_message(),
    round_trip_manager_message: any::manager_message(),
}

proptest! {
    #[test]
    fn different_keys_have_different_bytes(one in any::row_key(), other in any::row_key()) {
        prop_assert_eq!(one == other, one.encode() == other.encode());
    }

    #[test]
    fn a_peer_without_a_certificate_can_only_enrol_or_join(request in any::request()) {
        let allowed = match request.clone() {
            Request::Enrol(enrol) => Some(Anonymous::Enrol(enrol)),
            Request::Join(join) => Some(Anonymous::Join(join)),
            _ => None,
        };
        prop_assert_eq!(decode_anonymous(&request.encode()).ok(), allowed);
    }
}

fn error<T: Wire + Debug>(bytes: &[u8]) -> String {
    T::decode(bytes).unwrap_err().to_string()
}

#[test]
fn what_is_missing_or_unknown_is_named() {
    assert!(error::<Row>(&[]).starts_with("Row is empty or of a kind"));
    // Field 99, of a length of 0: a kind of a later build.
    assert!(error::<Row>(&[0x9a, 0x06, 0x00]).starts_with("Row is empty or of a kind"));
    // Row.host, empty.
    assert!(error::<Row>(&[0x1a, 0x00]).starts_with("Host.id is missing"));
    // FromAgent.hello with a build only.
    assert!(error::<FromAgent>(b"\x0a\x05\x12\x03new").starts_with("Hello.protocol is missing"));
    // A view's denial under another key.
    assert!(
        error::<ViewChange>(b"\x0a\x02\x0a\x00\x12\x04\x12\x02\x08\x05").starts_with("ViewChange has rows")
    );
    assert!(error::<RowChange>(b"\x0a\x02\x0a\x00").starts_with("RowChange has rows"));
    assert!(error::<Row>(b"\xff\xff").starts_with("a Row is malformed"));
}

#[test]
fn what_core_refuses_is_refused() {
    let refused = |mutate: fn(&mut echelon_core::package::Package)| {
        let mut package = example_package();
        mutate(&mut package);
        error::<Row>(&Row::Package(package).encode())
    };
    assert!(refused(|p| p.priority = 65_536).starts_with("Package is not valid"));
    assert!(refused(|p| p.weight = 65_536).starts_with("Package is not valid"));
    assert!(refused(|p| p.check.misses = 0).starts_with("Check is not valid"));
    // Row.package with the type "A".
    let name = Row::decode(b"\x22\x15\x0a\x100123456789abcdef\x12\x01A").unwrap_err();
    assert!(matches!(name, DecodeError::Name { at: "Package.ty", .. }), "{name:?}");
    let id = Row::decode(b"\x22\x03\x0a\x010").unwrap_err();
    assert_eq!(id, DecodeError::Length { at: "Package.host", expected: 16, found: 1 });
}

fn example_package() -> echelon_core::package::Package {
    echelon_core::package::Package {
        host: echelon_core::id::HostId(uuid::Uuid::nil()),
        ty: "audit".parse().unwrap(),
        listens: echelon_core::package::Listens::Nowhere,
        priority: 100,
        weight: 1,
        withdrawn: None,
        role: None,
        version: None,
        check: echelon_core::check::Check::default(),
        fencing: None,
        host_side: None,
    }
}

#[test]
fn the_largest_heartbeat_fits_into_the_frame_of_an_agent() {
    let label = |n: usize| format!("{n:0>63}").parse().unwrap();
    let failing = Health::Failing { demands_answer: true, reason: Text::lossy(&"r".repeat(256)) };
    let using = |n| Using {
        ty: label(n),
        manager: Some("m".repeat(253).parse().unwrap()),
        since: std::time::Duration::MAX,
        cause: Text::lossy(&"c".repeat(256)),
        outcome: Outcome::LastResort,
    };
    let long = "x".repeat(256);
    let raised = |n| {
        let notice =
            Notice { name: format!("{n:0>63}").parse().unwrap(), ..Notice::critical("x", &long, &long) };
        Raised { notice, since: std::time::Duration::MAX }
    };
    let beat = |routes| {
        let packages = (0..MAX_PACKAGES_PER_HOST).map(|n| (label(n), failing.clone())).collect();
        FromAgent::Heartbeat(AgentHeartbeat {
            holds: None,
            sequence: u64::MAX,
            packages,
            using: (0..routes).map(using).collect(),
            alarms: (0..MAX_ALARMS).map(raised).collect(),
            isolated: true,
        })
        .encode()
    };
    let largest = beat(MAX_WANTED_TYPES);
    assert!(largest.len() < 200 << 10 && largest.len() < MAX_AGENT_FRAME, "{}", largest.len());
    assert!(FromAgent::decode(&largest).is_ok());
    assert!(error::<FromAgent>(&beat(MAX_WANTED_TYPES + 1)).contains("has 257 entries"));
}

#[test]
fn lists_are_bounded() {
    let place = |packages| Place {
        host: echelon_core::id::HostId(uuid::Uuid::nil()),
        name: "a".parse().unwrap(),
        path: "/".parse().unwrap(),
        domains: vec![],
        packages: vec![example_package(); packages],
        address: "127.0.0.1".parse().unwrap(),
        denial: None,
        allow_types: Default::default(),
        drained: None,
    };
    assert!(Place::decode(&place(MAX_PACKAGES_PER_HOST).encode()).is_ok());
    assert!(error::<Place>(&place(MAX_PACKAGES_PER_HOST + 1).encode()).contains("has 65 entries"));
}

/// A change set of so many empty changes; as bytes, which no sender of ours would make.
fn empty_changes(count: usize) -> Vec<u8> {
    [0x1a, 0x00].repeat(count)
}

/// The fields `number`, of a length, with this content.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    prost::encode_length_delimiter(content.len(), &mut bytes).unwrap();
    [bytes, content.to_vec()].concat()
}

#[test]
fn too_many_changes_are_refused_before_they_are_built() {
    let many = empty_changes(MAX_CHANGES + 1);
    let edit = field(4, &field(1, &many));
    let hidden = [vec![0x53], edit.clone(), vec![0x54]].concat();
    assert!(edit.len() < MAX_EDIT_FRAME);
    assert!(error::<ChangeSet>(&many).contains("has 1000001 entries"));
    assert!(error::<Request>(&edit).contains("has 1000001 entries"));
    assert!(error::<Request>(&hidden).contains("has 1000001 entries"));
    assert!(error::<ChangeSet>(&empty_changes(1)).starts_with("ChangeSet.request is missing"));
}

#[test]
fn a_message_cannot_nest_without_end() {
    // Groups within groups, the one part of the format that can nest in a field nobody knows.
    let groups = vec![0x53; 10_000];
    assert!(error::<Row>(&groups).starts_with("a Row is malformed"));
}
