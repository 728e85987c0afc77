//! `cargo xtask fuzz`: runs the fuzz targets for a limited time. New inputs are written to `target/`, not to the committed
//! seeds.

use std::fs;

use crate::workspace;

const TARGETS: [&str; 8] = [
    "annotations",
    "config",
    "grpc",
    "head",
    "prometheus",
    "proxy_protocol",
    "selector",
    "translation",
];
const DEFAULT_SECONDS: u32 = 60;

/// The parsed arguments.
#[derive(Debug, PartialEq)]
struct FuzzArguments {
    targets: Vec<&'static str>,
    seconds: u32,
}

pub(crate) fn fuzz(arguments: &[String]) -> Result<(), String> {
    let parsed = parse(arguments)?;
    if !subprocess::succeeds(workspace::program("cargo").args(["+nightly", "--version"])) {
        return Err(
            "fuzzing needs a nightly compiler; install it with: rustup toolchain install nightly"
                .to_owned(),
        );
    }
    if !subprocess::succeeds(workspace::program("cargo").args(["+nightly", "fuzz", "--version"])) {
        return Err("fuzzing needs cargo-fuzz; install it with: cargo install --locked cargo-fuzz"
            .to_owned());
    }
    for target in parsed.targets {
        println!("== fuzz {target} for {} s", parsed.seconds);
        fuzz_one(target, parsed.seconds)?;
    }
    Ok(())
}

fn fuzz_one(target: &str, seconds: u32) -> Result<(), String> {
    let new_inputs = workspace::target_folder().join("fuzz-corpus").join(target);
    fs::create_dir_all(&new_inputs)
        .map_err(|error| format!("{}: {error}", new_inputs.display()))?;
    let mut command = workspace::program("cargo");
    command.args(["+nightly", "fuzz", "run", target]);
    // libFuzzer writes new inputs to the first folder and only reads the others.
    command.arg(&new_inputs).arg(workspace::root().join("fuzz/corpus").join(target));
    command.arg("--").arg(format!("-max_total_time={seconds}"));
    // Link-time optimisation, as in the profile `dist`, would add minutes to the build without finding more.
    command
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    subprocess::run(&mut command)
}

fn parse(arguments: &[String]) -> Result<FuzzArguments, String> {
    let mut parsed = FuzzArguments { targets: TARGETS.to_vec(), seconds: DEFAULT_SECONDS };
    for argument in arguments {
        if let Some(target) = TARGETS.into_iter().find(|target| target == argument) {
            parsed.targets = vec![target];
        } else if let Ok(seconds @ 1..) = argument.parse() {
            parsed.seconds = seconds;
        } else {
            return Err(format!(
                "`{argument}` is neither a target ({}) nor a number of seconds",
                TARGETS.join(", ")
            ));
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all(arguments: &[&str]) -> Result<FuzzArguments, String> {
        parse(&arguments.iter().map(|&a| a.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn target_and_seconds_are_optional() {
        assert_eq!(parse_all(&[]), Ok(FuzzArguments { targets: TARGETS.to_vec(), seconds: 60 }));
        assert_eq!(parse_all(&["head"]), Ok(FuzzArguments { targets: vec!["head"], seconds: 60 }));
        assert_eq!(
            parse_all(&["config", "5"]),
            Ok(FuzzArguments { targets: vec!["config"], seconds: 5 })
        );
    }

    #[test]
    fn zero_seconds_and_unknown_targets_are_rejected() {
        assert!(parse_all(&["0"]).is_err(), "0 means no limit to libFuzzer");
        assert!(parse_all(&["heads"]).is_err());
    }
}
