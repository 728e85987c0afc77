//! Slips in the configuration of a process that are no errors and yet hardly meant: for `agimo check`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::config::ProcessConfig;

/// Programs that replace variables and `~` themselves.
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "zsh", "ash", "fish"];

/// One line for each slip, with what to write instead.
pub fn advice(config: &ProcessConfig, search_path: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(workdir) = &config.workdir
        && !workdir.is_dir()
    {
        found.push(format!("`workdir` {} is no directory", workdir.display()));
    }
    let Some((program, arguments)) = config.command.split_first() else { return found };
    if find_program(program, config.workdir.as_deref(), search_path).is_none() {
        found.push(format!(
            "`command`: the program {program:?} is not found, or it is not executable"
        ));
    }
    let name = Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if SHELLS.contains(&name) {
        return found;
    }
    for argument in arguments.iter().chain([program]) {
        if argument.starts_with("~/") || argument == "~" {
            found.push(format!(
                "`command`: no shell replaces the ~ in {argument:?}: write the path"
            ));
        }
        if argument.contains("$PORT") || argument.contains("${PORT}") {
            found.push(format!(
                "`command`: no shell replaces the variable in {argument:?}: write {{port}}"
            ));
        }
    }
    found
}

fn find_program(program: &str, workdir: Option<&Path>, search_path: &str) -> Option<PathBuf> {
    let is_executable = |path: &PathBuf| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        // A relative path counts from the working directory of the process.
        let path = workdir.unwrap_or(Path::new("")).join(program);
        return Some(path).filter(is_executable);
    }
    let folders = search_path.split(':').filter(|folder| !folder.is_empty());
    folders.map(|folder| Path::new(folder).join(program)).find(is_executable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WorkloadConfig;
    use crate::config::parse::parse;

    fn advice_on(keys: &str) -> Vec<String> {
        let text = format!("[[services]]\nhost = 'a'\ntype = 'process'\n{keys}");
        let WorkloadConfig::Process(config) = parse(&text).unwrap().services.remove(0).workload
        else {
            panic!("a process")
        };
        advice(&config, "/usr/bin:/bin")
    }

    #[test]
    fn slips_are_found_with_what_to_write() {
        for (keys, expected) in [
            ("command = ['no-such-program']", vec!["is not found"]),
            ("command = ['./sh']\nworkdir = '/bin'", vec![]),
            ("command = ['./sh']\nworkdir = '/usr'", vec!["is not found"]),
            ("command = ['sh']\nworkdir = '/no/such'", vec!["is no directory"]),
            ("command = ['env', '~/app', '--port=$PORT']", vec!["write the path", "write {port}"]),
            ("command = ['sh', '-c', 'exec ~/app $PORT']", vec![]),
            ("command = ['env', 'app', '{port}']", vec![]),
        ] {
            let found = advice_on(keys);
            assert_eq!(found.len(), expected.len(), "{keys}: {found:?}");
            for (line, part) in found.iter().zip(expected) {
                assert!(line.contains(part), "{line}");
            }
        }
    }
}
