//! What must hold for any input whatever: the properties that the fuzz targets try to break and that the committed
//! seeds are held to at every test run. It generates no input.

#![forbid(unsafe_code)]

use agimo::config::{parse, report};
use agimo::http::http1::head::{Limits, RequestHead, ResponseHead};
use agimo::prometheus::answer;
use agimo::workload::{WorkloadId, WorkloadKind};

/// Small enough for a fuzzer to run into every one of them.
const LIMITS: Limits = Limits { head: 2048, uri: 512, lines: 16 };

/// Twice as large: a head written out anew has a space after every colon.
const WIDE_LIMITS: Limits = Limits { head: 4096, uri: 512, lines: 16 };

/// A configuration is taken or refused with problems that can be shown; neither panics.
pub fn config(data: &[u8]) {
    // A file that is not UTF-8 is refused before it gets here.
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Err(problems) = parse::parse(text) {
        let shown = report::render("config.toml", text, &problems, false);
        assert!(!shown.is_empty(), "a refusal has to say why");
    }
}

/// A request head that is accepted has one reading: written out anew it parses to the same head, nothing after it
/// changes it, and no part of it is taken for the whole.
pub fn head(data: &[u8]) {
    // Responses come from applications and are parsed from bytes that are as little known.
    let _ = ResponseHead::parse(data);
    let Ok(Some((head, length))) = RequestHead::parse(data, &LIMITS) else {
        return;
    };
    assert!(length <= data.len() && length <= LIMITS.head);

    let written = written(&head);
    let Ok(Some((again, written_length))) = RequestHead::parse(&written, &WIDE_LIMITS) else {
        panic!("accepted at first, refused when written out anew");
    };
    assert_eq!(written_length, written.len());
    assert_same(&head, &again);

    let Ok(Some((alone, alone_length))) = RequestHead::parse(&data[..length], &LIMITS) else {
        panic!("accepted only with what follows it");
    };
    assert_eq!(alone_length, length);
    assert_same(&head, &alone);

    for part in [length - 1, length / 2] {
        let parsed = RequestHead::parse(&data[..part], &LIMITS);
        assert!(!matches!(parsed, Ok(Some(_))), "{part} bytes of {length} taken for the whole");
    }
}

/// An answer of Prometheus is read or refused in words. Not a number, and less than none, is none ready.
pub fn prometheus(data: &[u8]) {
    match answer::read(data) {
        Err(error) => assert!(!error.to_string().is_empty(), "a refusal has to say why"),
        Ok(samples) => {
            let ready = answer::ready(&samples, &deployment());
            let most = samples.iter().map(|sample| sample.value).fold(0.0, f64::max);
            assert!(ready.is_none_or(|ready| f64::from(ready) <= most), "more ready than reported");
        }
    }
}

fn deployment() -> WorkloadId {
    WorkloadId {
        kind: WorkloadKind::Deployment,
        namespace: "default".to_owned(),
        name: "web".to_owned(),
    }
}

/// The head on the wire (RFC 9112 sections 3 and 5).
fn written(head: &RequestHead) -> Vec<u8> {
    let mut bytes = head.method.as_str().as_bytes().to_vec();
    bytes.push(b' ');
    bytes.extend_from_slice(head.raw_target());
    bytes.extend_from_slice(format!(" {:?}\r\n", head.version).as_bytes());
    for line in head.fields.iter() {
        bytes.extend_from_slice(line.name);
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(line.value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn assert_same(one: &RequestHead, other: &RequestHead) {
    assert_eq!(one.method, other.method);
    assert_eq!(one.raw_target(), other.raw_target());
    assert_eq!(one.target(), other.target());
    assert_eq!(one.authority(), other.authority());
    assert_eq!(one.version, other.version);
    assert_eq!(one.keeps_alive(), other.keeps_alive());
    assert!(one.fields.iter().eq(other.fields.iter()), "the field lines differ");
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Runs every committed seed; an empty folder would show nothing.
    fn replay(target: &str, property: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        let mut seeds = 0;
        for entry in fs::read_dir(&folder).expect("the seeds are committed") {
            let path = entry.expect("a readable folder").path();
            println!("{}", path.display());
            property(&fs::read(path).expect("a readable seed"));
            seeds += 1;
        }
        assert!(seeds > 0, "no seeds in {}", folder.display());
    }

    #[test]
    fn seeds_of_the_configuration() {
        replay("config", super::config);
    }

    #[test]
    fn seeds_of_the_answer_of_prometheus() {
        replay("prometheus", super::prometheus);
    }

    #[test]
    fn seeds_of_the_request_head() {
        replay("head", super::head);
    }
}
