//! `echelon route --file … --all` as a whole process, with its output in a file: 100,000 hosts in 5,000 domains,
//! 500 managers. To reach: 1.5 s as a table, 2.5 s as JSON with three candidates each.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use echelon_bench::generate::TYPES;
use echelon_bench::report::beside;
use echelon_bench::{Samples, Shape, binaries, show};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Runs of each case; the cases take turns.
const RUNS: usize = 7;

/// One way to ask.
struct Case {
    what: &'static str,
    shape: Shape,
    arguments: &'static [&'static str],
    reach: Duration,
}

const SECONDS_1_5: Duration = Duration::from_millis(1500);
const SECONDS_2_5: Duration = Duration::from_millis(2500);
const TABLE: &[&str] = &[];
const TABLE_3: &[&str] = &["--candidates", "3"];
const JSON_3: &[&str] = &["--candidates", "3", "--output", "json"];
const FIVE_TYPES: Shape = Shape::FRAMEWORK;
const ONE_TYPE: Shape = Shape { types: 1, ..FIVE_TYPES };
/// Far more managers of one type than a framework has.
const CROWDED: Shape = Shape { managers: 20_000, ..ONE_TYPE };

const CASES: [Case; 7] = [
    Case { what: "5 types, table, all candidates", shape: FIVE_TYPES, arguments: TABLE, reach: SECONDS_1_5 },
    Case { what: "5 types, table, 3 candidates", shape: FIVE_TYPES, arguments: TABLE_3, reach: SECONDS_1_5 },
    Case { what: "5 types, JSON, 3 candidates", shape: FIVE_TYPES, arguments: JSON_3, reach: SECONDS_2_5 },
    Case { what: "1 type, table, all candidates", shape: ONE_TYPE, arguments: TABLE, reach: SECONDS_1_5 },
    Case { what: "1 type, table, 3 candidates", shape: ONE_TYPE, arguments: TABLE_3, reach: SECONDS_1_5 },
    Case { what: "1 type, JSON, 3 candidates", shape: ONE_TYPE, arguments: JSON_3, reach: SECONDS_2_5 },
    Case {
        what: "20,000 of 1 type, JSON, 3 candidates",
        shape: CROWDED,
        arguments: JSON_3,
        reach: SECONDS_2_5,
    },
];

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let files: Vec<_> = CASES
        .iter()
        .enumerate()
        .map(|(at, case)| {
            let file = directory.path().join(format!("{at}.toml"));
            fs::write(&file, case.shape.to_toml()).unwrap();
            file
        })
        .collect();
    let (out, copy) = (directory.path().join("out"), directory.path().join("copy"));
    let mut taken = vec![(Vec::new(), Vec::new()); CASES.len()];
    for run in 0..=RUNS {
        for ((case, file), (taken, copied)) in CASES.iter().zip(&files).zip(&mut taken) {
            let (time, floor) = (run_once(case, file, &out), copy_once(&out, &copy));
            // The first run reads programs and files into memory.
            if run > 0 {
                taken.push(time);
                copied.push(floor);
            }
        }
    }
    for (case, (taken, copied)) in CASES.iter().zip(taken) {
        let samples = Samples::new(taken);
        beside(&format!("{}: as many bytes by cat", case.what), Samples::new(copied));
        let reached = samples.median() <= case.reach;
        show(case.what, &samples, &format!("≤ {:?}", case.reach), reached);
    }
}

fn run_once(case: &Case, file: &Path, out: &Path) -> Duration {
    let mut command = binaries().console();
    command.args(["route", "--all", "--type", TYPES[0], "--file"]).arg(file).args(case.arguments);
    command.stdin(Stdio::null()).stdout(File::create(out).unwrap());
    let time = Samples::of(1, || assert!(command.status().unwrap().success())).median();
    assert!(fs::metadata(out).unwrap().len() > case.shape.hosts as u64 * 10, "a line for each host");
    time
}

/// What writing as much takes at least.
fn copy_once(out: &Path, copy: &Path) -> Duration {
    let mut command = Command::new("cat");
    command.arg(out).stdin(Stdio::null()).stdout(File::create(copy).unwrap());
    Samples::of(1, || assert!(command.status().unwrap().success())).median()
}
