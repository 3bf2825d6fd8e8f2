use super::*;
use crate::HumanDuration;
use proptest::prelude::*;
use serde::Deserialize;
use std::error::Error as _;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    listen: Option<String>,
    workers: Option<u16>,
    heartbeat: Option<HumanDuration>,
    http: Http,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Http {
    listen: Option<String>,
    #[serde(rename = "read-only")]
    read_only: Option<bool>,
}

fn error_of(text: &str) -> String {
    parse::<Settings>(Path::new("agent.toml"), text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_full_file_is_read() {
    let text = "listen = \"[::]:1\"\nworkers = 3\nheartbeat = \"2s\"\n[http]\nread-only = true\n";
    let settings: Settings = parse(Path::new("x"), text.as_bytes()).unwrap();
    assert_eq!(
        settings,
        Settings {
            listen: Some("[::]:1".into()),
            workers: Some(3),
            heartbeat: Some(HumanDuration::from_secs(2)),
            http: Http { listen: None, read_only: Some(true) },
        }
    );
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_column() {
    let error = error_of("listen = \"a\"\n\n[http]\n  lisen = \"b\"\n");
    assert!(
        error.starts_with("agent.toml:4:3: unknown key `lisen`, expected `listen` or `read-only`"),
        "{error}"
    );
    assert!(error.contains("in `http"), "{error}");
    assert!(error.contains("correct the file, `config --default` prints every key"), "{error}");
}

#[test]
fn a_wrong_type_names_the_key_of_the_value() {
    let error = error_of("[http]\nread-only = \"yes\"\n");
    assert!(
        error.starts_with(
            "agent.toml:2:13: invalid type: string \"yes\", expected a boolean in `http.read-only`"
        ),
        "{error}"
    );
    let error = error_of("workers = 70000\n");
    assert!(error.starts_with("agent.toml:1:11: invalid value"), "{error}");
    assert!(error.contains("in `workers`"), "{error}");
    let error = error_of("# heartbeats\nheartbeat = \"2 s\"\n");
    assert!(error.starts_with("agent.toml:2:13: a duration needs one unit"), "{error}");
    assert!(error.contains("in `heartbeat`"), "{error}");
}

#[test]
fn broken_toml_is_placed_in_characters_not_bytes() {
    let error = error_of("listen = \"ä\" \"\n");
    assert!(error.starts_with("agent.toml:1:14: "), "{error}");
    let error = error_of("listen = \"a\"\nlisten = \"b\"\n");
    assert!(error.starts_with("agent.toml:2:1: duplicate key"), "{error}");
}

#[test]
fn hostile_files_are_answered_not_obeyed() {
    let error = error_of(&format!("x = {}", "[".repeat(200_000)));
    assert!(error.starts_with("agent.toml:1:"), "{error}");
    let error = error_of(&format!("\"{}\" = 1", "\\u001b".repeat(100_000)));
    assert!(error.len() < 2_000 && !error.contains('\u{1b}'), "{error}");
    let bytes = b"listen = \"a\"\nworkers = \xff\n";
    let error = parse::<Settings>(Path::new("agent.toml"), bytes).unwrap_err().to_string();
    assert_eq!(error, "agent.toml:2:11: not UTF-8; save the file as UTF-8 text");
}

#[test]
fn files_too_big_missing_or_unreadable_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big.toml");
    let full = usize::try_from(MAX_CONFIG_BYTES).unwrap();
    std::fs::write(&path, "#".repeat(full)).unwrap();
    assert_eq!(load::<Settings>(&path).unwrap(), Settings::default());
    std::fs::write(&path, "#".repeat(full + 1)).unwrap();
    assert!(matches!(load::<Settings>(&path), Err(ConfigError::TooBig { .. })));

    let absent = dir.path().join("absent.toml");
    assert_eq!(load_or_default::<Settings>(None, &absent).unwrap(), Settings::default());
    let error = load_or_default::<Settings>(Some(&absent), &path).unwrap_err();
    assert!(error.to_string().contains(&absent.display().to_string()), "{error}");
    let cause = error.source().unwrap().downcast_ref::<io::Error>().unwrap().kind();
    assert_eq!(cause, io::ErrorKind::NotFound);
    assert!(matches!(load_or_default::<Settings>(None, dir.path()), Err(ConfigError::Unreadable { .. })));
}

#[test]
fn flags_win_over_the_file_and_the_file_over_the_default() {
    assert_eq!(layered(Some(1), Some(2), 3), 1);
    assert_eq!(layered(None, Some(2), 3), 2);
    assert_eq!(layered(None, None, 3), 3);
    assert_eq!(layered_list(vec![1], Some(vec![2, 2]), vec![3]), [1]);
    assert_eq!(layered_list(vec![], Some(vec![]), vec![3]), [0; 0]);
    assert_eq!(layered_list(vec![], None, vec![3]), [3]);
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(bytes: Vec<u8>) {
        let _ = parse::<Settings>(Path::new("x"), &bytes).map_err(|error| error.to_string());
    }

    #[test]
    fn no_text_makes_it_panic(text in "[\\[\\]{}a-z=\".\\n#ä0-9\\\\]{0,60}") {
        let _ = parse::<Settings>(Path::new("x"), text.as_bytes()).map_err(|error| error.to_string());
    }
}
