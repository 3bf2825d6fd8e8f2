//! Which rule renders which file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The files that rules render, each one's own: two paths of the settings may lead to one file.
#[derive(Clone, Default)]
pub(super) struct Claims(Arc<Mutex<BTreeMap<PathBuf, PathBuf>>>);

impl Claims {
    /// Whether the rule of this path may render the file that it leads to: nobody else does. Files to which it led
    /// before are free again.
    pub(super) fn claim(&self, path: &Path, file: &Path) -> bool {
        let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        claims.retain(|claimed, by| claimed == file || by != path);
        claims.entry(file.to_owned()).or_insert_with(|| path.to_owned()) == path
    }

    /// The rule of this path renders nothing any more.
    pub(super) fn release(&self, path: &Path) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, by| by != path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_of_one_rule_until_that_lets_go_of_it() {
        let claims = Claims::default();
        let [link, file, other] = ["/link", "/file", "/other"].map(Path::new);
        assert!(claims.claim(link, file) && claims.claim(link, file));
        assert!(!claims.claim(file, file));
        assert!(claims.claim(link, other), "the link leads elsewhere now");
        assert!(claims.claim(file, file) && !claims.claim(link, file));
        claims.release(file);
        assert!(claims.claim(link, file));
    }
}
