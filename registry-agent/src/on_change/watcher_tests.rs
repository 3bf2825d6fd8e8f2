use super::*;
use crate::on_change::rule::Rendering;
use crate::routes::RouterInput;
use crate::testing::{DEADLINE, eventually, manager, refusing, routes, snapshot, ty};
use echelon_core::package::Role;
use echelon_core::policy::PolicySettings;
use echelon_core::view::Manager;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// An agent's part that follows rules, with routes to one manager.
struct Scene {
    directory: TempDir,
    reactions: Reactions,
    alarms: Alarms,
    manager: Manager,
}

impl Scene {
    async fn set() -> Self {
        let manager = manager(1, 0, nobody());
        let (routes, tasks) = routes(snapshot(1, std::slice::from_ref(&manager), settings())).await;
        let (clock, directory) = (Clock::start(), tempfile::tempdir().unwrap());
        let alarms = Alarms::new(clock);
        let reactions = Reactions::new(clock, routes, tasks, Arc::default(), alarms.clone());
        Self { directory, reactions, alarms, manager }
    }

    /// Follows these rules, until others are sent.
    fn follow(&self, rules: &[OnChange]) -> watch::Sender<Arc<OnChanges>> {
        let (sender, receiver) = watch::channel(these(rules));
        let stop = self.reactions.tasks.shutdown();
        self.reactions.tasks.spawn("on-changes", self.reactions.clone().run(receiver, stop));
        sender
    }

    async fn replica(&self, revision: u64, manager: Manager) {
        let replica = snapshot(revision, &[manager], settings());
        self.reactions.routes.send(RouterInput::Replica(replica)).await;
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A rule that makes `file` of this template.
    fn rendering(&self, file: &str, template: &str) -> OnChange {
        let (source, file) = (self.path(&format!("{file}.jinja")), self.path(file));
        fs::write(&source, template).unwrap();
        OnChange {
            ty: TypeSelector::One(ty()),
            rendering: Some(Rendering { template: source, file, mode: None }),
            command: None,
            debounce: Duration::ZERO,
            timeout: DEADLINE,
        }
    }

    /// A program that adds a line to the file `NAME.log` each time.
    fn program(&self, name: &str) -> Option<Vec<String>> {
        let (program, log) = (self.path(name), self.path(&format!("{name}.log")));
        fs::write(&program, format!("#!/bin/sh\necho \"$ECHELON_TO\" >> {}\n", log.display())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        // A script is busy while another thread's child still has it open for writing: a shell only reads it.
        Some(vec!["/bin/sh".into(), program.display().to_string()])
    }

    async fn wait(&self, file: &str, content: &str) {
        let path = self.path(file);
        let found = || fs::read_to_string(&path).ok().filter(|found| found == content);
        eventually(&format!("{content:?} in {file}"), found).await;
    }
}

fn nobody() -> SocketAddr {
    refusing().addr
}

fn settings() -> PolicySettings {
    PolicySettings::default()
}

fn these(rules: &[OnChange]) -> Arc<OnChanges> {
    Arc::new(rules.to_vec().try_into().unwrap())
}

/// Whoever rendered the file before may have been ended before it told anybody.
#[tokio::test]
async fn a_command_is_run_at_first_though_the_file_is_there_already() {
    let scene = Scene::set().await;
    let rule = OnChange { command: scene.program("reload"), ..scene.rendering("file", "{{ chosen.host }}") };
    fs::write(scene.path("file"), "host1").unwrap();
    let rules = scene.follow(std::slice::from_ref(&rule));
    scene.wait("reload.log", "host1\n").await;
    // Of another rule with the same file nobody knows either what was told.
    let other = OnChange { timeout: rule.timeout * 2, ..rule };
    rules.send_replace(these(&[other]));
    scene.wait("reload.log", "host1\nhost1\n").await;
}

#[tokio::test]
async fn a_file_follows_all_that_its_template_may_say() {
    let scene = Scene::set().await;
    let template =
        "{% for c in candidates %}{{ c.host }} {{ c.role }} {{ c.weight }} {{ c.priority }}{% endfor %}";
    let rule = OnChange { command: scene.program("reload"), ..scene.rendering("file", template) };
    let _rules = scene.follow(&[rule]);
    scene.wait("file", "host1 backup 1 100").await;
    scene.wait("reload.log", "host1\n").await;
    let tag = scene.reactions.routes.get(&ty()).unwrap().tag();
    scene.replica(2, Manager { role: Role::Primary, weight: 7, ..scene.manager.clone() }).await;
    scene.wait("file", "host1 primary 7 100").await;
    scene.wait("reload.log", "host1\nhost1\n").await;
    assert!(scene.reactions.routes.get(&ty()).unwrap().tag() == tag, "callers are served as before");
}

#[tokio::test]
async fn a_reload_reads_templates_again_and_runs_no_command_for_nothing() {
    let scene = Scene::set().await;
    let rule = OnChange { command: scene.program("reload"), ..scene.rendering("file", "one") };
    let rules = scene.follow(std::slice::from_ref(&rule));
    scene.wait("reload.log", "host1\n").await;
    rules.send_replace(these(std::slice::from_ref(&rule)));
    fs::write(scene.path("file.jinja"), "{{ nothing.there }}").unwrap();
    rules.send_replace(these(std::slice::from_ref(&rule)));
    eventually("the alarm", || scene.alarms.list().pop()).await;
    assert_eq!(fs::read_to_string(scene.path("file")).unwrap(), "one");
    fs::write(scene.path("file.jinja"), "two").unwrap();
    rules.send_replace(these(&[rule]));
    scene.wait("file", "two").await;
    scene.wait("reload.log", "host1\nhost1\n").await;
    eventually("no alarm", || scene.alarms.list().is_empty().then_some(())).await;
}

#[tokio::test]
async fn two_rules_of_one_file_over_a_link_do_not_take_turns() {
    let scene = Scene::set().await;
    symlink("file", scene.path("link")).unwrap();
    let (file, link) = (scene.rendering("file", "one"), scene.rendering("link", "two"));
    let rules = scene.follow(std::slice::from_ref(&file));
    scene.wait("file", "one").await;
    rules.send_replace(these(&[file, link.clone()]));
    let alarm = eventually("the alarm", || scene.alarms.list().pop()).await.notice.message;
    assert!(alarm.as_str().contains("another rule renders"), "{alarm}");
    scene.wait("file", "one").await;
    rules.send_replace(these(&[link]));
    scene.wait("file", "two").await;
    eventually("no alarm", || scene.alarms.list().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_rule_waits_for_those_that_leave() {
    let scene = Scene::set().await;
    let (leaving, (_sender, rules)) = (CancellationToken::new(), watch::channel(these(&[])));
    let waits = scene.rendering("waits", "it does");
    let goes = OnChange { command: scene.program("reload"), ..scene.rendering("goes", "on") };
    scene.reactions.start(waits, rules.clone(), vec![leaving.clone()]);
    let gone = scene.reactions.start(goes, rules, vec![]);
    scene.wait("reload.log", "host1\n").await;
    assert!(!Path::exists(&scene.path("waits")));
    gone.stop.cancel();
    gone.ended.cancelled().await;
    leaving.cancel();
    scene.wait("waits", "it does").await;
}
