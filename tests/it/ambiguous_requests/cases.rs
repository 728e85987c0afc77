//! Requests of HTTP/1.1 that servers read differently: where a body ends, which host is meant, what a line is. In each, `HOST` stands
//! for the host of the service, and a request to `/smuggled` is what an attacker hides.

/// Hidden in a body.
const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n";

/// Every case with its name.
pub(super) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let mut cases = Vec::new();
    lengths(&mut cases);
    codings(&mut cases);
    chunks(&mut cases);
    lines(&mut cases);
    targets(&mut cases);
    upgrades(&mut cases);
    cases
}

type Cases = Vec<(&'static str, Vec<u8>)>;

/// A POST with these lines, which include the end of the last one, and this body.
fn post(lines: &str, body: &str) -> Vec<u8> {
    format!("POST /case HTTP/1.1\r\nHost: HOST\r\n{lines}\r\n{body}").into_bytes()
}

/// A chunk that hides a request, and the end of the body.
fn chunked() -> String {
    format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len())
}

fn lengths(cases: &mut Cases) {
    let hidden = HIDDEN.len();
    let length = format!("Content-Length: {hidden}\r\n");
    for (name, lines) in [
        ("two lengths, the same", format!("{length}{length}")),
        ("two lengths, the second is zero", format!("{length}Content-Length: 0\r\n")),
        ("two lengths, the first is zero", format!("Content-Length: 0\r\n{length}")),
        ("a list of equal lengths", format!("Content-Length: {hidden}, {hidden}\r\n")),
        ("a list of different lengths", format!("Content-Length: 0, {hidden}\r\n")),
        ("a length with a sign", format!("Content-Length: +{hidden}\r\n")),
        ("a negative length", "Content-Length: -1\r\n".to_owned()),
        ("a hexadecimal length", format!("Content-Length: {hidden:#x}\r\n")),
        ("a length with zeros in front", format!("Content-Length: 000{hidden}\r\n")),
        ("a length with spaces", format!("Content-Length:   {hidden}  \r\n")),
        ("a length with a tab", format!("Content-Length:\t{hidden}\t\r\n")),
        ("a length with a vertical tab", format!("Content-Length: \x0b{hidden}\r\n")),
        ("a length in quotes", format!("Content-Length: \"{hidden}\"\r\n")),
        ("a length with a fraction", format!("Content-Length: {hidden}.0\r\n")),
        ("a length with an exponent", "Content-Length: 4e1\r\n".to_owned()),
        ("an empty length", "Content-Length:\r\n".to_owned()),
        ("a length beyond 64 bits", "Content-Length: 18446744073709551616\r\n".to_owned()),
        ("a length with an underscore in its name", format!("Content_Length: {hidden}\r\n")),
        ("a length with a space before the colon", format!("Content-Length : {hidden}\r\n")),
        ("a length behind a fold", format!("Content-Length:\r\n {hidden}\r\n")),
        (
            "a length that continues another line",
            format!("X-A: b\r\n Content-Length: {hidden}\r\n"),
        ),
        (
            "a length that the connection is said to end",
            format!("Connection: Content-Length\r\n{length}"),
        ),
        ("a length in digits of another script", "Content-Length: \u{0663}\u{0667}\r\n".to_owned()),
    ] {
        cases.push((name, post(&lines, HIDDEN)));
    }
    for (name, method) in [
        ("GET with a body", "GET"),
        ("HEAD with a body", "HEAD"),
        ("DELETE with a body", "DELETE"),
        ("OPTIONS with a body", "OPTIONS"),
        ("an unknown method with a body", "FOO"),
    ] {
        let request = format!("{method} /case HTTP/1.1\r\nHost: HOST\r\n{length}\r\n{HIDDEN}");
        cases.push((name, request.into_bytes()));
    }
    let old = format!(
        "POST /case HTTP/1.0\r\nHost: HOST\r\nConnection: keep-alive\r\n{length}\r\n{HIDDEN}"
    );
    cases.push(("HTTP/1.0 that keeps the connection", old.into_bytes()));
}

fn codings(cases: &mut Cases) {
    let length = format!("Content-Length: {}\r\n", chunked().len());
    for (name, lines) in [
        ("a coding and a length", format!("Transfer-Encoding: chunked\r\n{length}")),
        ("a length and a coding", format!("{length}Transfer-Encoding: chunked\r\n")),
        (
            "a coding and a short length",
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        ),
        ("a coding in capitals", "Transfer-Encoding: CHUNKED\r\n".to_owned()),
        ("a coding named twice", "Transfer-Encoding: chunked, chunked\r\n".to_owned()),
        (
            "a coding on two lines",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        ),
        ("identity behind chunked", "Transfer-Encoding: chunked, identity\r\n".to_owned()),
        ("identity before chunked", "Transfer-Encoding: identity, chunked\r\n".to_owned()),
        ("identity alone, with a length", format!("Transfer-Encoding: identity\r\n{length}")),
        ("gzip before chunked", "Transfer-Encoding: gzip, chunked\r\n".to_owned()),
        (
            "a coding that nobody knows, with a length",
            format!("Transfer-Encoding: xchunked\r\n{length}"),
        ),
        ("a coding with a parameter", format!("Transfer-Encoding: chunked;a=b\r\n{length}")),
        ("a coding in quotes", format!("Transfer-Encoding: \"chunked\"\r\n{length}")),
        ("a coding with a vertical tab", format!("Transfer-Encoding: \x0bchunked\r\n{length}")),
        ("a coding with a tab", format!("Transfer-Encoding:\tchunked\r\n{length}")),
        ("a coding behind a comma", format!("Transfer-Encoding: ,chunked\r\n{length}")),
        (
            "a coding with a space before the colon",
            format!("Transfer-Encoding : chunked\r\n{length}"),
        ),
        ("a coding behind a fold", format!("Transfer-Encoding:\r\n chunked\r\n{length}")),
        (
            "a coding with an underscore in its name",
            format!("Transfer_Encoding: chunked\r\n{length}"),
        ),
        (
            "a coding with a character before its name",
            format!("\u{00a0}Transfer-Encoding: chunked\r\n{length}"),
        ),
        (
            "a coding behind a bare carriage return",
            format!("X-A: b\rTransfer-Encoding: chunked\r\n{length}"),
        ),
        (
            "a coding behind a bare line feed",
            format!("X-A: b\nTransfer-Encoding: chunked\r\n{length}"),
        ),
        (
            "a coding that the connection is said to end",
            format!("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n{length}"),
        ),
        ("a coding with a zero byte", format!("Transfer-Encoding: chunked\0\r\n{length}")),
        ("an empty coding", format!("Transfer-Encoding:\r\n{length}")),
    ] {
        cases.push((name, post(&lines, &chunked())));
    }
    let old = format!(
        "POST /case HTTP/1.0\r\nHost: HOST\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        chunked()
    );
    cases.push(("a coding in HTTP/1.0", old.into_bytes()));
}

fn chunks(cases: &mut Cases) {
    let hidden = HIDDEN.len();
    let coding = "Transfer-Encoding: chunked\r\n";
    for (name, body) in [
        ("a chunk size with a sign", format!("+{hidden:x}\r\n{HIDDEN}\r\n0\r\n\r\n")),
        ("a chunk size with 0x", format!("{hidden:#x}\r\n{HIDDEN}\r\n0\r\n\r\n")),
        ("a chunk size with zeros in front", format!("0000{hidden:x}\r\n{HIDDEN}\r\n0\r\n\r\n")),
        ("a chunk size with a space behind it", format!("{hidden:x} \r\n{HIDDEN}\r\n0\r\n\r\n")),
        ("a chunk size with a space before it", format!(" {hidden:x}\r\n{HIDDEN}\r\n0\r\n\r\n")),
        ("a chunk size beyond 64 bits", format!("1{:016x}\r\n{HIDDEN}\r\n0\r\n\r\n", hidden)),
        ("a chunk size that is not a number", format!("zz\r\n{HIDDEN}\r\n0\r\n\r\n")),
        ("a chunk with an extension", format!("{hidden:x};a=b\r\n{HIDDEN}\r\n0\r\n\r\n")),
        ("an extension with a bare line feed", format!("{hidden:x};a\nb\r\n{HIDDEN}\r\n0\r\n\r\n")),
        (
            "an extension with a line in quotes",
            format!("{hidden:x};a=\"\r\n{HIDDEN}\"\r\n0\r\n\r\n"),
        ),
        ("a chunk line that ends with a line feed", format!("{hidden:x}\n{HIDDEN}\r\n0\r\n\r\n")),
        ("a chunk that ends with a line feed", format!("{hidden:x}\r\n{HIDDEN}\n0\r\n\r\n")),
        ("a chunk that is longer than its size", format!("2\r\n{HIDDEN}\r\n0\r\n\r\n")),
        ("a last chunk of several zeros", format!("{hidden:x}\r\n{HIDDEN}\r\n000\r\n\r\n")),
        (
            "trailers that frame",
            format!("0\r\nContent-Length: {hidden}\r\nHost: other\r\n\r\n{HIDDEN}"),
        ),
        ("a trailer that is no field", "0\r\nno field\r\n\r\n".to_owned()),
        ("trailers that end with a line feed", "0\r\nX-A: b\n\n".to_owned()),
    ] {
        cases.push((name, post(coding, &body)));
    }
}

fn lines(cases: &mut Cases) {
    for (name, request) in [
        ("line feeds alone", "GET /case HTTP/1.1\nHost: HOST\n\n"),
        ("an empty line before the request", "\r\nGET /case HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        ("a space before the request", " GET /case HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        ("a fold behind the request line", "GET /case HTTP/1.1\r\n X: y\r\nHost: HOST\r\n\r\n"),
        ("two spaces in the request line", "GET  /case  HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        ("a tab in the request line", "GET\t/case\tHTTP/1.1\r\nHost: HOST\r\n\r\n"),
        ("a request line without a version", "GET /case\r\nHost: HOST\r\n\r\n"),
        ("a version in small letters", "GET /case http/1.1\r\nHost: HOST\r\n\r\n"),
        ("HTTP/1.9", "GET /case HTTP/1.9\r\nHost: HOST\r\n\r\n"),
        ("HTTP/2.0 as text", "GET /case HTTP/2.0\r\nHost: HOST\r\n\r\n"),
        ("HTTP/1.01", "GET /case HTTP/1.01\r\nHost: HOST\r\n\r\n"),
        (
            "a line without a colon",
            "GET /case HTTP/1.1\r\nHost: HOST\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        ),
        ("a field without a name", "GET /case HTTP/1.1\r\nHost: HOST\r\n: x\r\n\r\n"),
        (
            "a bare carriage return in a value",
            "GET /case HTTP/1.1\r\nHost: HOST\r\nX-A: b\r\r\n\r\n",
        ),
        ("a zero byte in a value", "GET /case HTTP/1.1\r\nHost: HOST\r\nX-A: b\0\r\n\r\n"),
        ("a fold in a value", "GET /case HTTP/1.1\r\nHost: HOST\r\nX-A: b\r\n\tc\r\n\r\n"),
        (
            "a head that ends with a line feed and a return",
            "GET /case HTTP/1.1\r\nHost: HOST\n\r\n",
        ),
    ] {
        cases.push((name, request.as_bytes().to_vec()));
    }
}

fn targets(cases: &mut Cases) {
    for (name, request) in [
        ("two hosts", "GET /case HTTP/1.1\r\nHost: HOST\r\nHost: other\r\n\r\n"),
        ("the same host twice", "GET /case HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n"),
        ("two hosts on one line", "GET /case HTTP/1.1\r\nHost: HOST, other\r\n\r\n"),
        ("no host", "GET /case HTTP/1.1\r\n\r\n"),
        ("an empty host", "GET /case HTTP/1.1\r\nHost:\r\n\r\n"),
        ("a host with a space before the colon", "GET /case HTTP/1.1\r\nHost : HOST\r\n\r\n"),
        ("a host behind a fold", "GET /case HTTP/1.1\r\nHost:\r\n HOST\r\n\r\n"),
        ("a host with a path", "GET /case HTTP/1.1\r\nHost: HOST/path\r\n\r\n"),
        ("a host with a user", "GET /case HTTP/1.1\r\nHost: other@HOST\r\n\r\n"),
        (
            "a host that the connection is said to end",
            "GET /case HTTP/1.1\r\nConnection: Host\r\nHost: HOST\r\n\r\n",
        ),
        (
            "an absolute target with another host",
            "GET http://other/case HTTP/1.1\r\nHost: HOST\r\n\r\n",
        ),
        (
            "an absolute target with the host, another in the field",
            "GET http://HOST/case HTTP/1.1\r\nHost: other\r\n\r\n",
        ),
        (
            "an absolute target with a user",
            "GET http://other@HOST/case HTTP/1.1\r\nHost: HOST\r\n\r\n",
        ),
        ("a target that is only a name", "GET case HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        ("a target with a fragment", "GET /case#/smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        ("a target with a backslash", "GET /case\\..\\smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        ("a target with a space", "GET /case /smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        ("a target with a zero byte", "GET /case\0/smuggled HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        ("a target beyond ASCII", "GET /case\u{e4} HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        ("a target with two slashes", "GET //case HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        ("a target with dots", "GET /a/../case HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        ("OPTIONS for the server", "OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        ("GET for the server", "GET * HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        ("CONNECT", "CONNECT HOST:80 HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        ("a method in small letters", "get /case HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ] {
        cases.push((name, request.as_bytes().to_vec()));
    }
}

fn upgrades(cases: &mut Cases) {
    for (name, lines) in [
        (
            "an upgrade to HTTP/2",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
        ),
        (
            "an upgrade to a WebSocket of a wrong version",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        ),
        ("an upgrade that the connection does not name", "Upgrade: websocket\r\n"),
        ("an expectation that nobody knows", "Expect: the-impossible\r\n"),
    ] {
        let request = format!("GET /case HTTP/1.1\r\nHost: HOST\r\n{lines}\r\n");
        cases.push((name, request.into_bytes()));
    }
    let length = format!("Content-Length: {}\r\n", HIDDEN.len());
    for (name, lines) in [
        ("a body that is announced and sent at once", format!("Expect: 100-continue\r\n{length}")),
        (
            "a body behind an upgrade",
            format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{length}"),
        ),
    ] {
        cases.push((name, post(&lines, HIDDEN)));
    }
}
