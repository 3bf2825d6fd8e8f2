//! Proofs of grants and of marks of the journal: signatures that outlive the certificates of those who made them.

use crate::chain::{CertificateChain, ChainError, MAX_CHAIN};
use crate::credentials::Credentials;
use crate::key::{KeyError, PublicKey};
use crate::peer::{CertificateError, PeerIdentity, parse};
use crate::spiffe::Spiffe;
use crate::trust::TrustBundle;
use echelon_core::grant::{Basis, Chain, Grant, GrantId, Grantor, Mark, Proof};
use echelon_core::signed_mark::SignedMark;
use echelon_core::time::UnixMillis;
use echelon_wire::Wire;
use rcgen::SigningKey;

/// What a proof is of. It stands before everything that is signed, so that no signature made for anything else is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// A grant.
    Grant,
    /// A mark of the journal.
    Mark,
}

impl Purpose {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Grant => b"echelon grant\0",
            Self::Mark => b"echelon mark\0",
        }
    }
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The library refused.
    #[error("nothing could be signed; nothing was changed, trying again is safe")]
    Sign(#[source] rcgen::Error),
}

/// Why a signature proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The certificates do not lead to a trusted root, or were not valid at that time.
    #[error("its signer was not trusted at the time that it names")]
    Chain(#[source] ChainError),
    /// The certificate is nobody's identity.
    #[error("its signer is no party of this system")]
    Certificate(#[source] CertificateError),
    /// The certificate's key is of no kind that signs here.
    #[error("its signer's key is of a kind that is not used here")]
    Key,
    /// The signature is of something else, or of another key.
    #[error("the signature does not fit")]
    Signature,
}

/// Signs `bytes` as a proof.
///
/// # Errors
/// The library refused; there is no proof.
pub fn prove(credentials: &Credentials, purpose: Purpose, bytes: &[u8]) -> Result<Proof, ProveError> {
    let signature = credentials.key().signer().sign(&signed(purpose, bytes)).map_err(ProveError::Sign)?;
    let certificates = credentials.chain().certificates();
    // The root is known to whoever may trust it.
    let without_root = certificates.len().saturating_sub(1).max(1);
    Ok(Proof { certificates: certificates.iter().take(without_root).cloned().collect(), signature })
}

/// Signs a grant, which then carries its proof.
///
/// # Errors
/// As [`prove`].
pub fn prove_grant(credentials: &Credentials, grant: &Grant) -> Result<Grant, ProveError> {
    let unproved = grant.unproved();
    let proof = prove(credentials, Purpose::Grant, &unproved.encode())?;
    Ok(Grant { proof: Some(proof), ..unproved })
}

/// Signs a mark of the journal, of which all up to it is committed.
///
/// # Errors
/// As [`prove`].
pub fn prove_mark(credentials: &Credentials, mark: Mark, at: UnixMillis) -> Result<SignedMark, ProveError> {
    let proof = prove(credentials, Purpose::Mark, &mark_bytes(&mark, at))?;
    Ok(SignedMark { mark, at, proof })
}

/// What is signed of a mark. Of which framework it is, the root of the signer's certificates says.
fn mark_bytes(mark: &Mark, at: UnixMillis) -> Vec<u8> {
    [mark.encode().as_ref(), &at.0.to_be_bytes()].concat()
}

/// Who has signed `bytes`: with a certificate that was valid `at` that time, which may be long ago, and trusted by
/// the roots of today.
///
/// # Errors
/// It proves nothing; see [`ProofError`].
pub fn verify(
    trust: &TrustBundle,
    proof: &Proof,
    purpose: Purpose,
    bytes: &[u8],
    at: UnixMillis,
) -> Result<PeerIdentity, ProofError> {
    let leaf = proof.certificates.first().ok_or(ProofError::Chain(ChainError::Count { count: 0 }))?;
    verify_chain(trust, &proof.certificates, at).map_err(ProofError::Chain)?;
    let peer = PeerIdentity::from_chain(&proof.certificates).map_err(ProofError::Certificate)?;
    let certificate = parse(leaf).map_err(ProofError::Certificate)?;
    let key = PublicKey::from_der(certificate.public_key().raw).map_err(|_: KeyError| ProofError::Key)?;
    match key.has_signed(&signed(purpose, bytes), &proof.signature) {
        true => Ok(peer),
        false => Err(ProofError::Signature),
    }
}

/// Whether these certificates lead to one of the roots. Says of the last root why not.
fn verify_chain(trust: &TrustBundle, certificates: &[Vec<u8>], at: UnixMillis) -> Result<(), ChainError> {
    let mut verified = Err(ChainError::Root);
    if certificates.len() >= MAX_CHAIN {
        return Err(ChainError::Count { count: certificates.len() });
    }
    for root in trust.roots() {
        let chain = certificates.iter().chain([root]).cloned().collect();
        verified = CertificateChain::new(chain).and_then(|chain| chain.verify(trust, at));
        if verified.is_ok() {
            break;
        }
    }
    verified
}

fn signed(purpose: Purpose, bytes: &[u8]) -> Vec<u8> {
    [purpose.bytes(), bytes].concat()
}

/// Why a mark that somebody shows proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnprovedMark {
    /// Its signature proves nothing.
    #[error("its signature is not valid")]
    Proof(#[source] ProofError),
    /// It was signed by somebody who has no journal to show.
    #[error("it was signed by {0}, which is no registry manager")]
    Signer(Spiffe),
    /// The certificate of the signer's issuer has ended since.
    #[error("the issuer of its signer has ended")]
    Ended(#[source] ChainError),
}

/// Which registry manager has signed this mark, as [`verify`] finds out. That counts until the certificate of its issuer
/// ends: for so long a registry knows which issuers do not count, and everybody who is there has met a manager with a
/// newer signature by then. Whether the signer counts is for the registry to say.
///
/// # Errors
/// It proves nothing; see [`UnprovedMark`].
pub fn check_mark(
    trust: &TrustBundle,
    signed: &SignedMark,
    now: UnixMillis,
) -> Result<PeerIdentity, UnprovedMark> {
    let SignedMark { mark, at, proof } = signed;
    let signer =
        verify(trust, proof, Purpose::Mark, &mark_bytes(mark, *at), *at).map_err(UnprovedMark::Proof)?;
    let issuers = proof.certificates.get(1..).unwrap_or_default();
    verify_chain(trust, issuers, now).map_err(UnprovedMark::Ended)?;
    match signer.subject {
        Spiffe::Manager(_) => Ok(signer),
        other => Err(UnprovedMark::Signer(other)),
    }
}

/// Why a chain of grants is not to be gone by. Whoever finds out stays with what it knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnprovedError {
    /// A grant that ought to be signed is not.
    #[error(
        "grant {0} is not signed; where a build took its signature away that kept only the newest, enrol anew"
    )]
    Missing(GrantId),
    /// Its signature proves nothing.
    #[error("the signature of grant {grant} is not valid")]
    Proof {
        /// The grant.
        grant: GrantId,
        /// What is wrong with its proof.
        #[source]
        source: ProofError,
    },
    /// It was signed by somebody who cannot give such a grant.
    #[error("grant {grant} was signed by {signer}, who cannot give it")]
    Signer {
        /// The grant.
        grant: GrantId,
        /// Who signed it.
        signer: Spiffe,
    },
}

/// Whether every grant of `offered` that `known` has not got was given by somebody who may give it, at the time that
/// it names. Somebody who knows no grants takes those before the first signed one on trust, as it takes the one of `init`:
/// it trusts whoever offers them, by their certificate. Builds of old took the signatures of all but the newest away.
///
/// Gives who has given the first of them, which follows on what is known: whoever has a registry knows whether that one
/// counts. That the chains are related is for [`Chain::compare`] to say.
///
/// # Errors
/// The first grant that is not proved; see [`UnprovedError`].
pub fn check_chain(
    trust: &TrustBundle,
    known: Option<&Chain>,
    offered: &Chain,
) -> Result<Option<PeerIdentity>, UnprovedError> {
    let mut first = None;
    for (before, grant) in offered.unknown_to(known) {
        let Some(before) = before else { continue };
        match &grant.proof {
            Some(proof) => {
                let signer = check_grant(trust, before, grant, proof)?;
                first.get_or_insert(signer);
            }
            None if known.is_none() && first.is_none() => {}
            None => return Err(UnprovedError::Missing(grant.id)),
        }
    }
    Ok(first)
}

fn check_grant(
    trust: &TrustBundle,
    before: &Grant,
    grant: &Grant,
    proof: &Proof,
) -> Result<PeerIdentity, UnprovedError> {
    let signer = verify(trust, proof, Purpose::Grant, &grant.unproved().encode(), grant.at)
        .map_err(|source| UnprovedError::Proof { grant: grant.id, source })?;
    match may_give(before, grant, &signer.subject) {
        true => Ok(signer),
        false => Err(UnprovedError::Signer { grant: grant.id, signer: signer.subject }),
    }
}

/// Whether a signer can give a grant that follows on `before`.
fn may_give(before: &Grant, grant: &Grant, signer: &Spiffe) -> bool {
    match (grant.basis, signer, &grant.grantor) {
        (Basis::Force | Basis::Choice, Spiffe::Console(console), Grantor::Console(named)) => console == named,
        (Basis::Handover, Spiffe::Manager(host), _) => *host == before.holder,
        (Basis::Restore, Spiffe::Manager(host), _) => *host == grant.holder,
        // The first one is part of what is known, or is taken on trust; voters are of replica sets, which this
        // build has not got.
        _ => false,
    }
}
