//! `echelon export`.

use crate::console::Console;
use crate::inventory::{From, Inventory};
use crate::problem::{Problem, failed};

/// Prints the registry as a topology file.
pub(crate) async fn run(console: &mut Console) -> Result<(), Problem> {
    let inventory = Inventory::load(console, &From { file: None }).await?;
    let text = echelon_topology::export(&inventory.registry);
    match console.out.is_json() {
        true => console.out.object(&as_json(&text)?),
        false => console.out.text(&text),
    }
}

/// A topology file's other language: the same keys and values.
fn as_json(topology: &str) -> Result<serde_json::Value, Problem> {
    toml::from_str(topology).map_err(|error| failed("internal", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages_say_the_same() {
        let text = "format = 1\nframework = \"acme\"\n[[host]]\nname = \"a\"\npackages = [\"audit:7001\"]\n";
        let json = as_json(text).unwrap().to_string();
        let one = echelon_topology::parse("a.toml", text.as_bytes()).unwrap();
        let other = echelon_topology::parse("a.json", json.as_bytes()).unwrap();
        assert_eq!(one, other);
    }
}
