//! Runs other programs for `xtask` and the test bed. Every error is one sentence that names the command; no command
//! goes through a shell.

use std::io::{self, Write};
use std::process::{Child, Command, Output, Stdio};

/// Runs the command to its end. Its output goes where the output of this process goes, unless the command says
/// otherwise.
pub fn run(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{}` ended with {status}", command_line(command))),
        Err(error) => Err(start_error(command, &error)),
    }
}

/// Runs the command to its end and returns what it wrote to standard output. An error quotes what it wrote to standard
/// error, unless the command redirects that.
pub fn capture(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| start_error(command, &error))?;
    check_status(command, &output)?;
    String::from_utf8(output.stdout)
        .map_err(|_| format!("`{}` wrote output that is not UTF-8", command_line(command)))
}

/// Runs the command to its end with `input` as its standard input. An error quotes what it wrote to standard error.
pub fn run_with_input(command: &mut Command, input: &str) -> Result<(), String> {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = spawn(command)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that exits before it has read everything reports the reason itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| format!("`{}`: {error}", command_line(command)))?;
    check_status(command, &output)
}

/// Starts the command and returns without waiting for it.
pub fn spawn(command: &mut Command) -> Result<Child, String> {
    command.spawn().map_err(|error| start_error(command, &error))
}

/// Whether the command starts and exits with status 0; its output is discarded.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The program and its arguments as typed on a command line, without quoting and without the environment.
pub fn command_line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

/// The error text for a command that did not start.
pub fn start_error(command: &Command, error: &io::Error) -> String {
    let mut text = format!("`{}` did not start: {error}", command_line(command));
    if error.kind() == io::ErrorKind::NotFound {
        let program = command.get_program().to_string_lossy();
        text.push_str(&format!(
            "; is `{program}` in PATH? `cargo xtask test` and `cargo xtask cluster up` install the programs they need"
        ));
    }
    text
}

fn check_status(command: &Command, output: &Output) -> Result<(), String> {
    if output.status.success() {
        return Ok(());
    }
    let mut text = format!("`{}` ended with {}", command_line(command), output.status);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !stderr.trim().is_empty() {
        text.push_str(&format!(": {}", stderr.trim()));
    }
    Err(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn an_error_names_the_command_and_its_exit_status() {
        let error = run(&mut shell("exit 3")).unwrap_err();
        assert_eq!(error, "`sh -c exit 3` ended with exit status: 3");
    }

    #[test]
    fn an_error_quotes_standard_error() {
        let error = capture(&mut shell("echo no such thing >&2; exit 3")).unwrap_err();
        assert!(error.ends_with("ended with exit status: 3: no such thing"), "{error}");
        let error = capture(shell("exit 3").stderr(Stdio::inherit())).unwrap_err();
        assert!(error.ends_with("ended with exit status: 3"), "{error}");
    }

    #[test]
    fn the_input_reaches_the_command() {
        assert!(run_with_input(Command::new("sh").arg("-s"), "exit 1").is_err());
        assert_eq!(run_with_input(Command::new("sh").arg("-s"), "exit 0"), Ok(()));
    }

    #[test]
    fn a_missing_program_is_named_with_the_fix() {
        let error = run(&mut Command::new("no-such-program")).unwrap_err();
        assert!(error.starts_with("`no-such-program` did not start"), "{error}");
        assert!(error.contains("is `no-such-program` in PATH? `cargo xtask test`"), "{error}");
    }
}
