//! The promotion of managers within their types.

use echelon_core::change::Change;
use echelon_core::name::{HostName, ManagerType};

/// Which managers of a host become primary.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct OfType {
    /// The types of which its manager becomes the primary
    #[arg(long = "type", value_name = "TYPE", num_args = 1.., conflicts_with = "from")]
    types: Vec<ManagerType>,
    /// All types that this host is primary of and HOST has a manager of
    #[arg(long, value_name = "OLDHOST")]
    from: Option<HostName>,
}

impl OfType {
    /// What it comes to for this host; none where no type is named.
    pub(super) fn changes(self, host: &HostName) -> Option<Vec<Change>> {
        if let Some(from) = self.from {
            return Some(vec![Change::PromoteFrom { host: host.clone(), from }]);
        }
        let promote = |ty| Change::Promote { host: host.clone(), ty };
        Some(self.types.into_iter().map(promote).collect()).filter(|changes: &Vec<_>| !changes.is_empty())
    }
}
