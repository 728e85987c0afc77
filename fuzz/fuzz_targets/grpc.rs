//! Fuzz target of what agimo reads and writes of gRPC: passes the input to `agimo_fuzz::grpc`.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| agimo_fuzz::grpc(data));

/// Without cargo-fuzz, on the stable compiler: checks the files named as arguments, for example a crash that was found.
#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    for path in std::env::args().skip(1) {
        agimo_fuzz::grpc(&std::fs::read(path)?);
    }
    Ok(())
}
