//! A registry as a topology file, in canonical order.

use echelon_core::check::{Check, CheckForm, GrpcForm};
use echelon_core::duration;
use echelon_core::id::{DomainId, HostId};
use echelon_core::name::{DomainPath, ManagerType};
use echelon_core::package::{DEFAULT_PRIORITY, DEFAULT_WEIGHT, Listens, Package, Role};
use echelon_core::policy::{PolicySettings, Probe, TypeSelector};
use echelon_core::registry::Registry;
use echelon_core::row::Host;
use echelon_core::setting::Setting;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The topology file of a registry, as TOML.
///
/// The order is canonical: domains that nothing else would make, policies by path and type, hosts by path
/// of their domain and name, packages by type. Defaults are left out, and a role too where the order
/// of the file says it already. The reason of a withdrawal, identities and tokens have no place in a file.
pub fn export(registry: &Registry) -> String {
    let paths: BTreeMap<_, _> = registry.hierarchy().iter().map(|d| (d.id, registry.path(d.id))).collect();
    let root = DomainPath::root();
    let path = |id: &DomainId| paths.get(id).unwrap_or(&root);
    let mut hosts: Vec<_> = registry.hosts().map(|h| (path(&h.domain), &**h)).collect();
    hosts.sort_by(|(a, x), (b, y)| (a, &x.name).cmp(&(b, &y.name)));
    let mut policies: Vec<_> = registry.policies().map(|p| (path(&p.domain), &p.ty, &p.settings)).collect();
    policies.sort_by_key(|(path, ty, _)| (*path, *ty));

    let mut file = format!("format = 1\nframework = {}\n", quote(registry.meta().framework.as_str()));
    let mut idle: Vec<_> = idle_domains(registry).iter().map(path).collect();
    idle.sort();
    for path in idle {
        file.push_str(&format!("\n[[domain]]\npath = {}\n", quote(&path.to_string())));
    }
    for (path, ty, settings) in policies {
        push_policy(&mut file, path, ty, settings);
    }
    let unwritten = unwritten_roles(registry, &hosts);
    for (path, host) in hosts {
        push_host(&mut file, path, host, registry, &unwritten);
    }
    file
}

/// The lowest domains in and below which there is neither a host nor a policy.
fn idle_domains(registry: &Registry) -> Vec<DomainId> {
    let tree = registry.hierarchy();
    let used = registry.hosts().map(|h| h.domain).chain(registry.policies().map(|p| p.domain));
    // A domain with subdomains is made with them.
    let parents = tree.iter().filter_map(|d| d.place.as_ref().map(|(parent, _)| *parent));
    let made: BTreeSet<_> = used.chain(parents).chain([DomainId::ROOT]).collect();
    tree.iter().map(|d| d.id).filter(|id| !made.contains(id)).collect()
}

/// The roles that a reader of the file would give without being told: for each type, the first manager
/// is primary. None for a type that has no primary at all, where every role must be written.
type Unwritten<'r> = BTreeMap<&'r ManagerType, Option<HostId>>;

fn unwritten_roles<'r>(registry: &'r Registry, hosts: &[(&DomainPath, &Host)]) -> Unwritten<'r> {
    let mut first = Unwritten::new();
    let mut led = BTreeSet::new();
    for (_, host) in hosts {
        for package in registry.packages_on(host.id).filter(|p| p.is_manager()) {
            first.entry(&package.ty).or_insert(Some(host.id));
            if package.role == Some(Role::Primary) {
                led.insert(&package.ty);
            }
        }
    }
    for (_, first) in first.iter_mut().filter(|(ty, _)| !led.contains(*ty)) {
        *first = None;
    }
    first
}

/// The role that has to be written.
fn written_role(package: &Package, unwritten: &Unwritten<'_>) -> Option<Role> {
    let role = package.role?;
    match unwritten.get(&package.ty)? {
        // The first manager is primary, or another one is and says so; the rest are backups either way.
        Some(first) => (role == Role::Primary && *first != package.host).then_some(role),
        None => Some(role),
    }
}

fn push_policy(file: &mut String, path: &DomainPath, ty: &TypeSelector, settings: &PolicySettings) {
    file.push_str("\n[[policy]]\n");
    if !path.is_root() {
        file.push_str(&format!("domain = {}\n", quote(&path.to_string())));
    }
    if *ty != TypeSelector::All {
        file.push_str(&format!("type = {}\n", quote(&ty.to_string())));
    }
    for setting in settings_text(settings) {
        file.push_str(&setting);
        file.push('\n');
    }
}

fn push_host(
    file: &mut String,
    path: &DomainPath,
    host: &Host,
    registry: &Registry,
    unwritten: &Unwritten<'_>,
) {
    let (name, domain) = (quote(host.name.as_str()), quote(&path.to_string()));
    file.push_str(&format!("\n[[host]]\nname = {name}\ndomain = {domain}\n"));
    if let Some(address) = &host.address {
        file.push_str(&format!("address = {}\n", quote(&address.to_string())));
    }
    let packages = registry.packages_on(host.id).map(|p| (&**p, written_role(p, unwritten)));
    let packages: Vec<_> = packages.map(|(p, role)| (p, long_form(p, role))).collect();
    let short = packages.iter().filter(|(_, keys)| keys.is_empty()).map(|(p, _)| short_form(p));
    let short: Vec<_> = short.collect();
    if !short.is_empty() {
        file.push_str(&format!("packages = [{}]\n", short.join(", ")));
    }
    for (package, keys) in packages.iter().filter(|(_, keys)| !keys.is_empty()) {
        let ty = quote(package.ty.as_str());
        file.push_str(&format!("\n[[host.package]]\ntype = {ty}\n{keys}"));
    }
}

fn short_form(package: &Package) -> String {
    match package.listens {
        Listens::Port(port) => quote(&format!("{}:{port}", package.ty)),
        _ => quote(package.ty.as_str()),
    }
}

/// The lines beyond the type; none where the short form says it all.
fn long_form(package: &Package, role: Option<Role>) -> String {
    let mut keys = Vec::new();
    if package.priority != DEFAULT_PRIORITY {
        keys.push(format!("priority = {}", package.priority));
    }
    if package.weight != DEFAULT_WEIGHT {
        keys.push(format!("weight = {}", package.weight));
    }
    if package.withdrawn.is_some() {
        keys.push("state = \"withdrawn\"".into());
    }
    keys.extend(role.map(|role| format!("role = \"{role}\"")));
    keys.extend(package.version.as_ref().map(|v| format!("version = {}", quote(v.as_str()))));
    if package.check != Check::default() {
        keys.push(format!("check = {}", check_text(&package.check)));
    }
    match &package.listens {
        Listens::At(endpoint) => keys.insert(0, format!("endpoint = {}", quote(&endpoint.to_string()))),
        Listens::Port(port) if !keys.is_empty() => keys.insert(0, format!("port = {port}")),
        _ => {}
    }
    keys.iter().map(|key| format!("{key}\n")).collect()
}

/// Where a package listens, for people.
pub(crate) fn listens_text(listens: &Listens) -> String {
    match listens {
        Listens::Nowhere => "inventory only".into(),
        Listens::Port(port) => format!("port {port}"),
        Listens::At(endpoint) => format!("endpoint {endpoint}"),
    }
}

/// A check as an inline table, without what is the default of its kind.
pub(crate) fn check_text(check: &Check) -> String {
    let form = CheckForm::shortest(check);
    let time = |d: Option<Duration>| d.map(|d| format!("\"{}\"", duration::print(d)));
    let grpc = form.grpc.map(|grpc| match grpc {
        GrpcForm::Server(flag) => flag.to_string(),
        GrpcForm::Service(name) => quote(name.as_str()),
    });
    let keys = [
        ("tcp", form.tcp.map(|flag| flag.to_string())),
        ("send", form.send.map(|text| quote(text.as_str()))),
        ("expect", form.expect.map(|text| quote(text.as_str()))),
        ("http", form.http.map(|path| quote(path.as_str()))),
        ("status", form.status.map(|status| status.get().to_string())),
        ("host", form.host.map(|host| quote(host.as_str()))),
        ("grpc", grpc),
        ("interval", time(form.interval)),
        ("timeout", time(form.timeout)),
        ("misses", form.misses.map(|misses| misses.to_string())),
    ];
    let keys = keys.into_iter().filter_map(|(key, value)| Some(format!("{key} = {}", value?)));
    let keys: Vec<_> = keys.collect();
    format!("{{ {} }}", keys.join(", "))
}

/// The settings of a policy, one line each, without line ends.
pub(crate) fn settings_text(settings: &PolicySettings) -> Vec<String> {
    let lines = settings.texts().map(|(setting, text)| match setting {
        Setting::Boundary => format!("{setting} = {text}"),
        Setting::Probe => match &settings.probe {
            Some(Probe::By(check)) if *check != Check::default() => {
                format!("{setting} = {}", check_text(check))
            }
            _ => format!("{setting} = {}", quote(&text)),
        },
        _ => format!("{setting} = {}", quote(&text)),
    });
    lines.collect()
}

/// A TOML basic string. Beyond what TOML asks for, characters that would change what a terminal shows
/// around them are escaped too.
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() || is_invisible(c) => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Marks that set the direction of the text after them, and line and paragraph separators.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
