//! The transcripts in the documents, run again.

use echelon_tests::transcript::run;

/// Protects: whoever types what README's quick start says gets what it says.
#[test]
fn the_quick_start() {
    let built_already = |command: &str| command.starts_with("cargo ") || command.starts_with("export PATH=");
    run("transcripts::the_quick_start", "README.md", built_already);
}

/// Protects: an operator who follows the guide gets what it says.
#[test]
fn the_operators_guide() {
    run("transcripts::the_operators_guide", "docs/operations.md", |_| false);
}
