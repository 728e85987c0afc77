//! `cargo xtask bench`: builds what is measured and what measures, then measures. The measuring is in `bench/`.

use crate::run::{self, Outcome};

pub(crate) fn bench(arguments: &[String]) -> Outcome {
    // Two builds, so that agimo is measured with the features its users get and not with those of bench besides.
    for package in ["agimo", "bench"] {
        run::run(&mut run::cargo(&["build", "--release", "--locked", "--package", package]))?;
    }
    let built = run::target().join("release");
    let mut command = run::program(&built.join("bench").to_string_lossy());
    command.arg("--agimo").arg(built.join("agimo")).args(arguments);
    run::run(&mut command)
}
