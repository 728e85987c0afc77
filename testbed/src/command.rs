//! Runs other programs to their end and says in words how they failed. It never goes through a shell.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// What a step ends with: nothing to say, or the sentence that says what failed and what to do.
pub(crate) type Outcome = Result<(), String>;

/// Runs to the end with our own output.
pub(crate) fn run(command: &mut Command) -> Outcome {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{}` ended with {status}", typed(command))),
        Err(error) => Err(not_started(command, &error)),
    }
}

/// Runs to the end and returns what it wrote to its standard output; a failure quotes what it complained of.
pub(crate) fn capture(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| not_started(command, &error))?;
    judged(command, &output)?;
    String::from_utf8(output.stdout)
        .map_err(|_| format!("`{}` wrote something that is not UTF-8", typed(command)))
}

/// Runs to the end with this as its standard input; a failure quotes what it complained of.
pub(crate) fn feed(command: &mut Command, input: &str) -> Outcome {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| not_started(command, &error))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early says why itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output =
        child.wait_with_output().map_err(|error| format!("`{}`: {error}", typed(command)))?;
    judged(command, &output)
}

/// Whether it starts and succeeds; its output is of no interest.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The command as one would type it, without its environment.
pub(crate) fn typed(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

fn judged(command: &Command, output: &Output) -> Outcome {
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{}` ended with {}: {}", typed(command), output.status, complaint.trim()))
}

fn not_started(command: &Command, error: &std::io::Error) -> String {
    let program = command.get_program().to_string_lossy();
    if error.kind() == std::io::ErrorKind::NotFound {
        return format!("there is no `{program}` in PATH: `cargo xtask cluster up` installs it");
    }
    format!("`{}` did not start: {error}", typed(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_quotes_the_complaint() {
        let mut command = Command::new("sh");
        let error = capture(command.args(["-c", "echo no such thing >&2; exit 3"])).unwrap_err();
        assert!(error.ends_with("ended with exit status: 3: no such thing"), "{error}");
        assert!(feed(Command::new("sh").arg("-s"), "exit 1").is_err());
        assert_eq!(feed(Command::new("sh").arg("-s"), "exit 0"), Ok(()));
    }

    #[test]
    fn a_missing_program_is_named_with_the_cure() {
        let error = run(&mut Command::new("no-such-program")).unwrap_err();
        assert!(error.contains("no `no-such-program` in PATH"), "{error}");
    }
}
