//! Follows a route, or a role.

use crate::agent::{AgentError, CALL_TIMEOUT, LocalAgent, OfType, path};
use echelon_core::name::ManagerType;
use echelon_core::report::RouteReport;
use serde::Deserialize;
use std::fmt::Write;
use std::marker::PhantomData;
use std::time::Duration;
use tokio::time::sleep;

/// How long the agent may hold a question back while nothing changes.
const WAIT: Duration = Duration::from_secs(30);

/// Pause after a question that brought nothing new: the first, and what it is doubled to. An agent that is
/// started anew is back within a second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Longest tag that is sent back.
const MAX_TAG: usize = 256;

/// Follows what the agent tells of one type, the route where nothing else is named, also while the agent is started
/// anew.
///
/// It keeps nothing running: the agent is asked while [`Self::next`] is awaited.
#[derive(Debug)]
pub struct Watch<T = RouteReport> {
    agent: LocalAgent,
    ty: ManagerType,
    /// Which state was given last.
    tag: Option<String>,
    /// What to wait before the next question.
    pause: Duration,
    kind: PhantomData<fn() -> T>,
}

/// What is told, and which state of it an answer is of.
#[derive(Deserialize)]
#[serde(bound = "T: OfType")]
struct Tagged<T> {
    tag: String,
    #[serde(flatten)]
    told: T,
}

impl<T: OfType> OfType for Tagged<T> {
    const SECTION: &'static str = T::SECTION;
    fn missing(ty: ManagerType) -> AgentError {
        T::missing(ty)
    }
}

impl<T: OfType> Watch<T> {
    pub(crate) fn new(agent: LocalAgent, ty: ManagerType) -> Self {
        Self { agent, ty, tag: None, pause: Duration::ZERO, kind: PhantomData }
    }

    /// What is told next: at first what there is, then each change of it; of a route, where the choice or the order of
    /// candidates differs. Of several changes in a row only the last may be given. Dropping the future loses nothing.
    ///
    /// While the agent cannot be asked, it is tried again and again; whoever wants to know asks it with
    /// [`LocalAgent::route`] or [`LocalAgent::role`].
    ///
    /// # Errors
    /// What trying again would not mend, such as [`AgentError::UnknownType`]. Another call asks anew, after
    /// a pause.
    pub async fn next(&mut self) -> Result<T, AgentError> {
        loop {
            sleep(self.pause).await;
            match self.ask().await {
                Ok(Tagged { tag, told }) if self.tag.as_ref() != Some(&tag) => {
                    self.tag = Some(tag);
                    self.pause = Duration::ZERO;
                    return Ok(told);
                }
                // It has waited in vain, which takes it a while. An agent that does not wait is not hurried.
                Ok(_) => self.pause = PAUSE.0,
                Err(error) => {
                    self.pause = (self.pause * 2).clamp(PAUSE.0, PAUSE.1);
                    if !error.is_retriable() {
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn ask(&self) -> Result<Tagged<T>, AgentError> {
        let mut path = path::<T>(&self.ty);
        if let Some(tag) = &self.tag {
            let _ = write!(path, "?after={}&wait={}s", escaped(tag), WAIT.as_secs());
        }
        let tagged: Tagged<T> = self.agent.read(&self.ty, &path, WAIT + CALL_TIMEOUT).await?;
        if tagged.tag.len() > MAX_TAG {
            return Err(AgentError::Malformed("its tag is too long".into()));
        }
        Ok(tagged)
    }
}

/// A tag as a part of a query.
fn escaped(tag: &str) -> String {
    let mut escaped = String::new();
    for byte in tag.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            byte => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}
