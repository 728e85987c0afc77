//! `cargo xtask fuzz`: runs the fuzz targets for a bounded time. What they found lies in `target/`, not among the
//! committed seeds.

use std::fs;

use crate::workspace;

const TARGETS: [&str; 3] = ["config", "head", "prometheus"];
const DEFAULT_SECONDS: u32 = 60;

/// What the arguments ask for.
#[derive(Debug, PartialEq)]
struct Request {
    targets: Vec<&'static str>,
    seconds: u32,
}

pub(crate) fn fuzz(arguments: &[String]) -> Result<(), String> {
    let request = parse(arguments)?;
    if !subprocess::succeeds(workspace::program("cargo").args(["+nightly", "--version"])) {
        return Err("fuzzing needs a nightly compiler: rustup toolchain install nightly".to_owned());
    }
    if !subprocess::succeeds(workspace::program("cargo").args(["+nightly", "fuzz", "--version"])) {
        return Err("fuzzing needs cargo-fuzz: cargo install --locked cargo-fuzz".to_owned());
    }
    for target in request.targets {
        println!("== fuzz {target} for {} s", request.seconds);
        fuzz_one(target, request.seconds)?;
    }
    Ok(())
}

fn fuzz_one(target: &str, seconds: u32) -> Result<(), String> {
    let found = workspace::target_folder().join("fuzz-corpus").join(target);
    fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
    let mut command = workspace::program("cargo");
    command.args(["+nightly", "fuzz", "run", target]);
    // libFuzzer writes new inputs to the first folder and only reads the others.
    command.arg(&found).arg(workspace::root().join("fuzz/corpus").join(target));
    command.arg("--").arg(format!("-max_total_time={seconds}"));
    // The release profile's link-time optimisation would cost minutes and find nothing more.
    command
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    subprocess::run(&mut command)
}

fn parse(arguments: &[String]) -> Result<Request, String> {
    let mut request = Request { targets: TARGETS.to_vec(), seconds: DEFAULT_SECONDS };
    for argument in arguments {
        if let Some(target) = TARGETS.into_iter().find(|target| target == argument) {
            request.targets = vec![target];
        } else if let Ok(seconds @ 1..) = argument.parse() {
            request.seconds = seconds;
        } else {
            return Err(format!(
                "`{argument}` is neither a target ({}) nor a number of seconds",
                TARGETS.join(", ")
            ));
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Request, String> {
        parse(&arguments.iter().map(|&a| a.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn target_and_time_are_both_optional() {
        assert_eq!(parsed(&[]), Ok(Request { targets: TARGETS.to_vec(), seconds: 60 }));
        assert_eq!(parsed(&["head"]), Ok(Request { targets: vec!["head"], seconds: 60 }));
        assert_eq!(parsed(&["config", "5"]), Ok(Request { targets: vec!["config"], seconds: 5 }));
    }

    #[test]
    fn a_run_without_end_or_target_is_refused() {
        assert!(parsed(&["0"]).is_err(), "libFuzzer takes 0 for no limit");
        assert!(parsed(&["heads"]).is_err());
    }
}
