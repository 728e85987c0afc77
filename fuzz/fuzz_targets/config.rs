//! The fuzz target of the configuration: hands input to `agimo_fuzz::config` and decides nothing itself.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| agimo_fuzz::config(data));

/// Without cargo-fuzz, on the stable compiler: replays the files named as arguments, such as a crash that was found.
#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    for path in std::env::args().skip(1) {
        agimo_fuzz::config(&std::fs::read(path)?);
    }
    Ok(())
}
