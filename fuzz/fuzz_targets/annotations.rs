//! Fuzz target of the annotations of workloads: passes the input to `agimo_fuzz::annotations`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| agimo_fuzz::annotations(data));

/// Without cargo-fuzz, on the stable compiler: checks the files named as arguments, for example a crash that was found.
#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    for path in std::env::args().skip(1) {
        agimo_fuzz::annotations(&std::fs::read(path)?);
    }
    Ok(())
}
