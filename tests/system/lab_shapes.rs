//! What the lab prints, for programs and for people.

use crate::shapes::Compared;
use echelon_tests::transcript::fits;
use echelon_tests::{Answer, Sandbox, binaries, shape};
use serde_json::Value;
use std::fs;

const TOPOLOGY: &str = "framework = \"acme\"
[[host]]
name = \"hub\"
address = \"10.0.0.1\"
packages = [\"control:7000\"]
[[host]]
name = \"near\"
domain = \"/x\"
address = \"10.0.0.2\"
packages = [\"control:7000\"]
";

/// Every command, and every kind of answer. Ends with what cannot be done.
const SCRIPT: &str = "expect near control near within 60s
call near control
routes control
down near control
expect near control hub within 60s
hang hub control
down hub
call near control
up hub
up near
withdraw near control
restore near control
agent down near
routes control
agent up near
registry down
registry up
registry down
withdraw near control
";

/// The lab with these commands.
fn lab(sandbox: &Sandbox, commands: &str, output: &str) -> Answer {
    let mut lab = sandbox.command(&binaries().lab);
    lab.arg(sandbox.file("lab.toml", TOPOLOGY)).args(["--output", output]);
    lab.arg("--script").arg(sandbox.file("script.lab", commands));
    Answer::of(lab)
}

#[test]
fn every_object_of_the_lab_is_as_its_file_says() {
    let (sandbox, compared) = (Sandbox::new(), Compared::default());
    let done = lab(&sandbox, SCRIPT, "json");
    let lines: Vec<Value> = done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |command: &str| -> Vec<Value> {
        let is = |line: &&Value| line["command"].as_str().is_some_and(|said| said.starts_with(command));
        let found: Vec<_> = lines.iter().filter(is).filter(|line| line["error"].is_null()).cloned().collect();
        assert!(!found.is_empty(), "nothing of {command}: {done:?}");
        found
    };
    compared.one("lab-started", lines[0].clone());
    compared.all("lab-stubs", &[of("down near"), of("up "), of("hang ")].concat());
    compared.all("lab-edit", &[of("withdraw "), of("restore ")].concat());
    compared.all("lab-registry", &of("registry "));
    compared.all("lab-agent", &of("agent "));
    compared.all("lab-call", &of("call "));
    compared.all("lab-routes", &of("routes "));
    let (after, before): (Vec<_>, Vec<_>) =
        of("expect ").into_iter().partition(|line| line.get("fault").is_some());
    compared.all("lab-expect", &before);
    compared.all("lab-expect-after", &after);
    compared.one("lab-problem", lines.last().unwrap().clone());
    assert_eq!(done.code, 1);
    compared.one("lab-error", done.error());

    let table = fs::read_to_string(shape::directory().join("lab-table.txt")).unwrap();
    let done = lab(&sandbox, SCRIPT, "table");
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(fits(&lines(&table), &lines(&done.out)), "{}", done.out);
    compared.note("lab-table");
    compared.finish(|name| name.starts_with("lab-"));
}
