//! The join token that an operator gives: a secret, and so never an argument.

use echelon_daemon::GivenSecret;
use echelon_identity::JoinToken;
use std::path::Path;

/// A token has 166 characters.
const TOKEN: GivenSecret =
    GivenSecret { what: "join token", variable: "ECHELON_TOKEN", option: "--token-file", max: 4096 };

/// The token from the file that was named, else from the environment.
pub(crate) fn given(file: Option<&Path>) -> anyhow::Result<JoinToken> {
    Ok(JoinToken::parse(&TOKEN.read(file)?)?)
}
