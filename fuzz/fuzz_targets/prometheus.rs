//! The fuzz target of the answer of Prometheus: hands input to `agimo_fuzz::prometheus` and decides nothing itself.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| agimo_fuzz::prometheus(data));

/// Without cargo-fuzz, on the stable compiler: replays the files named as arguments, such as a crash that was found.
#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    for path in std::env::args().skip(1) {
        agimo_fuzz::prometheus(&std::fs::read(path)?);
    }
    Ok(())
}
