//! The join token that an operator gives: a secret, and so never an argument.

use anyhow::{Context, bail};
use echelon_daemon::secret;
use echelon_identity::JoinToken;
use std::io::Read;
use std::path::Path;

/// Longest token file that is read: a token has 166 characters.
const MAX_TOKEN_FILE: u64 = 4096;

/// The variable that a token is taken from. It is not clap's business, which shows the values of variables in its
/// help.
const TOKEN: &str = "ECHELON_TOKEN";

/// The token from the file that was named, else from the environment.
pub(crate) fn given(file: Option<&Path>) -> anyhow::Result<JoinToken> {
    let text = match file {
        Some(path) if path == Path::new("-") => {
            let mut text = String::new();
            let read = std::io::stdin().lock().take(MAX_TOKEN_FILE).read_to_string(&mut text);
            read.context("reading the token from standard input")?;
            text
        }
        Some(path) => {
            let bytes = secret::read(path, MAX_TOKEN_FILE)?;
            String::from_utf8(bytes).with_context(|| format!("{} is not text", path.display()))?
        }
        None => match std::env::var(TOKEN) {
            Ok(text) => text,
            Err(_) => bail!("there is no join token: set {TOKEN}, or name a file with --token-file"),
        },
    };
    Ok(JoinToken::parse(&text)?)
}
