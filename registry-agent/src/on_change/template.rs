//! Text from a template (Jinja) and a route.

use echelon_core::name::Text;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, UndefinedBehavior};
use serde::Serialize;
use std::io::{self, Write};

/// Longest template, in bytes.
pub(super) const MAX_TEMPLATE: u64 = 256 * 1024;

/// Most bytes that are rendered: a line of 100 bytes for each of 10,000 managers.
pub(super) const MAX_RENDERED: usize = 1024 * 1024;

/// Most steps of a rendering: a hundred for each of 10,000 managers, some ten times over.
const FUEL: u64 = 10_000_000;

/// Renders `template` with what `context` holds. What it names that there is not is an error, and not an empty text.
///
/// # Errors
/// Says what is wrong, and in which line, for people.
pub(super) fn render(template: &str, context: &impl Serialize) -> Result<String, Text> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_syntax(syntax().map_err(|error| in_words(&error))?);
    let mut rendered = Bounded(Vec::new());
    let template = environment.template_from_named_str("template", template);
    template
        .and_then(|template| template.render_captured_to(Serde(context), &mut rendered).map(drop))
        .map_err(|error| in_words(&error))?;
    String::from_utf8(rendered.0).map_err(|_| Text::lossy("the template renders no text"))
}

/// Lines that hold nothing but a block leave none, as in the configuration tools that use Jinja.
fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build()
}

fn in_words(error: &Error) -> Text {
    let line = error.line().map(|line| format!(" in line {line} of the template")).unwrap_or_default();
    let what = error
        .detail()
        .map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()));
    Text::lossy(&format!("{what}{line}"))
}

/// Takes as much as may be rendered.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.0.len().saturating_add(part.len()) > MAX_RENDERED {
            return Err(io::Error::other(format!("more than {MAX_RENDERED} bytes are rendered")));
        }
        self.0.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_route_becomes_a_text_and_mistakes_are_named_with_their_line() {
        let route = json!({"chosen": {"endpoint": "10.0.0.1:70"}, "candidates": [{"host": "a"}, {"host": "b"}], "none": null});
        let text =
            "{% for c in candidates %}\nserver {{ c.host }};\n  {% endfor %}\n# {{ chosen.endpoint }}\n";
        assert_eq!(render(text, &route).unwrap(), "server a;\nserver b;\n# 10.0.0.1:70\n");
        for (text, words) in [
            ("\n{{ chosen.port }}", "undefined value"),
            ("\n{{ none.endpoint }}", "in line 2"),
            ("\n{% if %}", "in line 2"),
            ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "fuel"),
            (
                "{% for a in range(99999) %}{{ a }}{{ a }}{{ a }}{{ a }}{{ a }}{% endfor %}",
                "failed to write output",
            ),
        ] {
            let error = render(text, &route).unwrap_err();
            assert!(error.as_str().contains(words), "{text}: {error}");
        }
    }
}
