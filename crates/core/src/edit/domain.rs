//! Changes of domains.

use super::Draft;
use crate::hierarchy::TreeError;
use crate::id::DomainId;
use crate::name::{DomainName, DomainPath};
use crate::refusal::Refusal;
use crate::row::{Domain, Row, RowKey};

impl Draft {
    pub(super) fn domain(&self, path: &DomainPath) -> Result<DomainId, Refusal> {
        self.next.hierarchy().find(path).ok_or_else(|| Refusal::UnknownDomain { path: path.clone() })
    }

    fn place_domain(&mut self, path: &DomainPath, domain: Domain) -> Result<(), Refusal> {
        self.set(Row::Domain(domain)).map_err(|cause| Refusal::Tree { path: path.clone(), cause })
    }

    pub(super) fn add_domain(&mut self, path: &DomainPath) -> Result<(), Refusal> {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return Err(Refusal::DomainExists { path: path.clone() });
        };
        if self.next.hierarchy().find(path).is_some() {
            return Err(Refusal::DomainExists { path: path.clone() });
        }
        let place = Some((self.domain(&parent)?, name.clone()));
        let mut meta = self.next.meta().clone();
        let id = meta.next_domain;
        meta.next_domain = DomainId(id.0 + 1);
        self.set(Row::Meta(meta))?;
        self.place_domain(path, Domain { id, place })
    }

    pub(super) fn rename_domain(&mut self, path: &DomainPath, name: &DomainName) -> Result<(), Refusal> {
        let id = self.domain(path)?;
        let place = self.next.hierarchy().parent(id).map(|parent| (parent, name.clone()));
        if place.is_none() {
            return Err(Refusal::Tree { path: path.clone(), cause: TreeError::Root });
        }
        self.place_domain(path, Domain { id, place })
    }

    pub(super) fn move_domain(&mut self, path: &DomainPath, parent: &DomainPath) -> Result<(), Refusal> {
        let (id, to) = (self.domain(path)?, self.domain(parent)?);
        let Some(name) = path.name() else {
            return Err(Refusal::Tree { path: path.clone(), cause: TreeError::Root });
        };
        self.place_domain(path, Domain { id, place: Some((to, name.clone())) })
    }

    pub(super) fn remove_domain(&mut self, path: &DomainPath, recursive: bool) -> Result<(), Refusal> {
        let id = self.domain(path)?;
        let below = self.next.hierarchy().subtree(id);
        if below.len() > 1 && !recursive {
            return Err(Refusal::DomainHasSubdomains { path: path.clone(), subdomains: below.len() - 1 });
        }
        let hosts: Vec<_> = below.iter().flat_map(|d| self.next.hosts_in(*d)).collect();
        if let Some(first) = hosts.first() {
            let (example, hosts) = (first.name.clone(), hosts.len());
            return Err(Refusal::DomainNotEmpty { path: path.clone(), hosts, example });
        }
        // Subdomains come after their parents in `below`.
        for domain in below.into_iter().rev() {
            let policies: Vec<_> = self.next.policies_of(domain).map(|p| p.ty.clone()).collect();
            for ty in policies {
                self.unset(RowKey::Policy(domain, ty))?;
            }
            // A token for a domain that is gone could enrol nobody any more.
            let tokens: Vec<_> = self.next.tokens().filter(|t| t.domain == domain).map(|t| t.id).collect();
            for id in tokens {
                self.unset(RowKey::Token(id))?;
            }
            let removed = self.unset(RowKey::Domain(domain));
            removed.map_err(|cause| Refusal::Tree { path: path.clone(), cause })?;
        }
        Ok(())
    }
}
