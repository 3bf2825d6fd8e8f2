//! Changes of policies.

use super::Draft;
use crate::name::DomainPath;
use crate::policy::{Policy, PolicySettings, TypeSelector};
use crate::refusal::Refusal;
use crate::row::{Row, RowKey};
use crate::setting::Setting;
use std::collections::BTreeSet;

impl Draft {
    pub(super) fn set_policy(
        &mut self,
        path: &DomainPath,
        ty: &TypeSelector,
        settings: &PolicySettings,
    ) -> Result<(), Refusal> {
        let domain = self.domain(path)?;
        let old = self.next.policy(domain, ty).map(|p| p.settings.clone()).unwrap_or_default();
        self.replace_policy(path, ty, &settings.over(&old))
    }

    pub(super) fn unset_policy(
        &mut self,
        path: &DomainPath,
        ty: &TypeSelector,
        keys: &BTreeSet<Setting>,
    ) -> Result<(), Refusal> {
        let domain = self.domain(path)?;
        let old = self.next.policy(domain, ty).map(|p| p.settings.clone()).unwrap_or_default();
        self.replace_policy(path, ty, &old.without(keys))
    }

    pub(super) fn replace_policy(
        &mut self,
        path: &DomainPath,
        ty: &TypeSelector,
        settings: &PolicySettings,
    ) -> Result<(), Refusal> {
        let domain = self.domain(path)?;
        settings.validate()?;
        match settings.is_empty() {
            true => Ok(self.unset(RowKey::Policy(domain, ty.clone()))?),
            false => {
                Ok(self.set(Row::Policy(Policy { domain, ty: ty.clone(), settings: settings.clone() }))?)
            }
        }
    }
}
