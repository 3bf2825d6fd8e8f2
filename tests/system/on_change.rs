//! What a host does when a route leads elsewhere: files that are rendered, commands that are run.

use crate::failover::Scene;
use crate::reload::{reload, wait_alarm, wait_no_alarm};
use echelon_tests::topology::PORT;
use echelon_tests::{Sandbox, TYPE, wait_for};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

const TEMPLATE: &str = "{% if chosen %}serve {{ chosen.endpoint }}\n{% endif %}\
    {% for c in candidates if c.host != chosen.host %}backup {{ c.host }}\n{% endfor %}";

/// A program that writes down what it finds in its environment, a line for each run. While there is a file `broken` it
/// fails, and says there whose process wanted to tell it of which manager.
fn witness(sandbox: &Sandbox) -> (PathBuf, PathBuf) {
    let log = sandbox.path("witness.log");
    let script = format!(
        "#!/bin/sh\n\
         test -e {broken} && {{ echo \"$PPID>$ECHELON_TO\" >> {broken}; echo 'no such proxy'; exit 3; }}\n\
         /usr/bin/env | grep -v '^ECHELON_\\|^PATH=\\|^PWD=\\|^SHLVL=\\|^_=' >> {log}\n\
         echo \"$ECHELON_TYPE $ECHELON_FROM>$ECHELON_TO $ECHELON_ENDPOINT $ECHELON_OUTCOME $ECHELON_FILE\" >> {log}\n",
        log = log.display(),
        broken = sandbox.path("broken").display(),
    );
    let program = sandbox.file("witness.sh", script);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (program, log)
}

fn wait_content(path: &Path, what: &str) {
    wait_for("what the file says", || {
        let found = fs::read_to_string(path).unwrap_or_default();
        if found == what { Ok(()) } else { Err(found) }
    });
}

/// A file is rendered when the rule comes and when a manager fails, and only then is the proxy told, in whose place a
/// program writes down what it finds. What fails is an alarm, and is done once it can be.
#[test]
fn a_file_follows_the_route_and_its_program_is_told() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let [template, file] = ["upstream.jinja", "upstream.conf"].map(|name| sandbox.path(name));
    let (program, log) = witness(&sandbox);
    fs::write(&template, TEMPLATE).unwrap();
    let rule = format!(
        "[[on_change]]\ntype = \"{TYPE}\"\ntemplate = \"{}\"\nfile = \"{}\"\nmode = \"0640\"\n\
         command = [\"{}\"]\ndebounce = \"100ms\"\n",
        template.display(),
        file.display(),
        program.display()
    );
    scene.caller.set_settings(&rule);
    reload(&mut scene.caller, &rule);
    let (near, hub) = (scene.near.at(), scene.hub.at());
    wait_content(&file, &format!("serve {near}\nbackup hub\n"));
    let told = |from: &str, to: &str, at, outcome: &str| {
        format!("{TYPE} {from}>{to} {at} {outcome} {}\n", file.display())
    };
    let first = told("", "near", near, "home");
    wait_content(&log, &first);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);

    fs::write(sandbox.path("broken"), "").unwrap();
    let calls = scene.calls();
    scene.near.kill();
    calls.wait_served_by("hub");
    wait_content(&file, &format!("serve {hub}\nbackup near\n"));
    wait_alarm(&scene.caller, "on-change-failed", "no such proxy");
    assert_eq!(fs::read_to_string(&log).unwrap(), first);
    // A new process finds the file as it should be, and knows all the same that nobody was told.
    let _old = scene.caller.take_over();
    let tried = format!("{}>hub\n", scene.caller.process().id());
    wait_for("the new process to tell of it", || {
        let all = fs::read_to_string(sandbox.path("broken")).unwrap();
        if all.contains(&tried) { Ok(()) } else { Err(all) }
    });
    wait_content(&file, &format!("serve {hub}\nbackup near\n"));
    wait_alarm(&scene.caller, "on-change-failed", "no such proxy");
    assert_eq!(fs::read_to_string(&log).unwrap(), first);
    fs::remove_file(sandbox.path("broken")).unwrap();
    wait_no_alarm(&scene.caller, "on-change-failed");
    let second = told("", "hub", hub, "failover");
    wait_content(&log, &format!("{first}{second}"));

    // A mistake in the template leaves the file as it was; without the rule nobody complains.
    fs::write(&template, "{{ chosen.port }}").unwrap();
    scene.near.revive();
    calls.wait_served_by("near");
    wait_alarm(&scene.caller, "on-change-failed", "undefined value");
    wait_content(&file, &format!("serve {hub}\nbackup near\n"));
    reload(&mut scene.caller, "");
    wait_no_alarm(&scene.caller, "on-change-failed");
    calls.stop();
}

/// A command alone is run for each type, of any type where the rule says so; a rule that is not understood changes
/// nothing.
#[test]
fn a_command_is_run_for_each_type_and_never_by_a_bad_file() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let (program, log) = witness(&sandbox);
    scene.registry.console().ok(&format!("package add near audit --port {}", PORT + 1));
    let rule =
        format!("[[on_change]]\ntype = \"*\"\ncommand = [\"{}\"]\ndebounce = \"0s\"\n", program.display());
    reload(&mut scene.caller, &rule.replace("\"*\"", "\"no type\""));
    wait_alarm(&scene.caller, "settings-refused", "on_change");
    assert!(!log.exists());
    reload(&mut scene.caller, &rule);
    for line in [format!("audit >near {}", scene.near.at().ip()), format!("{TYPE} >near {}", scene.near.at())]
    {
        wait_for("the commands", || {
            let told = fs::read_to_string(&log).unwrap_or_default();
            if told.contains(&line) { Ok(()) } else { Err(told) }
        });
    }
}
