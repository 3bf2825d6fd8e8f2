//! What a command works with: the identity, the way to a manager, the output.

use crate::args::{Global, Output};
use crate::out::Out;
use crate::problem::{Problem, failed, with_sources};
use echelon_client::ManagerClient;
use echelon_identity::IdentityDirectory;
use echelon_identity::directory::DirectoryError;
use std::path::{Path, PathBuf};

/// Where a manager on this machine keeps the console identity that `init` wrote.
const MANAGERS_OWN: &str = "/var/lib/echelon/manager/console";

/// Where a user's own identity is, below the home directory.
const USERS_OWN: &str = ".config/echelon";

/// The surroundings of a command.
pub(crate) struct Console {
    global: Global,
    /// Standard output.
    pub(crate) out: Out,
}

impl Console {
    /// A console as the global options say.
    pub(crate) fn new(global: Global) -> Self {
        let out = Out::new(global.output == Output::Json);
        Self { global, out }
    }

    /// A connection to the first manager that answers.
    pub(crate) async fn manager(&self) -> Result<ManagerClient, Problem> {
        let identity = self.identity()?;
        let connected = ManagerClient::connect_and_learn(&identity, &self.global.manager).await;
        connected.map_err(|error| error.failure().into())
    }

    /// Whether a command was told which manager to ask.
    pub(crate) fn is_directed(&self) -> bool {
        !self.global.manager.is_empty()
    }

    /// The directory of the identity to use.
    pub(crate) fn identity(&self) -> Result<IdentityDirectory, Problem> {
        let places = self.identity_places();
        let found = places.iter().find(|place| place.join("identity.pem").exists());
        let Some(path) = found.or(self.global.identity.as_ref()) else {
            return Err(no_identity(&places));
        };
        IdentityDirectory::open(path).map_err(|error| identity_problem(path, &error))
    }

    fn identity_places(&self) -> Vec<PathBuf> {
        match (&self.global.identity, std::env::home_dir()) {
            (Some(path), _) => vec![path.clone()],
            (None, Some(home)) => vec![home.join(USERS_OWN), MANAGERS_OWN.into()],
            (None, None) => vec![MANAGERS_OWN.into()],
        }
    }
}

fn no_identity(places: &[PathBuf]) -> Problem {
    let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
    failed("no-identity", format!("there is no console identity that this user can read in {}", places.join(" nor in ")))
        .remedy("name one with --identity DIR or ECHELON_IDENTITY; registry-manager init writes the first one to STATE/console")
}

/// A directory that holds no usable identity.
pub(crate) fn identity_problem(path: &Path, error: &DirectoryError) -> Problem {
    failed("bad-identity", with_sources(error)).at(path.display())
}
