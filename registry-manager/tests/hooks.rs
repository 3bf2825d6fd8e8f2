//! The command of `on_promote`, as whoever promotes has it run. That of `on_alarm` is in the whole-system tests.

#![allow(clippy::unwrap_used, reason = "tests")]

use echelon_core::grant::Basis;
use echelon_core::position::Position;
use echelon_daemon::{StateDir, Tasks};
use registry_manager::Manager;
use registry_manager::config::Config;
use registry_manager::hooks::{Cause, Hook, HookSettings, Promoted, RegistryRole};
use registry_manager::init::{Init, init};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

const DEADLINE: Duration = Duration::from_secs(60);

/// A manager whose `on_promote` is a script of the test's.
struct Site {
    manager: Manager,
    _state: StateDir,
    dir: tempfile::TempDir,
}

impl Site {
    async fn start(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("manager"), true).unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let (framework, host) = ("test".parse().unwrap(), "registry".parse().unwrap());
        let advertise = "127.0.0.1:1".parse().unwrap();
        init(&Init { state: state.path().to_owned(), framework, host, listen, advertise }).unwrap();
        let program = dir.path().join("hook.sh");
        fs::write(&program, format!("#!/bin/sh\ncd {}\n{script}\n", dir.path().display())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let mut config = Config::new(state.path(), listen);
        config.http = Some("127.0.0.1:0".parse().unwrap());
        config.hooks.on_promote = Some(hook(program));
        let manager = Manager::start(&config, Tasks::new()).await.unwrap();
        Self { manager, _state: state, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn promoted(&self, cause: Cause, role: RegistryRole, old: Option<Position>) {
        let new = Position { epoch: 7, revision: 9, ..self.manager.registry().position() };
        let host = "registry".parse().unwrap();
        let primary = (role == RegistryRole::Primary).then(|| "registry".parse().unwrap());
        self.manager.hooks().promoted(&Promoted { success: true, cause, role, host, primary, old, new });
    }

    async fn get(&self, path: &str) -> String {
        let mut http = TcpStream::connect(self.manager.http_addr().unwrap()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        http.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        http.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn until_alarm(&self, name: &str, is_up: bool) {
        let begin = Instant::now();
        loop {
            let alarms = self.get("/alarms").await;
            if alarms.contains(name) == is_up {
                return;
            }
            assert!(begin.elapsed() < DEADLINE, "{name}: {alarms}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a file has so many lines, which are given.
    async fn lines(&self, name: &str, count: usize) -> Vec<String> {
        let begin = Instant::now();
        loop {
            let text = fs::read_to_string(self.path(name)).unwrap_or_default();
            if text.ends_with('\n') && text.lines().count() >= count {
                return text.lines().map(ToOwned::to_owned).collect();
            }
            assert!(begin.elapsed() < DEADLINE, "{name}: {text}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn hook(program: PathBuf) -> Hook {
    Hook { command: vec![program.display().to_string()], timeout: DEADLINE }
}

#[tokio::test]
async fn each_change_of_the_role_is_told_in_order_with_its_positions_and_nothing_else_of_the_manager() {
    let script =
        "/usr/bin/env | /usr/bin/sort | grep -v '^PATH=\\|^PWD=\\|^OLDPWD=\\|^SHLVL=\\|^_=' > env.part
        cat env.part >> env; echo \"$ECHELON_ROLE $ECHELON_CAUSE\" >> told";
    let site = Site::start(script).await;
    let at = site.manager.registry().position();
    site.promoted(Cause::Started, RegistryRole::Standby, None);
    site.promoted(Basis::Force.into(), RegistryRole::Primary, Some(at));
    site.promoted(Cause::Fenced, RegistryRole::Standby, Some(at));
    let told = ["primary started", "standby started", "primary forced", "standby fenced"];
    assert_eq!(site.lines("told", 4).await, told, "its own start comes first");
    let lineage = at.lineage;
    let second = site.lines("env", 44).await[22..33].join("\n");
    let expected = format!(
        "ECHELON_CAUSE=forced\nECHELON_EPOCH=7\nECHELON_EVENT=promote\nECHELON_HOST=registry\n\
         ECHELON_LINEAGE={lineage}\nECHELON_NEW={lineage}/7.9\nECHELON_OLD={lineage}/1.0\n\
         ECHELON_PRIMARY=registry\nECHELON_REVISION=9\nECHELON_ROLE=primary\nECHELON_SUCCESS=true"
    );
    assert_eq!(second, expected);
    let metrics = site.get("/metrics").await;
    assert!(
        metrics.contains("echelon_manager_hooks_total{hook=\"on_promote\",outcome=\"done\"} 4"),
        "{metrics}"
    );
    site.manager.stop().await.unwrap();
}

#[tokio::test]
async fn what_fails_is_an_alarm_and_is_tried_again_until_something_newer_is_to_be_told() {
    let script = "test $ECHELON_CAUSE = started && exit; echo \"$ECHELON_ROLE\" >> tried; test -e mended || { echo 'no such device'; exit 1; }
        echo \"$ECHELON_ROLE\" >> told";
    let site = Site::start(script).await;
    site.promoted(Cause::Planned, RegistryRole::Primary, None);
    assert_eq!(site.lines("tried", 2).await[..2], ["primary", "primary"], "again by itself");
    site.until_alarm("no such device", true).await;
    let alarms = site.get("/alarms").await;
    assert!(alarms.contains("on-promote-failed") && alarms.contains("critical"), "{alarms}");
    fs::write(site.path("mended"), "").unwrap();
    site.promoted(Cause::Fenced, RegistryRole::Standby, None);
    let mut told = site.lines("told", 1).await;
    if told == ["primary"] {
        // The old one was just being tried, and so comes before the new one.
        told = site.lines("told", 2).await;
    }
    assert_eq!(told.last().unwrap(), "standby");
    site.until_alarm("on-promote-failed", false).await;
    site.manager.stop().await.unwrap();
}

#[tokio::test]
async fn a_reload_has_what_failed_tried_at_once_and_without_a_hook_nothing_is_told() {
    let site = Site::start("test $ECHELON_CAUSE = started").await;
    site.promoted(Cause::Planned, RegistryRole::Primary, None);
    site.until_alarm("on-promote-failed", true).await;
    let mended = site.path("mended.sh");
    fs::write(&mended, format!("#!/bin/sh\necho $ECHELON_CAUSE >> {}\n", site.path("told").display()))
        .unwrap();
    fs::set_permissions(&mended, fs::Permissions::from_mode(0o755)).unwrap();
    site.manager.set_hooks(HookSettings { on_promote: Some(hook(mended)), on_alarm: None });
    assert_eq!(site.lines("told", 1).await, ["planned"]);
    site.until_alarm("on-promote-failed", false).await;
    site.manager.set_hooks(HookSettings::default());
    site.promoted(Cause::Fenced, RegistryRole::Standby, None);
    site.manager.stop().await.unwrap();
    assert_eq!(fs::read_to_string(site.dir.path().join("told")).unwrap(), "planned\n");
}

/// Whoever is slow is told the newest, and the manager says that some was lost; its end waits for nobody.
#[tokio::test]
async fn a_command_that_hangs_holds_up_nothing_and_is_gone_with_the_manager() {
    let site = Site::start(
        "test $ECHELON_CAUSE = started && exit; echo $$ > pid; echo $ECHELON_CAUSE >> told; sleep 1000",
    )
    .await;
    for _ in 0..40 {
        site.promoted(Cause::Planned, RegistryRole::Primary, None);
    }
    site.until_alarm("on-promote-dropped", true).await;
    let pid = site.lines("pid", 1).await.remove(0);
    let metrics = site.get("/metrics").await;
    assert!(!metrics.contains("queue_drops_total{queue=\"promotions\"} 0"), "{metrics}");
    site.manager.stop().await.unwrap();
    let begin = Instant::now();
    let stat = PathBuf::from(format!("/proc/{pid}/stat"));
    // An orphan whose new parent is slow to notice is a zombie for a while.
    while !fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")) {
        assert!(begin.elapsed() < DEADLINE, "{pid} still runs");
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(fs::read_to_string(site.dir.path().join("told")).unwrap().lines().count(), 1, "one at a time");
}
