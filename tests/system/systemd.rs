//! The units in `dist`, on a machine whose first process is systemd.

use echelon_tests::binaries::workspace;
use echelon_tests::machine::Machine;
use echelon_tests::{Sandbox, wait_for};

/// One host with a registry manager and an agent, installed as the operators' guide says.
struct Installed(Machine);

impl Installed {
    /// The agent hands connections to 127.0.0.1:7400 on to the manager's own HTTP server, as one of type `web`.
    fn set(machine: Machine) -> Self {
        machine.run(&guide("install -m 644 dist/systemd/registry-", "systemctl daemon-reload"));
        machine.run("runuser -u echelon-manager -- registry-manager init --framework acme --name hub --listen 127.0.0.1:29120");
        machine.run("systemctl enable --now registry-manager");
        machine.run(
            "echelon token create --host hub --replace | \
             runuser -u echelon-agent -- registry-agent enroll --manager 127.0.0.1:29120 --host hub --token-file -",
        );
        machine.run("echelon package add hub web --endpoint 127.0.0.1:29121");
        machine.run("echo 'forward = [\"web=127.0.0.1:7400\"]' > /etc/echelon/agent.toml");
        machine.run("cp dist/systemd/registry-agent.socket /etc/systemd/system/");
        drop_in(&machine, "registry-agent.socket", "[Socket]\nListenStream=127.0.0.1:7400");
        machine.run("systemctl enable --now registry-agent.socket registry-agent.service");
        Self(machine)
    }

    /// A call through the agent's forwarder.
    fn call(&self) -> Result<String, String> {
        self.0.attempt("curl -sf --max-time 10 http://127.0.0.1:7400/healthz")
    }

    /// What systemd knows of a unit.
    fn property(&self, unit: &str, name: &str) -> String {
        self.0.run(&format!("systemctl show --value --property={name} {unit}"))
    }

    /// Waits until another process is the unit's than this one.
    fn wait_succeeded(&self, unit: &str, old: &str) {
        wait_for("another process", || match self.property(unit, "MainPID") {
            new if new != old && new != "0" && self.property(unit, "ActiveState") == "active" => Ok(()),
            same => Err(format!("{same}, {}", self.property(unit, "ActiveState"))),
        });
    }
}

/// The lines of a block of the operators' guide: from the one that begins with `first` to the one that ends with `last`.
fn guide(first: &str, last: &str) -> String {
    let guide = std::fs::read_to_string(workspace().join("docs/operations.md")).unwrap();
    let from = guide.find(first).unwrap_or_else(|| panic!("the guide has no line {first}"));
    let length = guide[from..].find(last).unwrap_or_else(|| panic!("the guide has no {last} after {first}"));
    guide[from..from + length + last.len()].to_owned()
}

/// What `systemctl edit` makes of these lines.
fn drop_in(machine: &Machine, unit: &str, lines: &str) {
    let directory = format!("/etc/systemd/system/{unit}.d");
    machine.run(&format!("mkdir {directory} && printf '%s\\n' '{lines}' > {directory}/override.conf"));
    machine.run("systemctl daemon-reload");
}

/// Protects: what the guide tells to type installs services that start, are ready when systemd says so, hold no
/// privileges, reload, are started again when they are killed or hang, and end in good order.
#[test]
fn the_units_work_under_systemd() {
    let sandbox = Sandbox::new();
    let Some(machine) = Machine::boot("systemd::the_units_work_under_systemd", &sandbox) else { return };
    let host = Installed::set(machine);
    let (manager, agent) = ("registry-manager.service", "registry-agent.service");

    wait_for("the first call", || host.call());
    for unit in [manager, agent] {
        let status = host.0.run(&format!("cat /proc/{}/status", host.property(unit, "MainPID")));
        for line in
            ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]
        {
            assert!(status.contains(line), "{unit} has no {line} in {status}");
        }
    }

    // A reload has a successor take over, which systemd follows.
    let old = host.property(agent, "MainPID");
    host.0.run("systemctl reload registry-agent");
    host.wait_succeeded(agent, &old);
    host.call().unwrap();
    assert_eq!(host.property(agent, "NRestarts"), "0");

    // systemd holds the sockets: a caller who comes while there is no process waits for the next one.
    let old = host.property(agent, "MainPID");
    host.0.run("systemctl kill --signal=KILL registry-agent.service");
    host.call().unwrap();
    host.wait_succeeded(agent, &old);
    assert_eq!(host.property(agent, "NRestarts"), "1");

    // One that hangs is found out by its silence.
    drop_in(&host.0, manager, "[Service]\nWatchdogSec=1s\nRestartSec=100ms");
    host.0.run("systemctl restart registry-manager");
    let old = host.property(manager, "MainPID");
    host.0.run(&format!("kill -STOP {old}"));
    host.wait_succeeded(manager, &old);
    assert!(host.0.run("journalctl --no-pager --unit registry-manager").contains("Watchdog timeout"));
    host.0.run("systemctl reload registry-manager && echelon status");

    host.0
        .run(&guide("install -m 644 dist/systemd/echelon-backup", "systemctl start echelon-backup.service"));
    let kept = host.0.run("stat --format='%A %U' /var/lib/echelon/backups/*");
    assert_eq!(kept, "-rw------- echelon-manager");

    host.0.run("systemctl stop registry-agent.service registry-agent.socket registry-manager.service");
    for unit in [manager, agent] {
        assert_eq!(
            (host.property(unit, "Result"), host.property(unit, "ExecMainStatus")),
            ("success".into(), "0".into())
        );
    }
    let journal = host.0.run("journalctl --no-pager --unit 'registry-*' --unit 'echelon-*'");
    let refused: Vec<_> = journal.lines().filter(|line| line.contains("not permitted")).collect();
    assert!(refused.is_empty(), "the units forbid what the programs do: {refused:#?}");
}
