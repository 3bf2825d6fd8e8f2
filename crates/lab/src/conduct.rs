//! Carries out commands from a script, a pipe or a terminal.

use crate::live::Live;
use crate::printer::Printer;
use anyhow::{Context, anyhow};
use echelon_daemon::Exit;
use echelon_lab::command::{MAX_LINE, SyntaxError};
use echelon_lab::{Command, Lab, Script};
use std::io::{self, BufRead, Read};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often the live view looks for changes: nobody sees a tenth of a second.
const TICK: Duration = Duration::from_millis(100);

/// Lines that were read and not yet carried out.
const LINES_AHEAD: usize = 16;

/// What commands in a pipe are called in errors.
const PIPE: &str = "standard input";

/// Carries out commands and says what came of them.
pub(crate) struct Conductor<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) printer: &'a Printer,
    /// Cancelled when the user wants to end.
    pub(crate) stop: CancellationToken,
}

/// What comes after a command.
#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    Quit,
}

impl Conductor<'_> {
    /// Carries out a script, up to the first command that fails.
    ///
    /// # Errors
    /// Names that command's place.
    pub(crate) async fn script(&self, script: &Script) -> anyhow::Result<Exit> {
        let mut comments = script.comments.iter().peekable();
        for (line, command) in &script.lines {
            while let Some((_, comment)) = comments.next_if(|(at, _)| at < line) {
                self.printer.comment(comment)?;
            }
            if self.step(command).await.with_context(|| format!("{}:{line}", script.file))? == Next::Quit {
                break;
            }
        }
        Ok(Exit::Done)
    }

    /// Carries out commands as they come, up to the first one that fails.
    ///
    /// # Errors
    /// Names that command's line.
    pub(crate) async fn pipe(&self) -> anyhow::Result<Exit> {
        let mut lines = read_lines();
        let mut number = 0_usize;
        while let Some(line) = self.until_stopped(lines.recv()).await? {
            number += 1;
            let place = || format!("{PIPE}:{number}");
            let Some(command) = Command::on_line(&line).with_context(place)? else { continue };
            if self.step(&command).await.with_context(place)? == Next::Quit {
                break;
            }
        }
        Ok(Exit::Done)
    }

    /// Carries out what is typed below a live view; a command that fails ends nothing.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) async fn terminal(&self) -> anyhow::Result<Exit> {
        let (mut lines, mut live) = (read_lines(), Live::new());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        live.draw(self.lab, "")?;
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                () = self.stop.cancelled() => None,
                _ = tick.tick() => {
                    live.redraw(self.lab)?;
                    continue;
                }
            };
            live.erase(line.is_some())?;
            let Some(line) = line else { return Ok(Exit::Done) };
            if self.typed(&line, &mut live).await? == Next::Quit {
                return Ok(Exit::Done);
            }
            live.draw(self.lab, "")?;
        }
    }

    /// Carries out a line that was typed. The view goes on meanwhile.
    async fn typed(&self, line: &str, live: &mut Live) -> anyhow::Result<Next> {
        let command = match Command::on_line(line) {
            Ok(None) => return Ok(Next::GoOn),
            Ok(Some(command)) => command,
            Err(error) => return self.no_command(line, &error),
        };
        live.draw(self.lab, &format!("{command} …"))?;
        let running = self.lab.run(&command);
        tokio::pin!(running);
        let mut tick = interval(TICK);
        let answer = loop {
            tokio::select! {
                answer = &mut running => break Some(answer),
                () = self.stop.cancelled() => break None,
                _ = tick.tick() => live.redraw(self.lab)?,
            }
        };
        live.erase(false)?;
        match answer {
            None => return Ok(Next::Quit),
            Some(Ok(answer)) => self.printer.answer(&command, &answer)?,
            Some(Err(error)) => self.printer.problem(&command, &error.into())?,
        }
        Ok(next(&command))
    }

    fn no_command(&self, line: &str, error: &SyntaxError) -> anyhow::Result<Next> {
        let line = echelon_core::name::Text::lossy(line.trim());
        anstream::println!("{}: {}", line, crate::text::paint(crate::text::BAD, error));
        Ok(Next::GoOn)
    }

    /// One command, which has to succeed.
    async fn step(&self, command: &Command) -> anyhow::Result<Next> {
        match self.until_stopped(self.lab.run(command)).await? {
            Ok(answer) => {
                self.printer.answer(command, &answer)?;
                if answer.is_failure() {
                    return Err(anyhow!("{command} was not met; nothing after it was carried out"));
                }
                Ok(next(command))
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                self.printer.problem(command, &error)?;
                Err(error)
            }
        }
    }

    async fn until_stopped<T>(&self, work: impl Future<Output = T>) -> anyhow::Result<T> {
        tokio::select! {
            done = work => Ok(done),
            () = self.stop.cancelled() => Err(anyhow!("interrupted")),
        }
    }
}

fn next(command: &Command) -> Next {
    if *command == Command::Quit { Next::Quit } else { Next::GoOn }
}

/// The lines of standard input, which a thread of its own waits for: it cannot be called off, and ends
/// with the process.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        while let Some(line) = read_line(&mut input) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// The next line, cut where it is longer than any command; none at the end.
fn read_line(input: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    let most = u64::try_from(MAX_LINE).unwrap_or(u64::MAX) + 2;
    input.take(most).read_until(b'\n', &mut line).ok().filter(|n| *n > 0)?;
    Some(String::from_utf8_lossy(&line).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_the_last_needs_no_end() {
        let mut input = format!("quit\n{}", "x".repeat(3000)).into_bytes();
        input.extend(b"\nlast");
        let mut input = input.as_slice();
        assert_eq!(read_line(&mut input).unwrap(), "quit\n");
        let long = read_line(&mut input).unwrap();
        assert_eq!(Command::on_line(&long), Err(SyntaxError::TooLong(MAX_LINE + 2)));
        assert_eq!(std::iter::from_fn(|| read_line(&mut input)).last().unwrap(), "last");
    }
}
