//! Several registry managers of one registry.

use crate::testimony::{Entry, Testimony};
use crate::writers::Told;
use crate::{Answer, Console, Manager, Sandbox, wait_for};
use echelon_core::position::Position;
use serde_json::Value;
use std::fs;
use std::net::IpAddr;
use std::ops::{Index, IndexMut};
use std::path::{Path, PathBuf};

/// The host of the primary that makes the registry, and those of the standbys that join it.
pub const HOSTS: [&str; 4] = ["hub", "spare1", "spare2", "spare3"];

/// A primary and standbys, each with its own process, state directory and address. Indexed in the order of [`HOSTS`].
#[derive(Debug)]
pub struct Cluster<'a> {
    managers: Vec<Manager<'a>>,
    console: PathBuf,
}

impl<'a> Cluster<'a> {
    /// All run, and every standby counts for commits.
    pub fn running(sandbox: &'a Sandbox, standbys: usize) -> Self {
        let hub = Manager::running(sandbox);
        // An admin's own machine: it is there whatever becomes of the first manager's disk.
        let console = sandbox.path("admin");
        copy_directory(&hub.console_identity(), &console);
        let mut cluster = Self { managers: vec![hub], console };
        for host in &HOSTS[1..=standbys] {
            let mut standby = Manager::join(sandbox, host, &cluster[0], &cluster.console_at(0));
            standby.start();
            cluster.managers.push(standby);
            cluster.wait_counts(0, host);
        }
        cluster
    }

    /// The admin's console, with an address of this manager alone.
    pub fn console_at(&self, manager: usize) -> Console {
        Console::new(&self.console).at(self[manager].listen())
    }

    /// The admin's identity directory.
    pub fn identity(&self) -> &Path {
        &self.console
    }

    /// How many managers there are.
    pub fn len(&self) -> usize {
        self.managers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.managers.is_empty()
    }

    /// Where a manager listens, and what it dials from.
    pub fn address(&self, manager: usize) -> IpAddr {
        self[manager].listen().ip()
    }

    /// Waits until this manager says that the one on `host` counts for commits.
    #[track_caller]
    pub fn wait_counts(&self, at: usize, host: &str) {
        wait_for(&format!("{host} to count"), || {
            let all = self.manager_list(at)?;
            let counts = all.iter().any(|m| m["host"] == host && m["counts"] == true);
            counts.then_some(()).ok_or(format!("{all:?}"))
        });
    }

    fn manager_list(&self, at: usize) -> Result<Vec<Value>, String> {
        let answer = self.console_at(at).run("manager list --output json");
        match answer.code {
            0 => Ok(answer.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()),
            _ => Err(format!("{answer:?}")),
        }
    }

    /// Waits until this manager accepts edits.
    #[track_caller]
    pub fn wait_accepts(&self, manager: usize) {
        wait_for(&format!("{} to accept edits", HOSTS[manager]), || self[manager].accepts_edits());
    }

    /// A forced promotion of a manager by a console that knows nobody but `at`.
    pub fn force(&self, at: usize, to: usize, more: &str) -> Answer {
        let to = HOSTS[to];
        self.console_at(at)
            .run(&format!("promote {to} --force --reason test --yes acme --output json {more}"))
    }

    /// Makes an edit at this manager.
    #[track_caller]
    pub fn edit(&self, manager: usize, host: &str) -> Value {
        self.console_at(manager).object(&format!("host add {host} --domain /"))
    }

    /// What a manager says was committed.
    ///
    /// # Errors
    /// It does not say.
    pub fn history(&self, manager: usize) -> Result<Vec<Entry>, String> {
        let answer = self.console_at(manager).run("history --since 0 --output json");
        match answer.code {
            0 => Ok(answer.out.lines().map(|line| entry(&serde_json::from_str(line).unwrap())).collect()),
            _ => Err(format!("{answer:?}")),
        }
    }

    /// What all managers list as lost, as a console says that knows this one.
    #[track_caller]
    pub fn lost(&self, at: usize) -> Vec<Entry> {
        self.console_at(at).objects("edits lost").iter().map(entry).collect()
    }

    /// Waits until all managers that run tell one history, and gives what they say with what clients were told.
    #[track_caller]
    pub fn testimony(&self, told: Told) -> Testimony {
        let histories = wait_for("one history at all managers", || {
            let started = (0..self.len()).filter(|at| self[*at].is_started());
            let all: Result<Vec<_>, String> =
                started.map(|at| Ok((HOSTS[at].to_owned(), self.history(at)?))).collect();
            let all = all?;
            match all.windows(2).all(|pair| pair[0].1 == pair[1].1) {
                true => Ok(all),
                false => {
                    Err(format!("{:?}", all.iter().map(|(host, h)| (host, h.last())).collect::<Vec<_>>()))
                }
            }
        });
        let histories = histories.into_iter().collect();
        Testimony { edits: told.edits, readings: told.readings, histories, lost: Vec::new() }
    }
}

impl<'a> Index<usize> for Cluster<'a> {
    type Output = Manager<'a>;

    fn index(&self, at: usize) -> &Manager<'a> {
        &self.managers[at]
    }
}

impl<'a> IndexMut<usize> for Cluster<'a> {
    fn index_mut(&mut self, at: usize) -> &mut Manager<'a> {
        &mut self.managers[at]
    }
}

/// An edit of `history` or `edits lost`.
fn entry(edit: &Value) -> Entry {
    let position = Position {
        lineage: edit["lineage"].as_str().unwrap().parse().unwrap(),
        epoch: edit["epoch"].as_u64().unwrap(),
        revision: edit["revision"].as_u64().unwrap(),
    };
    let changed = edit["changed"].as_array().unwrap().iter();
    let names = changed.filter(|object| object["kind"] == "host" && object["before"].is_null());
    Entry {
        at: position,
        request: edit["request_id"].as_str().unwrap().parse().unwrap(),
        names: names.map(|host| host["name"].as_str().unwrap().to_owned()).collect(),
    }
}

/// Copies files with their modes, and directories with theirs.
fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
