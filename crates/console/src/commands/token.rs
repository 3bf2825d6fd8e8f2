//! `echelon token`.

use crate::console::{Console, identity_problem};
use crate::edit::{EditArgs, edit, submit};
use crate::problem::{Problem, failed, with_sources};
use crate::style;
use crate::table::{Table, cell, maybe};
use echelon_core::access::{Access, Token as TokenRow};
use echelon_core::change::{Change, ChangeSet};
use echelon_core::duration;
use echelon_core::id::{DomainId, TokenId};
use echelon_core::limits::{MAX_TOKEN_TTL, MAX_TOKEN_USES};
use echelon_core::message::{EditAnswer, Query};
use echelon_core::name::{DomainPath, HostName, ManagerType};
use echelon_core::report::TokenReport;
use echelon_core::row::Row;
use echelon_core::time::UnixMillis;
use echelon_identity::JoinToken;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// What to do with join tokens.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Token {
    /// Create a join token; prints the token alone, so that $(…) works
    #[command(after_help = "Examples:
  ECHELON_TOKEN=$(echelon token create --host agent5 --ttl 10m)
  echelon token create --domain /emea --uses 50 --ttl 1d --out emea.token")]
    Create(Create),
    /// List the join tokens that are left
    #[command(after_help = "Example:\n  echelon token list")]
    List,
    /// Take join tokens back; identities enrolled with them stay
    #[command(after_help = "Example:\n  echelon token revoke 017f22e2-79b0-7cc3-98c4-dc0c0c07398f")]
    Revoke {
        /// Ids of the tokens
        #[arg(required = true, value_name = "ID")]
        ids: Vec<TokenId>,
        #[command(flatten)]
        edit: EditArgs,
    },
}

/// What the token allows.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// The one host it enrols [default: any new one]
    #[arg(long, value_name = "NAME")]
    host: Option<HostName>,
    /// The domain in or below which it enrols
    #[arg(long, value_name = "PATH", default_value = "/")]
    domain: DomainPath,
    /// What the enrolled identity may do: agent for hosts, manager for registry managers that join
    #[arg(long, value_name = "LEVEL", default_value = "agent")]
    access: Access,
    /// A type that the enrolled host may announce by itself; may be given several times
    #[arg(long, value_name = "TYPE")]
    allow_type: Vec<ManagerType>,
    /// Enrol again a host that is enrolled; denies its earlier enrolment
    #[arg(long, requires = "host")]
    replace: bool,
    /// How long it works, at most 7d
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = ttl)]
    ttl: Duration,
    /// How often it works
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_TOKEN_USES)))]
    uses: u32,
    /// Write the token to this file, for this user alone, instead of printing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    edit: EditArgs,
}

/// A new token; the shape of its JSON is what scripts rely on.
#[derive(Serialize)]
struct Document {
    id: TokenId,
    /// None where the secret is not known any more, or went into a file.
    token: Option<String>,
    expires: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    out: Option<PathBuf>,
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration::parse(text).map_err(|error| format!("it {error}"))?;
    match ttl {
        Duration::ZERO => Err("a token must work for some time: give at least 1s".into()),
        ttl if ttl > MAX_TOKEN_TTL => Err("a token works for at most 7d".into()),
        ttl => Ok(ttl),
    }
}

/// Does it.
pub(crate) async fn run(command: Token, console: &mut Console) -> Result<(), Problem> {
    match command {
        Token::Create(args) => create(args, console).await,
        Token::List => list(console).await,
        Token::Revoke { ids, edit: args } => {
            let changes = ids.into_iter().map(|id| Change::RevokeToken { id }).collect();
            edit(console, &args, changes).await
        }
    }
}

async fn create(args: Create, console: &mut Console) -> Result<(), Problem> {
    let token = new_token(console)?;
    let set = args.change_set(&token, now());
    let manager = console.manager().await?;
    let answer = submit(&manager, set, args.edit.dry_run).await?;
    manager.close().await;
    let row = created(&answer).ok_or_else(|| {
        failed("no-token", "the manager's answer names no token; look for it with: echelon token list")
    })?;
    if args.edit.dry_run {
        return crate::edit::show(
            console,
            &answer,
            &echelon_core::describe::describe(&answer.rows, None),
            true,
        );
    }
    if row.secret_hash != token.secret.hash() {
        return show_repeated(row, console);
    }
    hand_over(&token, row, args.out, console)
}

/// A token with a new secret, which pins this framework's root.
fn new_token(console: &Console) -> Result<JoinToken, Problem> {
    let identity = console.identity()?;
    let trust = identity.load_trust().map_err(|error| identity_problem(identity.path(), &error))?;
    let token = JoinToken::generate(trust.root_hash()).map_err(|error| failed("no-randomness", error))?;
    // Ids that tell when they were made keep the list in order.
    Ok(JoinToken { id: TokenId(Uuid::now_v7()), ..token })
}

impl Create {
    fn change_set(&self, token: &JoinToken, now: UnixMillis) -> ChangeSet {
        let row = TokenRow {
            id: token.id,
            secret_hash: token.secret.hash(),
            access: self.access,
            host: self.host.clone(),
            domain: DomainId::ROOT,
            allow_types: self.allow_type.iter().cloned().collect(),
            replace: self.replace,
            expires: now + self.ttl,
            uses_left: self.uses,
        };
        self.edit.set(vec![Change::CreateToken { token: row, domain: self.domain.clone() }])
    }
}

fn created(answer: &EditAnswer) -> Option<&TokenRow> {
    answer.rows.iter().find_map(|change| match (&change.before, &change.after) {
        (None, Some(Row::Token(token))) => Some(token),
        _ => None,
    })
}

fn hand_over(
    token: &JoinToken,
    row: &TokenRow,
    out: Option<PathBuf>,
    console: &mut Console,
) -> Result<(), Problem> {
    let (id, expires) = (row.id, row.expires.to_string());
    let text = token.expose();
    if let Some(path) = &out {
        write(path, &text, id)?;
    }
    if console.out.is_json() {
        let token = out.is_none().then_some(text);
        return console.out.object(&Document { id, token, expires, out });
    }
    // On standard output the token is alone; where it goes to a file, what is said of it is the answer.
    if let Some(path) = out {
        return console.out.line(format!("token {id}, expires {expires}, is in {}", path.display()));
    }
    console.out.line(text)?;
    let dim = style::DIM;
    console.out.note(format!("{dim}token {id}, expires {expires}{dim:#}"))
}

fn write(path: &Path, token: &str, id: TokenId) -> Result<(), Problem> {
    echelon_daemon::secret::write(path, format!("{token}\n").as_bytes()).map_err(|error| {
        failed("unwritable", with_sources(&error)).at(path.display()).remedy(format!(
            "the token exists but nobody has it: echelon token revoke {id}, then make another"
        ))
    })
}

/// A repetition of an earlier `create`, whose secret only its first answer had.
fn show_repeated(row: &TokenRow, console: &mut Console) -> Result<(), Problem> {
    let (id, expires) = (row.id, row.expires.to_string());
    if console.out.is_json() {
        return console.out.object(&Document { id, token: None, expires, out: None });
    }
    console.out.note(format!(
        "token {id} was created before under this request id, and its secret was shown only then.\n\
         If nobody has it: echelon token revoke {id}, then make another without --request-id"
    ))
}

async fn list(console: &mut Console) -> Result<(), Problem> {
    let manager = console.manager().await?;
    let tokens: Vec<TokenReport> = manager.query(Query::Tokens).await.map_err(|error| error.failure())?;
    manager.close().await;
    if console.out.is_json() {
        return tokens.iter().try_for_each(|token| console.out.object(token));
    }
    let mut table =
        Table::new(["ID", "ACCESS", "HOST", "DOMAIN", "TYPES", "REPLACE", "EXPIRES", "USES LEFT"]);
    for t in &tokens {
        let types = t.allow_types.iter().map(ManagerType::as_str).collect::<Vec<_>>().join(" ");
        let types = Some(types).filter(|types| !types.is_empty());
        let replace = if t.replace { "yes" } else { "no" };
        let end = [cell(replace), cell(&t.expires), cell(t.uses_left)];
        table.row(
            [cell(t.id), cell(t.access), maybe(t.host.as_ref()), cell(&t.domain), maybe(types)]
                .into_iter()
                .chain(end),
        );
    }
    console.out.table(&table)
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn typed(line: &str) -> Create {
        let args = crate::args::Args::try_parse_from(line.split_whitespace()).unwrap();
        match args.command {
            crate::commands::Command::Token(Token::Create(create)) => create,
            _ => panic!("another command"),
        }
    }

    #[test]
    fn the_change_holds_a_hash_and_never_the_secret() {
        let token = JoinToken::generate([7; 32]).unwrap();
        let args =
            typed("echelon token create --host agent5 --allow-type b --allow-type a --ttl 10m --uses 3");
        let set = args.change_set(&token, UnixMillis(1000));
        let [Change::CreateToken { token: row, domain }] = set.changes.as_slice() else {
            panic!("another change");
        };
        assert!(domain.is_root());
        assert_eq!((row.expires, row.uses_left, row.access), (UnixMillis(601_000), 3, Access::Agent));
        assert!(token.secret.matches(&row.secret_hash));
        let shown = serde_json::to_string(&set).unwrap();
        let secret = token.expose();
        assert!(!shown.contains(secret.split('.').nth(2).unwrap()));
    }

    #[test]
    fn a_new_token_has_the_shape_that_scripts_rely_on() {
        let id: TokenId = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f".parse().unwrap();
        let document =
            Document { id, token: Some("ech1.x".into()), expires: UnixMillis(0).to_string(), out: None };
        assert_eq!(
            serde_json::to_value(document).unwrap(),
            serde_json::json!({"id": id, "token": "ech1.x", "expires": "1970-01-01T00:00:00Z"})
        );
    }

    #[test]
    fn lives_of_tokens_are_bounded() {
        assert_eq!(ttl("1h").unwrap(), Duration::from_secs(3600));
        for bad in ["0s", "8d", "soon", "-1h"] {
            assert!(ttl(bad).is_err(), "{bad}");
        }
    }
}
