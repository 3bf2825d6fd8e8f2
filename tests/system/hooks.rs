//! The examples of hooks: an alarm that is mailed, and an address that is where the primary registry manager is.

use echelon_core::position::Position;
use echelon_daemon::Tasks;
use echelon_tests::binaries::workspace;
use echelon_tests::namespace::{Cable, in_namespace};
use echelon_tests::skip::have;
use echelon_tests::{Agent, DEADLINE, Manager, Sandbox, TYPE, Topology, wait_until};
use registry_manager::config::Config;
use registry_manager::hooks::{Cause, Hook, HookSettings, Promoted, RegistryRole};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// A mail server that takes one message for each of these answers to `DATA`, and gives each conversation's lines.
fn mail_server(answers: &'static [&'static str]) -> (SocketAddr, mpsc::Receiver<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for answer in answers {
            let said = converse(listener.accept().unwrap().0, answer);
            if tell.send(said).is_err() {
                return;
            }
        }
    });
    (at, told)
}

/// One SMTP conversation (RFC 5321), as far as a client needs it that sends one message.
fn converse(stream: TcpStream, answer_to_data: &str) -> Vec<String> {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let (mut reader, mut said, mut in_data) = (BufReader::new(stream), Vec::new(), false);
    let say = |to: &mut BufReader<TcpStream>, line: &str| {
        to.get_mut().write_all(format!("{line}\r\n").as_bytes()).is_ok()
    };
    say(&mut reader, "220 mail.example.org ESMTP");
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return said;
        }
        let line = line.trim_end().to_owned();
        let answer = match (in_data, line.split(' ').next().unwrap()) {
            (true, ".") => answer_to_data,
            (true, _) => "",
            (false, "DATA") => "354 go on",
            (false, "QUIT") => "221 bye",
            (false, "EHLO" | "MAIL" | "RCPT" | "NOOP" | "RSET") => "250 ok",
            (false, _) => "500 what?",
        };
        in_data = (in_data && line != ".") || (!in_data && line == "DATA");
        said.push(line);
        if !answer.is_empty() && !say(&mut reader, answer) {
            return said;
        }
    }
}

/// The mail program of the tests, which takes the options of `sendmail` and its server on the command line.
const MAIL_PROGRAM: &str = "msmtp";

/// What has the example mail to this server: a command of `on_alarm`.
fn mailing(server: SocketAddr) -> Vec<String> {
    let (host, port) = (server.ip(), server.port());
    let sendmail = format!("SENDMAIL={MAIL_PROGRAM} --host={host} --port={port} --read-envelope-from");
    let script = workspace().join("examples/hooks/mail-alarm").display().to_string();
    let words = ["/usr/bin/env", &sendmail, "FROM=Echelon <echelon@example.org>", &script];
    let to = ["ops@example.org", "Night <night@example.org>"];
    words.into_iter().chain(to).map(str::to_owned).collect()
}

/// The headers of the mail in this conversation, and its text.
fn mail(said: &[String]) -> (Vec<&str>, String) {
    let lines = said.iter().map(String::as_str).skip_while(|line| *line != "DATA").skip(1);
    let lines: Vec<_> = lines.take_while(|line| *line != ".").collect();
    let end = lines.iter().position(|line| line.is_empty()).unwrap();
    let mut base64 = Command::new("base64");
    let mut base64 = base64.arg("-d").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    base64.stdin.take().unwrap().write_all(lines[end..].join("\n").as_bytes()).unwrap();
    let output = base64.wait_with_output().unwrap();
    assert!(output.status.success(), "{lines:#?}");
    (lines[..end].to_vec(), String::from_utf8(output.stdout).unwrap())
}

fn recipients(said: &[String]) -> Vec<&str> {
    said.iter().filter_map(|line| line.strip_prefix("RCPT TO:")).collect()
}

/// The example as an operator has it run: a real alarm becomes a mail; one that the server does not take comes later.
#[test]
fn an_alarm_is_mailed_and_mailed_again_where_it_was_not_taken() {
    let name = "hooks::an_alarm_is_mailed_and_mailed_again_where_it_was_not_taken";
    if !have(name, MAIL_PROGRAM, &["--version"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let (server, told) = mail_server(&["451 try later", "250 taken"]);
    let mut manager = Manager::init(&sandbox);
    manager.configure(&format!("[on_alarm]\ncommand = {:?}\nseverity = \"critical\"\n", mailing(server)));
    manager.start();
    let mut agent = Agent::new(&sandbox, "a");
    manager.apply(&Topology::new().manager("a", "/", agent.address()));
    agent.enroll_with(&manager);
    // Nobody serves there.
    agent.start_ready();
    let refused = told.recv_timeout(DEADLINE).unwrap();
    assert!(refused.contains(&"DATA".to_owned()), "{refused:?}");
    let said = told.recv_timeout(DEADLINE).unwrap();
    assert!(said.contains(&"MAIL FROM:<echelon@example.org>".to_owned()), "{said:#?}");
    assert_eq!(recipients(&said), ["<ops@example.org>", "<night@example.org>"]);
    let (headers, text) = mail(&said);
    for header in [
        "From: Echelon <echelon@example.org>",
        "To: ops@example.org,",
        " Night <night@example.org>",
        &format!("Subject: [acme] raised: critical type-unserved of {TYPE}"),
    ] {
        assert!(headers.contains(&header), "no {header:?} in {headers:#?}");
    }
    assert!(headers.iter().any(|h| h.starts_with("Date: ") && h.ends_with(" +0000")), "{headers:#?}");
    for line in [
        "no manager of this type can be used: each is down or withdrawn",
        &format!("What to do: echelon package list --type {TYPE}"),
    ] {
        assert!(text.lines().any(|l| l == line), "no {line:?} in {text}");
    }
}

/// Protects: texts of other hosts are text. None becomes a header, a recipient, a command or the mail's end.
#[test]
fn what_an_alarm_says_is_only_text_of_the_mail() {
    let name = "hooks::what_an_alarm_says_is_only_text_of_the_mail";
    if !have(name, MAIL_PROGRAM, &["--version"]) {
        return;
    }
    let (server, told) = mail_server(&["250 taken"]);
    let subject = "web\r\nBcc: eve@example.org\n\nü `id` $(id) %s";
    let message = format!("first\n.\nlast {}", "long ".repeat(1000));
    let words = mailing(server);
    let mut mailing = Command::new(&words[0]);
    mailing.args(&words[1..]).env("ECHELON_SUBJECT", subject).env("ECHELON_MESSAGE", &message);
    for name in ["FRAMEWORK", "STATE", "SEVERITY", "ALARM", "SINCE", "REMEDY", "HOST", "REVISION", "EPOCH"] {
        mailing.env(format!("ECHELON_{name}"), "x");
    }
    let output = mailing.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = told.recv_timeout(DEADLINE).unwrap();
    assert_eq!(recipients(&said), ["<ops@example.org>", "<night@example.org>"]);
    let (headers, text) = mail(&said);
    let title = "Subject: [x] x: x x of web??Bcc: eve@example.org???? `id` $(id) %s";
    assert!(headers.contains(&title), "{headers:#?}");
    assert!(!headers.iter().any(|header| header.starts_with("Bcc")), "{headers:#?}");
    assert!(text.contains(subject) && text.contains(&message), "{text}");
}

/// The example, run by a manager as its role changes: its host has the address exactly while it is primary.
#[test]
fn an_address_moves_with_the_primary() {
    in_namespace("hooks::an_address_moves_with_the_primary", |_cable| {
        let sandbox = Sandbox::new();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(moves(&sandbox));
    });
}

async fn moves(sandbox: &Sandbox) {
    // In the network at the cable's near end.
    let moving: IpAddr = "10.9.0.77".parse().unwrap();
    assert!(matches!(Cable::FAR, IpAddr::V4(far) if far.octets()[..3] == [10, 9, 0]));
    let state = Manager::init(sandbox).state().to_owned();
    let mut config = Config::new(&state, "127.0.0.1:0".parse().unwrap());
    let script = workspace().join("examples/hooks/move-address").display().to_string();
    let command = vec![script, format!("{moving}/24"), "cable".to_owned()];
    config.hooks = HookSettings { on_promote: Some(Hook { command, timeout: DEADLINE }), on_alarm: None };
    let has_it = || TcpListener::bind((moving, 0)).is_ok();
    assert!(!has_it());
    let manager = registry_manager::Manager::start(&config, Tasks::new()).await.unwrap();
    let told = |cause, role| {
        let host = "hub".parse().unwrap();
        let new = Position { epoch: 2, ..manager.registry().position() };
        manager.hooks().promoted(&Promoted {
            success: true,
            cause,
            role,
            host,
            primary: None,
            old: None,
            new,
        });
    };
    // The manager has told that it is primary as it started.
    wait_until("the address at the start", has_it);
    told(Cause::Fenced, RegistryRole::Standby);
    wait_until("the address to be given up", || !has_it());
    told(Cause::Started, RegistryRole::Standby);
    told(Cause::Forced, RegistryRole::Primary);
    wait_until("the address", has_it);
    let listener = TcpListener::bind((moving, 0)).unwrap();
    TcpStream::connect_timeout(&listener.local_addr().unwrap(), Duration::from_secs(10)).unwrap();
    // It is so already, which is no fault.
    told(Cause::Planned, RegistryRole::Primary);
    told(Cause::Fenced, RegistryRole::Standby);
    wait_until("the address to go", || !has_it());
    told(Cause::Started, RegistryRole::Standby);
    told(Cause::Planned, RegistryRole::Primary);
    wait_until("the address again", has_it);
    manager.stop().await.unwrap();
}
