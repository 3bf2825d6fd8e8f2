//! Tells the programs of this host of a route.

use crate::clock::Clock;
use crate::on_change::claims::Claims;
use crate::on_change::rule::{OnChange, Rendering};
use crate::on_change::state::State;
use crate::on_change::{file, template};
use crate::routes::Snapshot;
use echelon_core::name::Text;
use echelon_core::report::Basis;
use echelon_core::route::Route;
use echelon_daemon::exec::Exec;
use std::io::{Error, ErrorKind, Read};
use std::path::Path;
use tokio::task::{JoinHandle, spawn_blocking};

/// Does what one rule says: renders its file, and runs its command where there is any news.
pub(super) struct Teller {
    clock: Clock,
    claims: Claims,
    rule: OnChange,
    /// A rendering under way. It goes on in its thread though nobody waits for it any more.
    rendering: Option<JoinHandle<Result<bool, Text>>>,
}

impl Teller {
    pub(super) fn new(clock: Clock, claims: Claims, rule: OnChange) -> Self {
        Self { clock, claims, rule, rendering: None }
    }

    pub(super) fn rule(&self) -> &OnChange {
        &self.rule
    }

    /// Tells of a route. Says whether there was any news.
    pub(super) async fn tell(
        &mut self,
        state: &mut State,
        route: &Route,
        replica: &Snapshot,
    ) -> Result<bool, Text> {
        let changed = match self.rule.rendering.clone() {
            None => true,
            Some(rendering) => self.render(rendering, route, replica).await?,
        };
        if changed {
            state.owe_command();
        }
        let Some(words) = self.rule.command.as_ref().filter(|_| state.owes_command()) else {
            return Ok(changed);
        };
        let env = self.environment(state, route);
        let run = Exec { what: "command", words, env, limit: self.rule.timeout }.run().await;
        run.map(|()| true).map_err(|error| Text::lossy(&error.to_string()))
    }

    /// Renders the file. Says whether it is another one than before.
    async fn render(
        &mut self,
        rendering: Rendering,
        route: &Route,
        replica: &Snapshot,
    ) -> Result<bool, Text> {
        let report = route.report(&replica.view, self.clock.now(), Basis::Live);
        let claims = self.claims.clone();
        let under_way = self.rendering.insert(spawn_blocking(move || render(&rendering, &claims, &report)));
        let rendered = under_way.await;
        self.rendering = None;
        rendered.unwrap_or_else(|_| Err(Text::lossy("the file could not be rendered")))
    }

    /// Comes once nothing is under way any more, and lets go of the file.
    pub(super) async fn end(&mut self) {
        if let Some(rendering) = self.rendering.take() {
            // What became of it nobody wants to know any more.
            let _ = rendering.await;
        }
        if let Some(rendering) = &self.rule.rendering {
            self.claims.release(&rendering.file);
        }
    }

    fn environment(&self, state: &State, route: &Route) -> Vec<(&'static str, String)> {
        let text = |value: Option<String>| value.unwrap_or_default();
        let chosen = route.chosen().map(|entry| &entry.candidate.manager);
        let outcome = serde_json::to_value(route.outcome).ok().and_then(|o| o.as_str().map(str::to_owned));
        let mut env = vec![
            ("ECHELON_TYPE", route.ty.to_string()),
            ("ECHELON_FROM", text(state.from().map(ToString::to_string))),
            ("ECHELON_TO", text(chosen.map(|m| m.name.to_string()))),
            ("ECHELON_ENDPOINT", text(chosen.map(|m| m.endpoint.to_string()))),
            ("ECHELON_OUTCOME", text(outcome)),
            ("ECHELON_CAUSE", route.cause.to_string()),
        ];
        let file = self.rule.rendering.as_ref().map(|rendering| rendering.file.display().to_string());
        env.extend(file.map(|file| ("ECHELON_FILE", file)));
        env
    }
}

fn render(rendering: &Rendering, claims: &Claims, route: &impl serde::Serialize) -> Result<bool, Text> {
    let Rendering { template: source, file: path, mode } = rendering;
    let text = read(source).map_err(|error| cannot("read", source, &error))?;
    let rendered =
        template::render(&text, route).map_err(|why| Text::lossy(&format!("{}: {why}", source.display())))?;
    let file = file::target(path).map_err(|error| cannot("written", path, &error))?;
    if !claims.claim(path, &file) {
        let why = format!("another rule renders {} already: keep one of them", file.display());
        return Err(Text::lossy(&why));
    }
    file::replace(&file, rendered.as_bytes(), *mode).map_err(|error| cannot("written", path, &error))
}

/// A template.
fn read(source: &Path) -> Result<String, Error> {
    let mut text = String::new();
    let (file, _) = file::open(source)?;
    let length = file.take(template::MAX_TEMPLATE + 1).read_to_string(&mut text)?;
    match length as u64 > template::MAX_TEMPLATE {
        true => Err(Error::new(ErrorKind::FileTooLarge, "it is larger than a template may be")),
        false => Ok(text),
    }
}

fn cannot(what: &str, path: &Path, error: &Error) -> Text {
    Text::lossy(&format!("{} cannot be {what}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use echelon_core::policy::TypeSelector;
    use futures::FutureExt;
    use std::time::Duration;

    /// A thread that renders cannot be told to stop: the next one must not write the file before it.
    #[tokio::test]
    async fn the_end_waits_for_the_thread_and_frees_the_file() {
        let path = Path::new("/file");
        let rendering = Rendering { template: "/template".into(), file: path.into(), mode: None };
        let rule = OnChange {
            ty: TypeSelector::All,
            rendering: Some(rendering),
            command: None,
            debounce: Duration::ZERO,
            timeout: Duration::ZERO,
        };
        let claims = Claims::default();
        assert!(claims.claim(path, path));
        let (done, waiting) = std::sync::mpsc::channel::<()>();
        let mut teller = Teller::new(Clock::start(), claims.clone(), rule);
        teller.rendering = Some(spawn_blocking(move || {
            waiting.recv().unwrap();
            Ok(true)
        }));
        let mut end = Box::pin(teller.end());
        assert!(end.as_mut().now_or_never().is_none());
        assert!(!claims.claim(Path::new("/link"), path));
        done.send(()).unwrap();
        end.await;
        assert!(claims.claim(Path::new("/link"), path));
    }
}
