//! STUB.
#[derive(Debug)]
pub struct Problem { pub span: std::ops::Range<usize>, pub message: String, pub help: String }
pub fn render(_f: &str, _t: &str, p: &[Problem], _c: bool) -> String { format!("{p:?}") }
pub fn one_line(_f: &str, _t: &str, p: &Problem) -> String { format!("{p:?}") }
