//! Root, issuer and leaf together, checked by this crate's own verifier and by OpenSSL.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use echelon_core::id::HostId;
use echelon_core::time::UnixMillis;
use echelon_identity::chain::ChainError;
use echelon_identity::trust::{TrustError, framework_of_root, root_hash};
use echelon_identity::{
    Authority, CertificateChain, CertificateRequest, Credentials, IssueError, Issuer, KeyPair, Leaf, Spiffe,
    TrustBundle, lifetime,
};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn host() -> HostId {
    "017f22e2-79b0-7cc3-98c4-dc0c0c07398f".parse().unwrap()
}

fn authority() -> Authority {
    Authority::create(&"acme".parse().unwrap(), NOW).unwrap()
}

fn issue(issuer: &Issuer, subject: &Spiffe, now: UnixMillis) -> CertificateChain {
    let key = KeyPair::generate().unwrap();
    let request = CertificateRequest::new(&key).unwrap();
    let leaf = Leaf { subject, name: "web1", enrolment: 3, lifetime: subject.lifetime() };
    let chain = issuer.issue(&leaf, request.public_key(), now).unwrap();
    assert!(Credentials::new(key, chain.clone()).is_ok());
    chain
}

#[test]
fn a_leaf_names_its_holder_and_verifies_up_to_the_root() {
    let authority = authority();
    let issuer = authority.issue_intermediate(host(), NOW).unwrap();
    let subject = Spiffe::Host(host());
    let chain = issue(&issuer, &subject, NOW);
    assert_eq!(chain.certificates().len(), 3);
    assert_eq!(chain.root(), authority.certificate());
    chain.verify(&authority.trust(), NOW).unwrap();
    let peer = chain.peer().unwrap();
    assert_eq!((peer.framework.as_str(), peer.enrolment, peer.name.as_str()), ("acme", 3, "web1"));
    assert_eq!(peer.subject, subject);
    assert_eq!(peer.not_before, NOW - HOUR);
    assert_eq!(peer.not_after, NOW + lifetime::HOST);
    assert_eq!(peer.renew_at(), NOW + Duration::from_secs(23 * 1800));
}

#[test]
fn every_kind_has_its_lifetime() {
    let issuer = authority().issue_intermediate(host(), NOW).unwrap();
    let console = Spiffe::Console("anna".parse().unwrap());
    for (subject, life) in
        [(Spiffe::Manager(host()), lifetime::MANAGER), (console, Duration::from_secs(90 * 24 * 3600))]
    {
        assert_eq!(issue(&issuer, &subject, NOW).peer().unwrap().not_after, NOW + life);
    }
    assert_eq!(issuer.not_after(), NOW + Duration::from_secs(365 * 24 * 3600));
}

#[test]
fn a_leaf_never_outlives_its_issuer_and_an_expired_issuer_issues_nothing() {
    let issuer = authority().issue_intermediate(host(), NOW).unwrap();
    let subject = Spiffe::Host(host());
    let late = issuer.not_after() - HOUR;
    assert_eq!(issue(&issuer, &subject, late).peer().unwrap().not_after, issuer.not_after());
    let leaf = Leaf { subject: &subject, name: "", enrolment: 0, lifetime: lifetime::HOST };
    let key = KeyPair::generate().unwrap().public_key();
    let after = issuer.not_after() + Duration::from_millis(1);
    assert!(matches!(issuer.issue(&leaf, &key, after), Err(IssueError::Expired)));
}

#[test]
fn a_chain_is_refused_at_the_wrong_time_under_another_root_and_in_the_wrong_order() {
    let authority = authority();
    let issuer = authority.issue_intermediate(host(), NOW).unwrap();
    let chain = issue(&issuer, &Spiffe::Host(host()), NOW);
    let trust = authority.trust();
    for wrong in [NOW + lifetime::HOST + HOUR, NOW - HOUR - HOUR] {
        assert_eq!(chain.verify(&trust, wrong), Err(ChainError::Time { at: 0 }));
    }
    // Another root of the same framework has the same name, but not the same key.
    let other = self::authority();
    assert_eq!(chain.verify(&other.trust(), NOW), Err(ChainError::Root));
    let [leaf, middle, root] = <[Vec<u8>; 3]>::try_from(chain.certificates().to_vec()).unwrap();
    let forged = CertificateChain::new(vec![leaf.clone(), middle, other.certificate().to_vec()]).unwrap();
    assert_eq!(forged.verify(&other.trust(), NOW), Err(ChainError::Signature { at: 1 }));
    let short = CertificateChain::new(vec![leaf, root]).unwrap();
    assert_eq!(short.verify(&trust, NOW), Err(ChainError::Signature { at: 0 }));
}

#[test]
fn a_leaf_cannot_issue() {
    let issuer = authority().issue_intermediate(host(), NOW).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = Leaf { subject: &Spiffe::Host(host()), name: "", enrolment: 0, lifetime: lifetime::HOST };
    let chain = issuer.issue(&leaf, &key.public_key(), NOW).unwrap();
    let credentials = Credentials::new(key, chain).unwrap();
    assert!(matches!(Issuer::from_credentials(credentials), Err(IssueError::NotAuthority(_))));
}

#[test]
fn an_issuer_read_back_issues_as_before() {
    let authority = authority();
    let issuer = authority.issue_intermediate(host(), NOW).unwrap();
    let text = issuer.credentials().to_pem();
    let again = Issuer::from_credentials(Credentials::from_pem(&text).unwrap()).unwrap();
    issue(&again, &Spiffe::Host(host()), NOW).verify(&authority.trust(), NOW).unwrap();
    let text = authority.credentials().to_pem();
    let again = Authority::from_credentials(Credentials::from_pem(&text).unwrap()).unwrap();
    let issuer = again.issue_intermediate(host(), NOW).unwrap();
    issue(&issuer, &Spiffe::Host(host()), NOW).verify(&authority.trust(), NOW).unwrap();
}

#[test]
fn serial_numbers_differ_even_for_one_key() {
    let issuer = authority().issue_intermediate(host(), NOW).unwrap();
    let key = KeyPair::generate().unwrap().public_key();
    let leaf = Leaf { subject: &Spiffe::Host(host()), name: "", enrolment: 0, lifetime: lifetime::HOST };
    let [a, b] = [0, 1].map(|_| issuer.issue(&leaf, &key, NOW).unwrap());
    let serial = |chain: &CertificateChain| {
        let (_, certificate) = x509_parser::parse_x509_certificate(chain.leaf()).unwrap();
        certificate.tbs_certificate.raw_serial_as_string()
    };
    assert_ne!(serial(&a), serial(&b));
}

#[test]
fn a_trust_bundle_holds_roots_of_one_framework_only() {
    let (a, b) = (authority(), authority());
    let stranger = Authority::create(&"other".parse().unwrap(), NOW).unwrap();
    let certificate = |authority: &Authority| authority.certificate().to_vec();
    let both = TrustBundle::new(vec![certificate(&a), certificate(&b)]).unwrap();
    assert_eq!(both.root_hash(), root_hash(a.certificate()));
    assert!(both.contains(b.certificate()) && !both.contains(stranger.certificate()));
    assert_eq!(TrustBundle::from_pem(&both.to_pem()).unwrap(), both);
    assert_eq!(framework_of_root(stranger.certificate()).unwrap().as_str(), "other");
    let mixed = TrustBundle::new(vec![certificate(&a), certificate(&stranger)]);
    assert!(matches!(mixed, Err(TrustError::Frameworks { .. })));
    assert_eq!(TrustBundle::new(vec![]), Err(TrustError::Count { count: 0 }));
    let leaf = issue(&a.issue_intermediate(host(), NOW).unwrap(), &Spiffe::Host(host()), NOW);
    assert!(matches!(TrustBundle::new(vec![leaf.leaf().to_vec()]), Err(TrustError::Root { at: 0, .. })));
}

/// Whether `openssl verify` takes the chain for `purpose`.
fn openssl_takes(dir: &Path, chain: &CertificateChain, purpose: &str) -> bool {
    let pem = |name: &str, certificate: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, CertificateChain::new(vec![certificate.to_vec()]).unwrap().to_pem()).unwrap();
        path
    };
    let [leaf, issuer, root] = <[Vec<u8>; 3]>::try_from(chain.certificates().to_vec()).unwrap();
    let output = Command::new("openssl")
        .args(["verify", "-x509_strict", "-attime", &(NOW.0 / 1000).to_string(), "-purpose", purpose])
        .arg("-CAfile")
        .arg(pem("root.pem", &root))
        .arg("-untrusted")
        .arg(pem("issuer.pem", &issuer))
        .arg(pem("leaf.pem", &leaf))
        .output()
        .unwrap();
    eprintln!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    output.status.success()
}

#[test]
fn openssl_agrees() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("SKIPPED openssl_agrees: no openssl on PATH");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let issuer = authority().issue_intermediate(host(), NOW).unwrap();
    let manager = issue(&issuer, &Spiffe::Manager(host()), NOW);
    let agent = issue(&issuer, &Spiffe::Host(host()), NOW);
    assert!(openssl_takes(dir.path(), &manager, "sslserver"));
    assert!(openssl_takes(dir.path(), &manager, "sslclient"));
    assert!(openssl_takes(dir.path(), &agent, "sslclient"));
    assert!(!openssl_takes(dir.path(), &agent, "sslserver"), "an agent passed for a server");
    let expired = issue(&issuer, &Spiffe::Host(host()), NOW - Duration::from_secs(48 * 3600));
    assert!(!openssl_takes(dir.path(), &expired, "sslclient"), "an expired certificate passed");
}
