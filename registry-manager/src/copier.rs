//! Getting the copies of another manager's registry that the journal wishes for, and not too often where that fails.

use crate::copies::{CopyError, beside, fetch};
use crate::failure;
use crate::journal::{Arrived, Said};
use crate::limits::{COPY_LOOK, COPY_PAUSE, COPY_ROOM, COPY_UNWISHED};
use crate::server::Shared;
use echelon_core::alarm::Notice;
use echelon_core::id::HostId;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

/// The alarm of a copy that is needed and cannot be had, or not be put in place.
const FAILING: &str = "copy-failing";

/// A wish of the journal: from whom, and under which number.
type Wish = (HostId, u64);

/// Fetches copies for the journal, as it wishes for them, until the manager stops.
pub(crate) async fn fetch_wished(shared: Shared, wishes: mpsc::UnboundedReceiver<Wish>) {
    let copier = Copier { shared: &shared, wishes, trouble: None };
    tokio::select! {
        () = copier.run() => {}
        () = shared.stop.cancelled() => {}
    }
}

struct Copier<'a> {
    shared: &'a Shared,
    wishes: mpsc::UnboundedReceiver<Wish>,
    /// What is wrong since the last copy that came to something.
    trouble: Option<Trouble>,
}

/// Why there was no copy, and what it was like then.
struct Trouble {
    /// How many tries in a row came to nothing.
    tries: u32,
    place: Place,
    link: Option<u64>,
}

/// What there is to put a copy into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    writable: bool,
    /// Bytes that are free.
    room: u64,
}

/// Why a try came to nothing, for people.
struct Failed {
    why: String,
    /// Whether that lies with this manager's own disk.
    own: bool,
}

impl Copier<'_> {
    async fn run(mut self) {
        while let Some(wish) = self.next().await {
            let (from, number) = self.pause(wish).await;
            let name = self.shared.hub.name_of(from);
            match self.try_to_copy(from, number).await {
                Ok(()) => self.is_over(),
                Err(failed) => {
                    warn!(from = %name, "There is no copy of the registry: {}", failed.why);
                    let tries = self.trouble.as_ref().map_or(1, |before| before.tries.saturating_add(1));
                    // A link that ends breaks a copy off, which is nothing where the next one succeeds.
                    if failed.own || tries > 1 {
                        self.shared.alarms.raise(failing(name.as_str(), &failed, self.directory()));
                    }
                    self.trouble =
                        Some(Trouble { tries, place: look(&self.shared.journal), link: self.link(from) });
                }
            }
        }
    }

    /// The next wish. Where none comes for a while, whatever was wrong is over.
    async fn next(&mut self) -> Option<Wish> {
        while self.trouble.is_some() {
            match timeout(COPY_UNWISHED, self.wishes.recv()).await {
                Ok(wish) => return wish,
                Err(_) => self.is_over(),
            }
        }
        self.wishes.recv().await
    }

    fn is_over(&mut self) {
        self.trouble = None;
        self.shared.alarms.clear(FAILING);
    }

    /// Waits until it is time for another try, or until what was wrong may have changed. Gives the newest wish.
    async fn pause(&mut self, mut wish: Wish) -> Wish {
        let Some(trouble) = &self.trouble else { return wish };
        let end = Instant::now() + pause(trouble.tries);
        while Instant::now() < end {
            tokio::select! {
                Some(newer) = self.wishes.recv() => wish = newer,
                () = sleep(COPY_LOOK) => {}
            }
            let place = look(&self.shared.journal);
            if place.is_better_than(trouble.place) || self.link(wish.0) != trouble.link {
                break;
            }
        }
        wish
    }

    async fn try_to_copy(&self, from: HostId, wish: u64) -> Result<(), Failed> {
        let shared = self.shared;
        info!(from = %shared.hub.name_of(from), "Fetching a copy of the registry");
        let path = beside(&shared.journal);
        let fetched = match shared.links.connection(from) {
            None => Err(CopyError::Broken("there is no link".to_owned())),
            Some(connection) => fetch(&connection, &path).await,
        };
        let (put, outcome) = oneshot::channel();
        let arrived = fetched.as_ref().ok().map(|()| Arrived { path, put });
        shared.edits.say(Said::Copied(wish, arrived)).await;
        if let Err(error) = fetched {
            let own = matches!(error, CopyError::File { .. });
            return Err(Failed { why: failure::in_full(&error), own });
        }
        match outcome.await {
            Ok(Some(why)) => Err(Failed { why, own: true }),
            // It was put in place, or is not wished for any more.
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// Which link there is to a manager.
    fn link(&self, to: HostId) -> Option<u64> {
        self.shared.links.connection(to).map(|connection| connection.stable_id())
    }

    fn directory(&self) -> &Path {
        self.shared.journal.parent().unwrap_or(&self.shared.journal)
    }
}

/// Doubles with each try that comes to nothing.
fn pause(tries: u32) -> Duration {
    let doubled = COPY_PAUSE.0.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1)));
    doubled.min(COPY_PAUSE.1)
}

fn failing(from: &str, failed: &Failed, directory: &Path) -> Notice {
    let message = format!(
        "this manager needs a copy of the registry of {from}, and takes no edits until it has one: {}",
        failed.why
    );
    let (again, directory) = (COPY_PAUSE.1, directory.display());
    let remedy = match failed.own {
        true => format!(
            "make room in {directory}, or make it writable; it is tried again as soon as there is, and every {again:?}"
        ),
        false => format!("see the log of {from}, and the network to it; it is tried again every {again:?}"),
    };
    Notice::warning(FAILING, &message, &remedy)
}

/// What there is beside this file.
fn look(registry: &Path) -> Place {
    let probe: PathBuf = beside(registry);
    let writable = File::create_new(&probe).is_ok();
    // What cannot be removed is removed at the next start.
    let _ = std::fs::remove_file(&probe);
    let stat = registry.parent().and_then(|directory| rustix::fs::statvfs(directory).ok());
    let room = stat.map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    Place { writable, room }
}

impl Place {
    /// Whether a copy may fit now that did not then: not for each file that somebody removes.
    fn is_better_than(self, then: Self) -> bool {
        self.writable
            && (!then.writable
                || self.room >= then.room.saturating_add(then.room / 4).saturating_add(COPY_ROOM))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_become_rarer_up_to_a_bound() {
        let pauses: Vec<_> = (1..9).map(|tries| pause(tries).as_millis()).collect();
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
        assert_eq!(pause(u32::MAX), COPY_PAUSE.1);
    }

    #[test]
    fn a_place_is_better_once_it_can_be_written_or_has_much_more_room() {
        let place = |writable, room: u64| Place { writable, room: room << 20 };
        let full = place(true, 100);
        for (now, better) in [(100, false), (110, false), (125, false), (126, true)] {
            assert_eq!(place(true, now).is_better_than(full), better, "{now}");
        }
        assert!(place(true, 0).is_better_than(place(false, 0)));
        assert!(!place(false, 900).is_better_than(place(false, 100)));
        let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
        let here = look(&dir.path().join("registry.db"));
        assert!(here.writable && here.room > 0, "{here:?}");
        assert!(!look(&dir.path().join("none").join("registry.db")).writable);
    }

    #[test]
    fn the_alarm_says_why_and_what_to_do() {
        let notice =
            |own| failing("hub", &Failed { why: "the disk is full".into(), own }, Path::new("/var/lib/x"));
        let own = notice(true);
        assert!(own.message.as_str().contains("of hub") && own.message.as_str().contains("the disk is full"));
        assert!(own.remedy.as_str().contains("make room in /var/lib/x"), "{}", own.remedy);
        assert!(notice(false).remedy.as_str().contains("the log of hub"));
    }
}
