//! Announcements on disk.

use crate::record::{self, RecordError};
use echelon_core::announcements::Announcements;
use echelon_store::{StoreError, set_aside};
use std::path::{Path, PathBuf};
use tracing::error;

/// The file in the state directory.
const FILE: &str = "announced.json";

/// Longest file that is read: 64 packages whose checks are as long as they may be take under a third of it.
const MAX_BYTES: u64 = 1024 * 1024;

/// The file of a state directory.
pub(crate) fn path(state: &Path) -> PathBuf {
    state.join(FILE)
}

/// What was announced when the agent ended; nothing where there is no file. One that is damaged is set aside:
/// routing needs none of it, and what was committed stands.
///
/// # Errors
/// It can neither be read nor set aside.
pub(crate) fn load(path: &Path) -> Result<Announcements, LoadError> {
    match record::load::<Announcements>(path, MAX_BYTES) {
        Ok(found) => Ok(found.unwrap_or_default().loaded()),
        Err(damage @ RecordError::Content { .. }) => {
            let kept = set_aside(path)?;
            error!(
                kept = %kept.display(),
                "The announcements on disk are damaged and set aside; what no registry manager has taken in yet has \
                 to be announced again: {damage}"
            );
            Ok(Announcements::default())
        }
        Err(error) => Err(error.into()),
    }
}

/// Why there are no announcements to work with. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    File(#[from] RecordError),
    #[error(transparent)]
    Aside(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use echelon_core::announce::{AnnouncedSpec, HostWord};
    use echelon_core::announcements::Saying;
    use echelon_core::id::RequestId;
    use echelon_core::time::UnixMillis;

    #[test]
    fn announcements_come_back_as_they_were_and_damage_stops_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path());
        assert_eq!(load(&path).unwrap(), Announcements::default());
        let (mut said, mut place) = (Announcements::default(), crate::testing::place(vec![]));
        place.allow_types.insert(crate::testing::ty());
        let word =
            HostWord::Runs(AnnouncedSpec { port: Some(7000.try_into().unwrap()), ..Default::default() });
        let number = RequestId(uuid::Uuid::now_v7());
        let saying = said.say((&crate::testing::ty(), word), &place, number, UnixMillis(5));
        assert_eq!(saying, Ok(Saying::New(number)));
        record::save(&path, &said).unwrap();
        assert_eq!(load(&path).unwrap(), said);
        std::fs::write(&path, "{\"packages\":").unwrap();
        assert_eq!(load(&path).unwrap(), Announcements::default());
        assert!(!path.exists() && dir.path().join("announced.json.corrupt-1").exists());
    }
}
