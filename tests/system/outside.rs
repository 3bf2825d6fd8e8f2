//! What other people's programs make of it: openssl of the certificates, curl of the interfaces.

use echelon_tests::skip::have;
use echelon_tests::topology::PORT;
use echelon_tests::{Agent, Manager, Sandbox, Stub, TYPE, Topology};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The certificates in a PEM file, each with its frame.
fn certificates(path: &Path) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----\n";
    let text = std::fs::read_to_string(path).unwrap();
    let begin = |part: &str| part.find("-----BEGIN CERTIFICATE").map(|at| part[at..].to_owned());
    text.split_inclusive(END).filter_map(begin).collect()
}

/// Chains hold, names are SPIFFE URIs, keys and purposes are what the documentation says.
#[test]
fn openssl_verifies_the_chains() {
    if !have("outside::openssl_verifies_the_chains", "openssl", &["version"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let host = Agent::enrolled(&manager, "h");
    for (directory, uri) in [
        (host.identity(), "URI:spiffe://acme/host/"),
        (manager.console_identity(), "URI:spiffe://acme/console/admin"),
        (manager.state().join("identity"), "URI:spiffe://acme/manager/"),
    ] {
        let chain = certificates(&directory.join("identity.pem"));
        assert_eq!(chain.len(), 3, "leaf, issuer, root in {}", directory.display());
        let leaf = sandbox.file("leaf.pem", &chain[0]);
        let issuer = sandbox.file("issuer.pem", &chain[1]);
        let root = directory.join("root.pem");
        let [leaf, issuer, root] = [&leaf, &issuer, &root].map(|path| path.to_str().unwrap());
        output("openssl", &["verify", "-x509_strict", "-CAfile", root, "-untrusted", issuer, leaf]);
        let alone = Command::new("openssl").args(["verify", "-CAfile", root, leaf]).output().unwrap();
        assert!(!alone.status.success(), "the leaf needs its issuer");
        let text = output("openssl", &["x509", "-in", leaf, "-noout", "-text"]);
        assert!(text.contains(uri), "no {uri} in {text}");
        assert!(text.contains("CA:FALSE"), "{text}");
        assert_eq!(text.contains("TLS Web Server Authentication"), uri.contains("manager"), "{text}");
    }
}

/// Ages of a host's certificate in seconds: it begins an hour in the past and ends a day from now.
#[test]
fn openssl_agrees_on_the_lives_of_certificates() {
    if !have("outside::openssl_agrees_on_the_lives_of_certificates", "openssl", &["version"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let host = Agent::enrolled(&manager, "h");
    let leaf = sandbox.file("leaf.pem", &certificates(&host.identity().join("identity.pem"))[0]);
    let ends_within = |seconds: &str| {
        let check = ["x509", "-in", leaf.to_str().unwrap(), "-noout", "-checkend", seconds];
        !Command::new("openssl").args(check).output().unwrap().status.success()
    };
    assert!(!ends_within("86000") && ends_within("86500"), "a day");
}

/// The agent's API and the manager's metrics, as scripts and monitoring read them.
#[test]
fn curl_reads_the_interfaces() {
    if !have("outside::curl_reads_the_interfaces", "curl", &["--version"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let mut agent = Agent::new(&sandbox, "h").forwarding(TYPE);
    manager.apply(&Topology::new().manager("h", "/x", agent.address()));
    agent.enroll_with(&manager);
    let _stub = Stub::start("h", SocketAddr::new(agent.address(), PORT));
    agent.start_ready();
    manager.wait_in_sync(1);
    let socket = agent.api();
    let agent_says = |path: &str| {
        let url = format!("http://localhost{path}");
        output("curl", &["-sS", "--fail-with-body", "--unix-socket", socket.to_str().unwrap(), &url])
    };
    let route: Value = serde_json::from_str(&agent_says(&format!("/v1/routes/{TYPE}"))).unwrap();
    assert_eq!((&route["chosen"]["host"], &route["basis"]), (&"h".into(), &"live".into()), "{route}");
    let endpoint = format!("{}:{PORT}", agent.address());
    assert_eq!(route["chosen"]["endpoint"], endpoint);
    let status: Value = serde_json::from_str(&agent_says("/v1/status")).unwrap();
    assert!(status.is_object(), "{status}");
    assert_metrics(&agent_says("/metrics"));
    agent_says("/readyz");

    let unknown = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", socket.to_str().unwrap()];
    let unknown = [unknown.as_slice(), &["http://localhost/v1/routes/no-such-type"]].concat();
    assert_eq!(output("curl", &unknown), "404");

    let manager_says = |path: &str| output("curl", &["-sSf", &format!("http://{}{path}", manager.http())]);
    for path in ["/healthz", "/readyz", "/primary"] {
        assert_eq!(manager_says(path), "ok\n");
    }
    assert_metrics(&manager_says("/metrics"));
}

/// Prometheus's text format: named samples with numbers.
fn assert_metrics(text: &str) {
    let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(samples.len() > 5, "{text}");
    for sample in samples {
        let (name, value) = sample.rsplit_once(' ').unwrap();
        assert!(name.starts_with("echelon_"), "{sample}");
        assert!(value.parse::<f64>().is_ok(), "{sample}");
    }
}
