//! `cargo xtask docs`: generates the reference of the configuration and of the commands from the code.

use std::fs;
use std::process::Stdio;

use crate::workspace;

/// The arguments of `agimo`, and the file to which its output is written.
const GENERATED: [(&[&str], &str); 3] = [
    (&["schema"], "docs/configuration.schema.json"),
    (&["schema", "--markdown"], "docs/configuration.md"),
    (&["schema", "--commands"], "docs/commands.md"),
];

pub(crate) fn docs(arguments: &[String]) -> Result<(), String> {
    if let Some(argument) = arguments.first() {
        return Err(format!("docs does not accept `{argument}`"));
    }
    for (agimo_arguments, file) in GENERATED {
        let mut command =
            workspace::cargo(&["run", "--quiet", "--locked", "--package", "agimo", "--"]);
        // The file is written only if the command succeeds.
        let output = subprocess::capture(command.args(agimo_arguments).stderr(Stdio::inherit()))?;
        fs::write(workspace::root().join(file), output)
            .map_err(|error| format!("{file}: {error}"))?;
        println!("wrote {file}");
    }
    Ok(())
}
