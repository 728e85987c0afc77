//! `cargo xtask bench`: builds what is measured and what measures, then measures. The measuring is in `bench/`.

use std::path::PathBuf;

use crate::run::{self, Outcome};

pub(crate) fn bench(arguments: &[String]) -> Outcome {
    // Two builds, so that agimo is measured with the features its users get and not with those of bench besides.
    let agimo = built("agimo")?;
    let bench = built("bench")?;
    let mut command = run::program(&bench.to_string_lossy());
    command.arg("--agimo").arg(agimo).args(arguments);
    run::run(&mut command)
}

fn built(package: &str) -> Result<PathBuf, String> {
    let mut build = run::cargo(&["build", "--release", "--locked", "--package", package]);
    run::built(&mut build, package)
}
