//! The version of this agimo and the commit that it was built from.

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The first twelve digits of the commit; `unknown` where it was built outside of its repository or without optimisation.
pub const COMMIT: &str = env!("AGIMO_COMMIT");
/// Both, for people.
pub const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("AGIMO_COMMIT"), ")");
