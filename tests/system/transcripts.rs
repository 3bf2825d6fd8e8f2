//! The transcripts in the documents, run again.

use echelon_tests::transcript::run;

/// The part of the operators' guide that has a machine of its own, so that the two can be run side by side.
const SEVERAL: &str = "Several registry managers";

/// What is built already when the tests run.
fn builds(command: &str) -> bool {
    command.starts_with("cargo ")
}

/// Protects: whoever types what README's quick start says gets what it says.
#[test]
fn the_quick_start() {
    let built_already = |_: &str, command: &str| builds(command) || command.starts_with("export PATH=");
    run("transcripts::the_quick_start", "README.md", built_already);
}

/// Protects: an operator who follows the guide gets what it says.
#[test]
fn the_operators_guide() {
    let elsewhere = |section: &str, command: &str| section == SEVERAL || builds(command);
    run("transcripts::the_operators_guide", "docs/operations.md", elsewhere);
}

/// Protects: an operator who adds, promotes, loses, replaces and upgrades registry managers as the guide says gets what
/// it says.
#[test]
fn the_operators_guide_to_several_registry_managers() {
    let name = "transcripts::the_operators_guide_to_several_registry_managers";
    run(name, "docs/operations.md", |section, _| section != SEVERAL);
}
