use super::*;
use proptest::prelude::*;

fn layout(text: &str) -> Result<Layout, LayoutError> {
    let text = format!("framework = \"test\"\n{text}");
    Layout::of(echelon_topology::parse("t.toml", text.as_bytes()).unwrap())
}

fn places(layout: &Layout) -> Vec<String> {
    layout.stubs.iter().map(|s| format!("{} {} {}", s.host, s.ty, s.listen.addr)).collect()
}

#[test]
fn the_manager_runs_where_the_file_says_else_in_the_root_else_on_a_new_host() {
    let with = layout(
        "[[host]]\nname = \"a\"\n[[host]]\nname = \"b\"\ndomain = \"/x\"\naddress = \"127.0.0.9\"\npackages = [\"registry:2000\"]",
    );
    let place = with.unwrap().manager;
    assert_eq!((place.host.as_str(), place.why), ("b", Why::Package));
    assert_eq!(place.listen, Place { addr: "127.0.0.9:2000".parse().unwrap(), movable: false });

    let first =
        layout("[[host]]\nname = \"a\"\ndomain = \"/x\"\n[[host]]\nname = \"b\"\n[[host]]\nname = \"c\"");
    let place = first.unwrap().manager;
    assert_eq!((place.host.as_str(), place.why), ("b", Why::FirstOfRoot));
    assert_eq!(place.listen, Place { addr: "127.64.0.1:29120".parse().unwrap(), movable: true });

    let added = layout("[[host]]\nname = \"registry\"\ndomain = \"/x\"").unwrap();
    assert_eq!((added.manager.host.as_str(), added.manager.why), ("registry-2", Why::Added));
    let host = added.topology.hosts.last().unwrap();
    assert_eq!((host.name.as_str(), &host.domain), ("registry-2", &Some(DomainPath::root())));
}

#[test]
fn further_registry_managers_are_left_out_with_a_note() {
    let two = "[[host]]\nname = \"a\"\npackages = [\"registry:1\"]\n[[host]]\nname = \"b\"\npackages = [\"registry:1\"]";
    let layout = layout(two).unwrap();
    assert_eq!(layout.notes, ["only a runs a registry manager here; left out: b"]);
    assert!(layout.stubs.is_empty());
    assert!(layout.topology.hosts.iter().all(|h| h.packages.is_empty()));
}

#[test]
fn loopback_addresses_stay_and_all_others_are_mapped() {
    let layout = layout(
        r#"
[[host]]
name = "stays"
address = "127.0.0.5"
packages = ["audit:7000"]
[[host]]
name = "v6"
address = "::1"
packages = ["audit:7000"]
[[host]]
name = "moves"
address = "10.0.0.1"
packages = ["audit:7000", "log:80"]
[[host.package]]
type = "vip"
endpoint = "192.0.2.1:443"
[[host]]
name = "unnamed"
packages = ["audit:7000", "inventory"]
[[host]]
name = "plain"
address = "10.0.0.2"
"#,
    )
    .unwrap();
    assert_eq!(
        places(&layout),
        [
            "stays audit 127.0.0.5:7000",
            "v6 audit [::1]:7000",
            "moves audit 127.64.0.1:7000",
            "moves log 127.64.0.1:80",
            "moves vip 127.64.0.2:443",
            "unnamed audit 127.64.0.3:7000",
        ]
    );
    let movable: Vec<bool> = layout.stubs.iter().map(|s| s.listen.movable).collect();
    assert_eq!(movable, [false, false, true, true, true, true]);
}

#[test]
fn what_moved_to_another_port_is_recorded() {
    let mut layout = layout("[[host]]\nname = \"a\"\npackages = [\"audit:80\"]").unwrap();
    let (host, ty) = ("a".parse().unwrap(), "audit".parse().unwrap());
    layout.moved(&host, &ty, "127.64.0.1:20080".parse().unwrap());
    let listens = &layout.topology.hosts[0].packages[0].spec.listens;
    assert_eq!(*listens, Listens::At("127.64.0.1:20080".parse().unwrap()));
}

#[test]
fn two_managers_at_one_loopback_address_are_named() {
    let host =
        |name| format!("[[host]]\nname = \"{name}\"\naddress = \"127.0.0.1\"\npackages = [\"audit:7000\"]\n");
    let error = layout(&format!("{}{}", host("a"), host("b"))).unwrap_err().to_string();
    assert!(error.starts_with("a's audit and b's audit both listen at 127.0.0.1:7000"), "{error}");
}

#[test]
fn failback_is_quick_unless_the_file_says_otherwise() {
    let root = |layout: &Layout| {
        let all = layout.topology.policies.iter().filter(|p| p.ty == TypeSelector::All && p.domain.is_root());
        let settings: Vec<_> = all.map(|p| (p.settings.failback_hold, p.settings.failback_jitter)).collect();
        settings
    };
    let quick = layout("").unwrap();
    assert_eq!(root(&quick), [(Some(FAILBACK), Some(FAILBACK))]);
    let set = layout("[[policy]]\nwalk = \"hops\"\nfailback_hold = \"7s\"").unwrap();
    assert_eq!(root(&set), [(Some(Duration::from_secs(7)), Some(FAILBACK))]);
    let of_type = layout("[[policy]]\ntype = \"audit\"\nfailback_hold = \"7s\"").unwrap();
    assert_eq!(of_type.topology.policies.len(), 2);
    assert_eq!(of_type.topology.policies[0].settings.failback_hold, Some(Duration::from_secs(7)));
}

proptest! {
    #[test]
    fn every_manager_is_on_this_machine_and_no_two_share_an_endpoint(
        hosts in prop::collection::btree_map("[a-z]{1,6}", (0_u8..4, prop::collection::btree_set(1_u16.., 0..4)), 0..20)
    ) {
        let mut text = String::new();
        let mut managers = 0;
        for (n, (name, (kind, ports))) in hosts.iter().enumerate() {
            let address = match kind {
                0 => format!("address = \"127.0.1.{}\"\n", n + 1),
                1 => "address = \"10.1.1.1\"\n".to_owned(),
                2 => "address = \"db.example\"\n".to_owned(),
                _ => String::new(),
            };
            let packages: Vec<_> = ports.iter().map(|p| format!("\"t{p}:{p}\"")).collect();
            managers += packages.len();
            text.push_str(&format!("[[host]]\nname = \"{name}\"\n{address}packages = [{}]\n", packages.join(", ")));
        }
        let layout = layout(&text).unwrap();
        prop_assert_eq!(layout.stubs.len(), managers);
        let mut seen = std::collections::BTreeSet::from([layout.manager.listen.addr]);
        for stub in &layout.stubs {
            prop_assert!(stub.listen.addr.ip().is_loopback());
            prop_assert!(seen.insert(stub.listen.addr), "{} twice", stub.listen.addr);
        }
    }
}
