//! `cargo xtask docs`: the reference of the configuration, written from the code that checks it. Prose is not its
//! business.

use std::fs;
use std::process::Stdio;

use crate::workspace;

/// What `agimo` is asked for, and the file its answer becomes.
const GENERATED: [(&[&str], &str); 2] = [
    (&["schema"], "docs/configuration.schema.json"),
    (&["schema", "--markdown"], "docs/configuration.md"),
];

pub(crate) fn docs(arguments: &[String]) -> Result<(), String> {
    if let Some(argument) = arguments.first() {
        return Err(format!("docs takes no argument, and yet there is `{argument}`"));
    }
    for (question, file) in GENERATED {
        let mut command =
            workspace::cargo(&["run", "--quiet", "--locked", "--package", "agimo", "--"]);
        // The answer is complete before the file is touched.
        let answer = subprocess::capture(command.args(question).stderr(Stdio::inherit()))?;
        fs::write(workspace::root().join(file), answer)
            .map_err(|error| format!("{file}: {error}"))?;
        println!("wrote {file}");
    }
    Ok(())
}
