//! Programs that run in Node and share no code with agimo: HTTP/2 clients, and applications that agimo starts.

use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::{Child, Command};

use super::within;

/// What every client has: `session`, a connection to agimo; `call(headers, body)`, a request on it, which resolves to the
/// whole response or to the error of its stream; and `print(value)`, which passes a value to the test.
const CLIENT: &str = r#"
const http2 = require("http2");
const address = process.argv[1];
const session = http2.connect("http://" + address);
session.on("error", (error) => print({ session: error.message }));
const print = (value) => console.log(JSON.stringify(value));
const until = (emitter, event) => new Promise((resolve) => emitter.once(event, resolve));
const open = (headers, options) => session.request({ ":path": "/", ":authority": "a.test", ...headers }, options);
const finish = (stream) => new Promise((resolve) => {
    const response = { informational: [], body: "" };
    stream.setEncoding("utf8");
    stream.on("headers", (head) => response.informational.push(head[":status"]));
    stream.on("response", (head) => { response.status = head[":status"]; response.head = { ...head }; });
    stream.on("trailers", (trailers) => response.trailers = { ...trailers });
    stream.on("data", (part) => response.body += part);
    stream.on("error", (error) => response.error = error.code);
    stream.on("close", () => resolve({ ...response, code: stream.rstCode }));
});
const call = (headers, body) => {
    const length = body ? { "content-length": body.length } : {};
    const stream = open({ ":method": body === undefined ? "GET" : "POST", ...length, ...headers }, { endStream: body === undefined });
    if (body !== undefined) stream.end(body);
    return finish(stream);
};
"#;

/// An application that speaks HTTP/2 only, without TLS.
///
/// `/` answers "hi", `/head` the head of the request as JSON, `/echo` the request body and its length in the trailer
/// `x-length`, `/hints` a 103 before "hi", `/empty` a redirect without a body, `/big` 300,000 bytes, `/messages` 4,000 frames of ten bytes and
/// no end, `/sent` how many of these were sent, `/sessions` the number of connections that have carried a request, `/reset` resets the stream,
/// `/refuse` refuses the first stream, `/goaway` ends the connection after the response, `/whole` answers after the whole request, `/never` does not
/// answer. An
/// extended CONNECT becomes a tunnel that returns what it gets.
const APPLICATION: &str = r#"
const http2 = require("http2");
const options = { settings: { enableConnectProtocol: true, maxConcurrentStreams: Number(process.env.STREAMS || 100) } };
const server = http2.createServer(options);
const sessions = new Set();
let refused = false, sent = 0;
server.on("stream", (stream, head) => {
    stream.on("error", () => {});
    sessions.add(stream.session);
    const answer = (body) => { stream.respond({ ":status": 200, "content-type": "text/plain" }); stream.end(body); };
    if (head[":method"] == "CONNECT") {
        const protocol = head["sec-websocket-protocol"];
        stream.respond({ ":status": 200, ...(protocol && { "sec-websocket-protocol": protocol }) });
        return stream.pipe(stream);
    }
    switch (head[":path"]) {
        case "/head": return answer(JSON.stringify(head));
        case "/echo": {
            let length = 0;
            stream.respond({ ":status": 200 }, { waitForTrailers: true });
            stream.on("wantTrailers", () => stream.sendTrailers({ "x-length": String(length) }));
            stream.on("data", (part) => length += part.length);
            return stream.pipe(stream);
        }
        case "/hints": stream.additionalHeaders({ ":status": 103, link: "</a>; rel=preload" }); return answer("hi");
        case "/empty": return stream.respond({ ":status": 302, location: "/" }, { endStream: true });
        case "/big": return answer("x".repeat(300000));
        case "/messages": {
            stream.respond({ ":status": 200 });
            const send = () => ++sent < 4000 && stream.write("0123456789", () => setImmediate(send));
            return send();
        }
        case "/sent": return answer(String(sent));
        case "/sessions": return answer(String(sessions.size));
        case "/reset": return stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
        case "/refuse":
            if (refused) return answer("hi");
            refused = true;
            return stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
        case "/goaway": answer("bye"); return stream.session.goaway(0);
        case "/whole": stream.resume(); return stream.on("end", () => answer("a whole request"));
        case "/never": return;
        default: return answer("hi");
    }
});
server.listen(process.env.PORT, "127.0.0.1");
"#;

/// A WebSocket server that echoes texts below 126 bytes, with Node's standard library only.
const WEB_SOCKET_SERVER: &str = r#"
const server = require("http").createServer((request, response) => response.end("plain"));
server.on("upgrade", (request, socket) => {
    const key = request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    const accept = require("crypto").createHash("sha1").update(key).digest("base64");
    socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
        "Sec-WebSocket-Protocol: " + request.headers["sec-websocket-protocol"] + "\r\n" +
        "Sec-WebSocket-Accept: " + accept + "\r\n\r\n");
    let received = Buffer.alloc(0);
    socket.on("error", () => {});
    socket.on("data", (data) => {
        received = Buffer.concat([received, data]);
        while (received.length >= 6 && received.length >= 6 + (received[1] & 127)) {
            const length = received[1] & 127, mask = received.subarray(2, 6);
            const text = Buffer.from(received.subarray(6, 6 + length)).map((byte, at) => byte ^ mask[at % 4]);
            socket.write(Buffer.concat([Buffer.from([received[0], length]), text]));
            if ((received[0] & 15) == 8) socket.end();
            received = received.subarray(6 + length);
        }
    });
});
server.listen(process.env.PORT, "127.0.0.1");
"#;

/// The configuration of a service with the WebSocket server; `more` are further keys.
pub(crate) fn web_socket_application(host: &str, more: &str) -> String {
    format!(
        "[[services]]\nhost = \"{host}\"\ntype = \"process\"\n\
         command = [\"node\", \"-e\", '''{WEB_SOCKET_SERVER}''']\n{more}\n"
    )
}

/// The configuration of a service with the HTTP/2 application; `more` are further keys.
pub(crate) fn http2_application(host: &str, more: &str) -> String {
    format!(
        "[[services]]\nhost = \"{host}\"\ntype = \"process\"\nprotocol = \"h2c\"\n\
         command = [\"node\", \"-e\", '''{APPLICATION}''']\n{more}\n"
    )
}

/// Starts a client with this script.
pub(crate) fn spawn_client(address: SocketAddr, script: &str) -> Child {
    let program = format!("{CLIENT}\n(async () => {{\n{script}\nsession.close();\n}})();");
    let mut command = Command::new("node");
    command.args(["-e", &program, "--", &address.to_string()]);
    command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap()
}

/// What the client with this script prints, a value a line.
pub(crate) async fn run_client(address: SocketAddr, script: &str) -> Vec<Value> {
    let client = spawn_client(address, script);
    let output = within("the client to end", client.wait_with_output()).await.unwrap();
    assert!(output.status.success(), "{}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
