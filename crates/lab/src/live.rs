//! The live view of a terminal: who serves whom, redrawn above the prompt whenever it changes.

use crate::text::{self, BOLD, DIM, paint};
use anstream::ColorChoice;
use echelon_core::name::ManagerType;
use echelon_lab::Lab;
use echelon_lab::answer::RouteLine;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The terminal's size where it does not tell.
const USUAL: (usize, usize) = (24, 80);

/// Lines that are left to results and the prompt.
const MARGIN: usize = 6;

/// Before the cursor.
pub(crate) const PROMPT: &str = "lab> ";

/// A block of lines above the prompt.
pub(crate) struct Live {
    colour: bool,
    block: Vec<String>,
}

impl Live {
    /// Nothing is drawn yet.
    pub(crate) fn new() -> Self {
        let colour = anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        Self { colour, block: Vec::new() }
    }

    /// Draws the block and the prompt with `typed` behind it, where the cursor is, which has to be the
    /// beginning of a line.
    pub(crate) fn draw(&mut self, lab: &Lab, typed: &str) -> io::Result<()> {
        self.block = block(lab);
        let lines: String = self.block.iter().map(|line| format!("{line}\n")).collect();
        self.write(&format!("{lines}{PROMPT}{typed}"))
    }

    /// Brings the block up to date where it stands, around what is being typed. It keeps its height: to
    /// move the prompt would lose what was typed.
    pub(crate) fn redraw(&mut self, lab: &Lab) -> io::Result<()> {
        let mut new = block(lab);
        new.resize(self.block.len(), String::new());
        if new == self.block {
            return Ok(());
        }
        self.block = new;
        let lines: String =
            self.block.iter().map(|line| format!("\x1b[2K{}\n", self.visible(line))).collect();
        // Save the cursor, go up to the block, write it, restore the cursor.
        raw(&format!("\x1b7\x1b[{}A\r{lines}\x1b8", self.block.len()))
    }

    /// Removes block and prompt. After `entered` the cursor is on the line below the prompt.
    pub(crate) fn erase(&mut self, entered: bool) -> io::Result<()> {
        let up = self.block.len() + usize::from(entered);
        self.block.clear();
        let up = if up == 0 { String::new() } else { format!("\x1b[{up}A") };
        raw(&format!("{up}\r\x1b[J"))
    }

    fn write(&self, text: &str) -> io::Result<()> {
        raw(&self.visible(text))
    }

    /// The text without colours where nobody wants them.
    fn visible(&self, text: &str) -> String {
        if self.colour { text.to_owned() } else { anstream::adapter::strip_str(text).to_string() }
    }
}

fn raw(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Rows and columns of the terminal.
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row.into(), size.ws_col.into()),
        _ => USUAL,
    }
}

/// Who serves whom, as many lines as fit: those first that deserve a look.
fn block(lab: &Lab) -> Vec<String> {
    let (rows, columns) = size();
    let names = lab.names().types();
    let mut groups: Vec<Group> = names.iter().flat_map(|ty| groups(ty, lab.known_routes(ty))).collect();
    groups.sort_by_key(Group::at_home);
    let room = rows.saturating_sub(MARGIN).max(1);
    let more = groups.len().saturating_sub(room);
    let types = widest(&groups, |g| g.ty.as_str().len()).min(columns / 4);
    let managers = widest(&groups, |g| g.manager.len()).min(columns / 3);
    let mut lines = vec![paint(DIM, cut("help shows the commands, quit ends the lab", columns))];
    lines.extend(groups.iter().take(room).map(|group| group.line((types, managers), columns)));
    if more > 0 {
        lines.push(paint(DIM, format!("and {more} more: routes TYPE shows all")));
    }
    lines
}

fn widest(groups: &[Group], width: impl Fn(&Group) -> usize) -> usize {
    groups.iter().map(width).max().unwrap_or_default()
}

fn cut(text: &str, columns: usize) -> &str {
    text.get(..columns).unwrap_or(text)
}

/// The hosts that one manager serves.
struct Group {
    ty: ManagerType,
    manager: String,
    hosts: Vec<RouteLine>,
}

fn groups(ty: &ManagerType, routes: Vec<RouteLine>) -> Vec<Group> {
    let mut groups: BTreeMap<String, Vec<RouteLine>> = BTreeMap::new();
    for route in routes {
        groups.entry(text::name(route.chosen.as_ref()).to_owned()).or_default().push(route);
    }
    groups.into_iter().map(|(manager, hosts)| Group { ty: ty.clone(), manager, hosts }).collect()
}

impl Group {
    /// Whether all its hosts are at home.
    fn at_home(&self) -> bool {
        self.hosts.iter().all(|host| host.outcome == Some(echelon_core::report::Outcome::Home))
    }

    fn line(&self, (types, managers): (usize, usize), columns: usize) -> String {
        let head = format!("{:types$.types$}  {:managers$.managers$} serves ", self.ty, self.manager);
        let mut left = columns.saturating_sub(head.chars().count() + " and 9999 more".len());
        let mut names = Vec::new();
        for host in &self.hosts {
            let name = host.host.as_str();
            left = match left.checked_sub(name.len() + 1) {
                Some(left) => left,
                None => break,
            };
            names.push(paint(text::outcome(host.outcome).1, name));
        }
        let more = self.hosts.len() - names.len();
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let manager = paint(BOLD, format!("{:managers$.managers$}", self.manager));
        let head = format!("{:types$.types$}  {manager} serves ", self.ty);
        format!("{head}{}{more}", names.join(" "))
    }
}
