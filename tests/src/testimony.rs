//! Judges what clients were told of their edits against what registry managers say has happened.
//!
//! Clients that edit at once, through any managers and across changes of the primary, keep what they were told. The
//! managers' histories have to be one, in which every acknowledged edit is there once, where its client was told it
//! is, after everything that was over before it began; else a forced promotion has listed it as lost.

use echelon_core::id::RequestId;
use echelon_core::position::Position;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What became of an edit, as its client knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is committed, at this position.
    Acknowledged(Position),
    /// It was refused, and never had an outcome that is unknown: it must be nowhere.
    Refused,
    /// Nobody could say until the end.
    Unknown,
}

/// An edit that makes a host of a name that no other edit makes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edit {
    /// Who made it. A client makes one edit after the other.
    pub client: usize,
    /// The host of the manager that gave the answer.
    pub manager: String,
    /// The host that it makes.
    pub name: String,
    /// Its request id, the same at every repetition.
    pub request: RequestId,
    /// When it was sent first, on the clock of all clients.
    pub begin: Duration,
    /// When its outcome was known.
    pub end: Duration,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a client read of a manager.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reading {
    /// Who read.
    pub client: usize,
    /// The host of the manager.
    pub manager: String,
    /// When it was asked.
    pub begin: Duration,
    /// The state that it gave.
    pub at: Position,
    /// Hosts in it.
    pub names: BTreeSet<String>,
}

/// A committed edit, as a manager tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The state it made.
    pub at: Position,
    /// Its request id.
    pub request: RequestId,
    /// What it changed.
    pub names: BTreeSet<String>,
}

/// All that is known.
#[derive(Clone, Default, Debug)]
pub struct Testimony {
    /// What clients did.
    pub edits: Vec<Edit>,
    /// What clients saw.
    pub readings: Vec<Reading>,
    /// What every manager says, oldest first, by its host.
    pub histories: BTreeMap<String, Vec<Entry>>,
    /// What is listed as lost.
    pub lost: Vec<Entry>,
}

/// What must not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Violation {
    /// These two managers differ at this place of their histories.
    Disagree(String, String, usize),
    /// A history does not go up by one.
    Gap(Position),
    /// A request is in the history twice.
    Twice(RequestId),
    /// A client's host was made by a request that is not the client's.
    Strange(String),
    /// It was acknowledged, and is neither in the history where its client was told nor listed as lost.
    Missing(String),
    /// It is in the history, and listed as lost at the same position.
    LostAndKept(String),
    /// It was refused, and is there.
    Refused(String),
    /// It was over before the other one began, and is behind it.
    OutOfOrder(RequestId, RequestId),
    /// A client has seen a state without an edit that the same manager had acknowledged to it before.
    Unseen(String, Position),
    /// A state that a client has seen has this host too much or too little.
    Unreal(String, Position),
}

impl Testimony {
    /// Whether everything is as it must be. The number is of edits that were acknowledged and are lost.
    ///
    /// # Errors
    /// The first violation.
    pub fn judge(&self) -> Result<usize, Violation> {
        let history = self.one_history()?;
        in_sequence(history)?;
        self.made_by_their_clients(history)?;
        let mut lost = 0;
        for edit in &self.edits {
            lost += usize::from(self.is_lost(edit, history)?);
        }
        self.in_order(history)?;
        self.readings.iter().try_for_each(|reading| self.is_real(reading, history))?;
        Ok(lost)
    }

    /// The hosts that the clients' edits made of those in the history.
    pub fn kept(&self) -> usize {
        let Some(history) = self.histories.values().next() else { return 0 };
        let requests: BTreeSet<_> = history.iter().map(|entry| entry.request).collect();
        self.edits.iter().filter(|edit| requests.contains(&edit.request)).count()
    }

    fn one_history(&self) -> Result<&[Entry], Violation> {
        let mut all = self.histories.iter();
        let Some((first, history)) = all.next() else { return Ok(&[]) };
        for (other, theirs) in all {
            let most = history.len().max(theirs.len());
            if let Some(at) = (0..most).find(|at| history.get(*at) != theirs.get(*at)) {
                return Err(Violation::Disagree(first.clone(), other.clone(), at));
            }
        }
        Ok(history)
    }

    fn made_by_their_clients(&self, history: &[Entry]) -> Result<(), Violation> {
        let made: BTreeMap<_, _> = self.edits.iter().map(|edit| (edit.name.as_str(), edit.request)).collect();
        for entry in history {
            let others = |name: &&String| made.get(name.as_str()).is_some_and(|by| *by != entry.request);
            if let Some(name) = entry.names.iter().find(others) {
                return Err(Violation::Strange(name.clone()));
            }
        }
        Ok(())
    }

    /// Whether it was acknowledged and is listed as lost.
    fn is_lost(&self, edit: &Edit, history: &[Entry]) -> Result<bool, Violation> {
        let among = |entries: &[Entry], at: Option<Position>| {
            let same = |e: &Entry| e.request == edit.request && at.is_none_or(|at| e.at == at);
            entries.iter().any(|e| same(e) && e.names.contains(&edit.name))
        };
        match edit.outcome {
            Outcome::Acknowledged(at) => {
                match (among(history, Some(at)), among(&self.lost, Some(at)), among(history, None)) {
                    (true, false, _) => Ok(false),
                    (false, true, false) => Ok(true),
                    (true, true, _) => Err(Violation::LostAndKept(edit.name.clone())),
                    (false, _, _) => Err(Violation::Missing(edit.name.clone())),
                }
            }
            Outcome::Refused if among(history, None) || among(&self.lost, None) => {
                Err(Violation::Refused(edit.name.clone()))
            }
            Outcome::Refused | Outcome::Unknown => Ok(false),
        }
    }

    /// What was over before something else began is before it, whoever asked for the two.
    fn in_order(&self, history: &[Entry]) -> Result<(), Violation> {
        let edits: BTreeMap<_, _> = self.edits.iter().map(|edit| (edit.request, edit)).collect();
        let mut latest: Option<&Edit> = None;
        for edit in history.iter().filter_map(|entry| edits.get(&entry.request)) {
            if let Some(before) = latest.filter(|before| is_over(edit) && edit.end < before.begin) {
                return Err(Violation::OutOfOrder(edit.request, before.request));
            }
            if latest.is_none_or(|before| before.begin < edit.begin) {
                latest = Some(edit);
            }
        }
        Ok(())
    }

    fn is_real(&self, reading: &Reading, history: &[Entry]) -> Result<(), Violation> {
        let clients: BTreeSet<_> = self.edits.iter().map(|edit| &edit.name).collect();
        let of_clients = |entries: &[Entry]| -> BTreeSet<String> {
            entries
                .iter()
                .flat_map(|entry| &entry.names)
                .filter(|name| clients.contains(name))
                .cloned()
                .collect()
        };
        let seen: BTreeSet<_> = reading.names.iter().filter(|name| clients.contains(name)).cloned().collect();
        let own = |edit: &&Edit| (edit.client, &edit.manager) == (reading.client, &reading.manager);
        for edit in self.edits.iter().filter(own).filter(|edit| edit.end <= reading.begin) {
            let acknowledged = matches!(edit.outcome, Outcome::Acknowledged(_));
            if acknowledged && !seen.contains(&edit.name) && !of_clients(&self.lost).contains(&edit.name) {
                return Err(Violation::Unseen(edit.name.clone(), reading.at));
            }
        }
        let until = history.iter().position(|entry| entry.at == reading.at).map(|at| &history[..=at]);
        let wrong = match until {
            // Of the history that all agree on: exactly what it has up to there.
            Some(until) => of_clients(until).symmetric_difference(&seen).next().cloned(),
            // Of one that was given up, or from before the first edit: nothing that nobody made.
            None => {
                let known: BTreeSet<_> =
                    of_clients(history).union(&of_clients(&self.lost)).cloned().collect();
                seen.difference(&known).next().cloned()
            }
        };
        wrong.map_or(Ok(()), |name| Err(Violation::Unreal(name, reading.at)))
    }
}

fn is_over(edit: &Edit) -> bool {
    edit.outcome != Outcome::Unknown
}

/// Revisions go up by one, and no request has an effect twice.
fn in_sequence(history: &[Entry]) -> Result<(), Violation> {
    for pair in history.windows(2) {
        let [before, after] = pair else { continue };
        if after.at.revision != before.at.revision + 1 || after.at.epoch < before.at.epoch {
            return Err(Violation::Gap(after.at));
        }
    }
    let mut requests = BTreeSet::new();
    match history.iter().find(|entry| !requests.insert(entry.request)) {
        Some(entry) => Err(Violation::Twice(entry.request)),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "testimony_tests.rs"]
mod tests;
