//! Documents whose commands are run, and whose answers are held against those that are written down.
//!
//! In a block marked `console`, a line that begins with `$ ` is a command, and so are the indented lines right
//! after it; what follows is its answer, with standard error in it. `…` stands for whatever is left out: on a line of
//! its own for any lines, in a line for any text. Commands share one shell, on a machine of their own: nothing of
//! what they write, listen at or start is seen outside of it, and all of it goes with them.

use crate::binaries::{binaries, workspace};
use crate::skip::have;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Set to `overwrite`, answers that differ are written into the document instead of failing the test.
const MODE: &str = "TRANSCRIPTS";

/// How long one command may take. Far longer than any of them takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// How long a command that only reads is repeated until it answers as written: the machine may be busy.
const SETTLE: Duration = Duration::from_secs(60);

/// Between two of these.
const PAUSE: Duration = Duration::from_millis(100);

/// Commands that change nothing, by how they begin.
const READING: [&str; 13] = [
    "echelon status",
    "echelon tree",
    "echelon route",
    "echelon host list",
    "echelon host show",
    "echelon alarm",
    "echelon package list",
    "echelon manager list",
    "echelon manager show",
    "echelon lineage show",
    "echelon edits lost",
    "grep ",
    "curl ",
];

/// What a command contains that only tells what it would do.
const TRIES: &str = "--dry-run";

/// What one of those above contains that does something all the same.
const DOES: &str = "--apply";

/// Said behind each answer.
const END: &str = "\u{1}end";

/// What makes the machine: directories that are written to lie over the real ones. What is installed on the real one is
/// not installed here; the sources are where an administrator would put them, with what was built of them.
const MACHINE: &str = "
set -e
mount -t tmpfs machine /mnt
for directory in /etc /var/lib /usr/local /tmp; do
  over=/mnt/${directory//\\//_}
  mkdir -p $over/upper $over/work
  mount -t overlay machine -o lowerdir=$directory,upperdir=$over/upper,workdir=$over/work $directory
done
mount -t tmpfs machine /run
rm -f /usr/local/bin/{registry-manager,registry-agent,echelon}
source=/usr/local/src/echelon
mkdir -p $source/target
ln -s \"$WORKSPACE/dist\" $source/dist
ln -s \"$BINARIES\" $source/target/release
PATH=/usr/local/bin:$BINARIES:$PATH
hostname hub
PATH=$PATH:/usr/sbin:/sbin ip link set lo up
cd /tmp
set +e
exec 2>&1 bash --noprofile --norc
";

/// One command of a document.
#[derive(Clone, Debug)]
struct Step {
    /// The heading of the section that it is in.
    section: String,
    command: String,
    /// Where its answer stands, by lines.
    answer: Range<usize>,
}

/// The shell in which a document's commands run.
struct Shell {
    child: Child,
    commands: ChildStdin,
    lines: Receiver<String>,
}

/// One at a time where documents are written: parts of one are run by several tests.
static WRITING: Mutex<()> = Mutex::new(());

/// Runs what `document` says, a path below the workspace. `name` is the test's, `skip` says of a section's heading and a
/// command whether it is not for this machine.
pub fn run(name: &str, document: &str, skip: impl Fn(&str, &str) -> bool) {
    let trial = [
        &UNSHARE[..],
        &[
            "bash",
            "-c",
            "mount -t tmpfs t /mnt && mkdir /mnt/u /mnt/w && mount -t overlay \
        -o lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w t /etc && PATH=$PATH:/usr/sbin ip link show",
        ],
    ]
    .concat();
    if !have(name, "unshare", &trial) || !have(name, "curl", &["--version"]) {
        return;
    }
    let _alone = overwrites().then(|| WRITING.lock().unwrap_or_else(PoisonError::into_inner));
    let path = workspace().join(document);
    let mut lines: Vec<String> = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    let (mut shell, mut differ, mut answers) = (Shell::start(), Vec::new(), Vec::new());
    for step in steps(&lines).into_iter().filter(|step| !skip(&step.section, &step.command)) {
        let wanted = &lines[step.answer.clone()];
        let answer = shell.answer_as(&step.command, wanted);
        if !fits(wanted, &answer) {
            differ.push(format!(
                "{document}:{}: $ {}\n{}",
                step.answer.start,
                step.command,
                answer.join("\n")
            ));
            answers.push((step.answer, answer));
        }
    }
    drop(shell);
    if overwrites() {
        // From the end, so that the places of those before stay true.
        for (place, answer) in answers.into_iter().rev() {
            lines.splice(place, answer);
        }
        fs::write(path, lines.join("\n") + "\n").unwrap();
        return;
    }
    assert!(
        differ.is_empty(),
        "these say something else now ({MODE}=overwrite writes it down):\n\n{}",
        differ.join("\n\n")
    );
}

fn overwrites() -> bool {
    std::env::var(MODE).is_ok_and(|mode| mode == "overwrite")
}

/// A machine of one's own.
const UNSHARE: [&str; 9] = [
    "--user",
    "--map-root-user",
    "--net",
    "--mount",
    "--uts",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];

/// The commands of a document, in their order.
fn steps(lines: &[String]) -> Vec<Step> {
    let (mut steps, mut block, mut section, mut at) = (Vec::new(), None, "", 0);
    while at < lines.len() {
        let line = &lines[at];
        at += 1;
        match (line.strip_prefix("```"), line.strip_prefix("## ")) {
            // A mark with nothing after it ends a block, or begins one of no kind.
            (Some(kind), _) => block = block.is_none().then_some(kind),
            (None, Some(heading)) if block.is_none() => section = heading,
            _ => {}
        }
        let inside = block == Some("console");
        let Some(first) = line.strip_prefix("$ ").filter(|_| inside) else { continue };
        let mut command = first.to_owned();
        while let Some(more) = lines.get(at).filter(|line| line.starts_with("  ")) {
            command.extend(["\n", more]);
            at += 1;
        }
        let begin = at;
        while lines.get(at).is_some_and(|line| !line.starts_with("$ ") && !line.starts_with("```")) {
            at += 1;
        }
        steps.push(Step { section: section.to_owned(), command, answer: begin..at });
    }
    steps
}

impl Shell {
    fn start() -> Self {
        let mut command = Command::new("unshare");
        command.args(UNSHARE).args(["bash", "-c", MACHINE]);
        let path = std::env::var("PATH").unwrap();
        command.env_clear().env("PATH", path).env("HOME", "/tmp");
        command.env("WORKSPACE", workspace()).env("BINARIES", binaries().directory());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (commands, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n') {
                let Ok(line) = line else { return };
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self { child, commands, lines }
    }

    /// What a command answers; where it only reads, once it answers as wanted or will not.
    fn answer_as(&mut self, command: &str, wanted: &[String]) -> Vec<String> {
        let begin = Instant::now();
        loop {
            let answer = self.answer(command);
            let settled = if overwrites() { SETTLE / 10 } else { SETTLE };
            if !only_reads(command) || fits(wanted, &answer) || begin.elapsed() > settled {
                return answer;
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn answer(&mut self, command: &str) -> Vec<String> {
        // Standard input is what the shell itself reads from.
        writeln!(self.commands, "{{ {command}\n}} </dev/null\nprintf '\\n{END}\\n'").unwrap();
        let (end, mut answer) = (Instant::now() + LIMIT, Vec::new());
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no end of `{command}`:\n{}", answer.join("\n"));
            };
            if line == END {
                break;
            }
            answer.push(line.trim_end().to_owned());
        }
        // The mark begins a line of its own, which is empty where the answer ended its last one.
        if answer.last().is_some_and(String::is_empty) {
            answer.pop();
        }
        answer
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this may be done again and again.
fn only_reads(command: &str) -> bool {
    let reads = READING.iter().any(|reading| command.starts_with(reading));
    command.contains(TRIES) || (reads && !command.contains(DOES))
}

/// Whether the lines of an answer are what is written.
pub fn fits(wanted: &[String], answer: &[String]) -> bool {
    match wanted.split_first() {
        None => answer.is_empty(),
        Some((first, rest)) if first.trim() == "…" => {
            (0..=answer.len()).any(|at| fits(rest, &answer[at..]))
        }
        Some((first, rest)) => {
            answer.split_first().is_some_and(|(line, more)| line_fits(first, line) && fits(rest, more))
        }
    }
}

fn line_fits(wanted: &str, line: &str) -> bool {
    match wanted.split_once('…') {
        None => wanted.trim_end() == line,
        Some((begin, rest)) => line.strip_prefix(begin).is_some_and(|line| {
            let ends = line.char_indices().map(|(at, _)| at).chain([line.len()]);
            ends.into_iter().any(|at| line_fits(rest, &line[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn commands_and_their_answers_are_found() {
        let text = lines(
            "# t\n```console\n$ a \\\n  b\nout\n## no\n$ c\n```\n$ no\n## s\n```\n$ no\n```\n```console\n$ d",
        );
        let found: Vec<_> = steps(&text).into_iter().map(|s| (s.section, s.command, s.answer)).collect();
        let step = |section: &str, command: &str, answer| (section.to_owned(), command.to_owned(), answer);
        assert_eq!(found, [step("", "a \\\n  b", 4..6), step("", "c", 7..7), step("s", "d", 15..15)]);
    }

    #[test]
    fn what_does_something_is_done_once() {
        assert!(only_reads("echelon edits lost") && only_reads("echelon promote hub --dry-run"));
        assert!(!only_reads("echelon edits lost --apply") && !only_reads("echelon promote hub"));
    }

    #[test]
    fn what_is_left_out_is_any_text_or_any_lines() {
        let fit = |wanted: &str, answer: &str| fits(&lines(wanted), &lines(answer));
        assert!(fit("a\n…\nz", "a\nz") && fit("a\n…\nz", "a\nb\nc\nz") && fit("took … ms", "took 3 ms"));
        assert!(!fit("a\n…\nz", "a\nb") && !fit("took … ms", "took 3 s") && !fit("", "x") && !fit("a", ""));
    }
}
