//! Life as a service: what systemd is told, what a reload does, and the files in `dist` that go with it.

use echelon_identity::IdentityDirectory;
use echelon_tests::binaries::{binaries, workspace};
use echelon_tests::skip::have;
use echelon_tests::{Agent, Manager, Process, Sandbox, ServiceManager, http, wait_until};
use rustix::process::Signal;
use std::process::Command;
use std::time::{Duration, Instant};

/// How often signs of life are asked for: twice in it.
const WATCHDOG: Duration = Duration::from_millis(400);

/// A service from its start to its end, as its service manager hears it.
fn hears_a_whole_life(sandbox: &Sandbox, name: &str, mut command: Command, serves: impl Fn() -> bool) {
    let systemd = ServiceManager::new(sandbox, name);
    systemd.watch(&mut command, WATCHDOG);
    let mut process = Process::spawn(name, command, &sandbox.logs());
    assert_eq!(systemd.hear_news(), "READY=1\n");
    assert!(serves(), "{name} said that it is ready, and is not");

    let begin = Instant::now();
    for _ in 0..6 {
        assert_eq!(systemd.hear(), "WATCHDOG=1\n");
    }
    // A machine may be late, but a service that hurries would not count what it was asked to count.
    assert!(begin.elapsed() >= WATCHDOG, "six signs of life within {:?}", begin.elapsed());

    process.signal(Signal::HUP);
    let reloading = systemd.hear_news();
    let since = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&reloading);
    assert!(since.trim_end().parse::<u64>().is_ok(), "{reloading}");
    assert_eq!(systemd.hear_news(), "READY=1\n");

    process.signal(Signal::STOP);
    let stat = format!("/proc/{}/stat", process.id());
    wait_until("the process to stand still", || std::fs::read_to_string(&stat).unwrap().contains(") T "));
    wait_until("its last words to be read", || !systemd.was_told());
    std::thread::sleep(3 * WATCHDOG);
    assert!(!systemd.was_told(), "a process that stands still gave a sign of life");
    process.signal(Signal::CONT);
    assert_eq!(systemd.hear(), "WATCHDOG=1\n");

    process.signal(Signal::TERM);
    assert_eq!(systemd.hear_news(), "STOPPING=1\n");
    assert!(process.wait().success());
}

#[test]
fn a_manager_tells_its_service_manager_how_it_is() {
    let sandbox = Sandbox::new();
    let manager = Manager::init(&sandbox);
    let serves = || http::get_tcp(manager.http(), "/readyz").is_ok_and(|reply| reply.status == 200);
    hears_a_whole_life(&sandbox, "manager", manager.run_command(), serves);
}

#[test]
fn an_agent_tells_its_service_manager_how_it_is() {
    let sandbox = Sandbox::new();
    let agent = Agent::enrolled(&Manager::running(&sandbox), "h");
    let serves = || agent.get("/healthz").is_ok_and(|reply| reply.status == 200);
    hears_a_whole_life(&sandbox, "agent", agent.run_command(), serves);
}

/// How long the certificate lives that a host is given now.
fn life_of_a_new_certificate(manager: &Manager<'_>, host: &str) -> Duration {
    let agent = Agent::enrolled(manager, host);
    let identity = IdentityDirectory::open(&agent.identity()).unwrap();
    let peer = identity.load_credentials().unwrap().peer().unwrap();
    // Certificates begin an hour in the past.
    Duration::from_millis(peer.not_after.0 - peer.not_before.0) - Duration::from_secs(3600)
}

/// Protects: settings that can change do so without a restart, and a bad file changes nothing but to raise an
/// alarm, until it is mended.
#[test]
fn a_manager_that_hangs_up_reads_its_settings_again() {
    let sandbox = Sandbox::new();
    let manager = Manager::init(&sandbox);
    manager.configure("[log]\nfilter = \"warn\"\n");
    let systemd = ServiceManager::new(&sandbox, "manager");
    let mut command = manager.run_command();
    command.env_remove("ECHELON_LOG");
    systemd.watch(&mut command, Duration::from_secs(60));
    let process = Process::spawn("manager", command, &sandbox.logs());
    let reload = |settings: &str| {
        manager.configure(settings);
        process.signal(Signal::HUP);
        assert!(systemd.hear_news().starts_with("RELOADING=1\n"));
        assert_eq!(systemd.hear_news(), "READY=1\n");
    };
    assert_eq!(systemd.hear_news(), "READY=1\n");
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(life_of_a_new_certificate(&manager, "a"), day);
    assert!(!process.log().contains("INFO"), "{}", process.log());

    let hour = Duration::from_secs(3600);
    reload("host_certificates = \"1h\"\nhttp = \"127.0.0.1:1\"\n[log]\nfilter = \"info\"\n");
    assert_eq!(life_of_a_new_certificate(&manager, "b"), hour);
    assert!(process.log().contains("The settings file was read again"), "{}", process.log());
    // The flag says where HTTP is; it goes over the file before and after.
    let alarms = || manager.console().ok("alarm list");
    assert!(!alarms().contains("settings-pending"), "{}", alarms());

    for bad in ["host_certificates = \"2h\"\n[log]\nfilter = \"inof\"\n", "host_certificates = \"25h\"\n"] {
        reload(bad);
        assert!(alarms().contains("settings-refused"), "{}", alarms());
        assert_eq!(life_of_a_new_certificate(&manager, &format!("h{}", bad.len())), hour);
    }
    let log = process.log();
    let refused = log
        .lines()
        .filter(|line| line.contains("cannot be used, and the old settings stay in force"))
        .count();
    assert_eq!(refused, 2, "{log}");
    assert!(log.contains("`inof` is no log filter") && log.contains("manager.toml:1:21"), "{log}");
    // What waits for a restart is an alarm until the restart, or until it is as it was.
    reload("listen = \"127.0.0.1:1\"\n[log]\nformat = \"json\"\n");
    assert!(!alarms().contains("settings-refused"), "{}", alarms());
    let raised = manager.console().objects("alarm list");
    let pending = raised.iter().find(|alarm| alarm["name"] == "settings-pending");
    let pending = pending.unwrap_or_else(|| panic!("{raised:?}"));
    let message = pending["message"].as_str().unwrap();
    assert!(message.contains("listen, log.format changed, which takes a restart"), "{pending}");
    assert_eq!(pending["severity"], "warning");
    manager.console().fails(7, "status --check");
    reload("");
    assert!(!alarms().contains("settings-pending"), "{}", alarms());
}

/// Both binaries print settings that they take.
#[test]
fn the_printed_settings_are_taken() {
    let sandbox = Sandbox::new();
    for binary in [&binaries().manager, &binaries().agent] {
        let output = sandbox.command(binary).args(["config", "--default"]).output().unwrap();
        let file = sandbox.file("printed.toml", &output.stdout);
        let run = sandbox
            .command(binary)
            .args(["run", "--config"])
            .arg(file)
            .arg("--state")
            .arg("/nonexistent")
            .output();
        let said = String::from_utf8(run.unwrap().stderr).unwrap();
        assert!(said.contains("/nonexistent") && !said.contains("printed.toml"), "{said}");
    }
}

#[test]
fn systemd_takes_the_units() {
    let dist = workspace().join("dist/systemd");
    if have("service::systemd_takes_the_units", "systemd-analyze", &["--version"]) {
        let sandbox = Sandbox::new();
        for (unit, program, binary) in [
            ("registry-manager.service", "registry-manager", &binaries().manager),
            ("registry-agent.service", "registry-agent", &binaries().agent),
            // It is verified together with its service.
            ("registry-agent.socket", "", &binaries().agent),
            ("echelon-backup.service", "echelon", &binaries().console),
            ("echelon-backup.timer", "", &binaries().console),
        ] {
            let text = std::fs::read_to_string(dist.join(unit)).unwrap();
            let installed = format!("/usr/local/bin/{program}");
            assert!(program.is_empty() || text.contains(&installed), "{text}");
            let here = sandbox.file(unit, text.replace(&installed, binary.to_str().unwrap()));
            let verified = Command::new("systemd-analyze").arg("verify").arg(here).output().unwrap();
            let said = String::from_utf8_lossy(&verified.stderr);
            assert!(verified.status.success() && !said.contains(unit), "{said}");
        }
    }
    if have("service::systemd_takes_the_units", "systemd-sysusers", &["--version"]) {
        let users = dist.join("echelon.sysusers.conf");
        let run = Command::new("systemd-sysusers").arg("--dry-run").arg(users).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }
}
