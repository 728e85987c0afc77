//! The documentation: every command in it is run by a test, or says why it is not; and those that need only this machine.

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::documentation::{blocks, commands};

#[test]
fn every_documented_command_is_run_by_a_test_or_says_why_not() {
    let sources = sources("tests/it") + &sources("tests/cluster");
    let mut problems = Vec::new();
    let (mut commands, mut manifests) = (0, 0);
    let mut names = BTreeSet::new();
    for block in blocks() {
        let place = block.place();
        commands += usize::from(block.language == "sh");
        manifests += usize::from(block.is_manifest());
        let reason = block.mark.strip_prefix("not run: ").map(str::trim);
        match (block.language.as_str(), block.mark.strip_prefix("run: "), reason) {
            ("sh", Some(name), _) => {
                if !sources.contains(&format!("commands(\"{name}\")")) {
                    problems.push(format!("{place}: no test runs the commands `{name}`"));
                }
                names.insert(name.to_owned());
            }
            ("sh", None, None | Some("")) => problems.push(format!(
                "{place}: write `<!-- run: NAME -->` or `<!-- not run: REASON -->` before the commands"
            )),
            (language, Some(_), _) if language != "sh" => {
                problems.push(format!("{place}: only commands (sh) are run"));
            }
            _ => {}
        }
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
    assert!(commands > 25 && manifests > 5 && names.len() > 5, "{commands} {manifests} {names:?}");
}

#[test]
fn the_configuration_of_the_readme_passes_its_check() {
    let folder = tempfile::tempdir().unwrap();
    let readme = blocks().into_iter().filter(|block| block.place().starts_with("README.md"));
    let toml = readme.into_iter().find(|block| block.language == "toml").unwrap().code;
    std::fs::write(folder.path().join("config.toml"), toml).unwrap();
    let agimo = std::path::Path::new(env!("CARGO_BIN_EXE_agimo")).parent().unwrap();
    let path = format!("{}:{}", agimo.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", &commands("configuration")]);
    let output = shell.current_dir(folder.path()).env("PATH", path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("2 services, no problems"), "{output:?}");
}

/// The source of the tests in a folder.
fn sources(folder: &str) -> String {
    let folder = format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let sources = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    sources.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}
