//! The reference of the command line (docs/commands.md), from its definition.

use std::fmt::Write as _;

use clap::CommandFactory;

use super::Cli;

/// The page, in Markdown: the options of the proxy, then each command.
pub fn markdown() -> String {
    // The values of environment variables differ between machines.
    let plain = |command: clap::Command| {
        command.disable_help_flag(true).mut_args(|option| option.hide_env_values(true))
    };
    let mut command = plain(Cli::command()).disable_version_flag(true).mut_subcommands(plain);
    command.build();
    let mut page = String::from(
        "# Commands\n\n<!-- Generated from src/cli: cargo xtask docs -->\n\n`agimo` without a command runs the proxy. \
         Commands that ask a running agimo are described in [operations.md](operations.md#commands).\n",
    );
    let names: Vec<String> = command
        .get_subcommands()
        .filter(|one| !one.is_hide_set())
        .map(|one| one.get_name().to_owned())
        .collect();
    for name in names {
        let Some(subcommand) = command.find_subcommand_mut(&name) else { continue };
        let help = subcommand.render_long_help().to_string();
        section(&mut page, &format!("agimo {name}"), &help);
    }
    let help = command.render_long_help().to_string();
    section(&mut page, "Options of the proxy", &help);
    page
}

fn section(page: &mut String, heading: &str, help: &str) {
    let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    // Writing to a String cannot fail.
    let _ = write!(page, "\n## {heading}\n\n```text\n{}\n```\n", lines.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_the_repository_is_the_generated_one() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/commands.md");
        let page = std::fs::read_to_string(file).unwrap_or_default();
        assert!(page == markdown(), "docs/commands.md is out of date: cargo xtask docs");
    }

    #[test]
    fn every_command_has_a_section() {
        let page = markdown();
        for name in ["status", "check", "why", "pin", "completions"] {
            assert!(page.contains(&format!("\n## agimo {name}\n")), "{name}");
        }
        assert!(!page.contains("demo-application"), "hidden");
    }
}
