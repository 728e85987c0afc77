//! A real application to order: a small HTTP server in Python that agimo starts as a process. It waits,
//! counts and dies as its environment says, and asserts nothing.

/// A service with such an application.
pub(crate) struct Python {
    host: String,
    keys: String,
    env: Vec<(String, String)>,
}

/// Answers by path:
/// `/` hi, `/pid`, `/cwd`, `/env/NAME`, `/echo` the body, `/slow/SECONDS`,
/// `/stream` begins, and ends after `/release`, `/exit/CODE` dies without an answer,
/// `/ready` 503 for `READY_AFTER` seconds.
///
/// `STARTS` names a file that gets a line a start, `NOTE` one that gets a line at SIGTERM;
/// `START_DELAY` and `STOP_DELAY` are seconds; with `IGNORE_TERM` it stays.
const PROGRAM: &str = r#"
import asyncio, os, signal, sys, time
env = os.environ.get
def note(name, line):
    if env(name):
        with open(env(name), "a") as file:
            file.write(line + "\n")
note("STARTS", str(os.getpid()))
if env("SAY"):
    print(env("SAY"), file=sys.stderr, flush=True)
if env("EXIT"):
    sys.exit(int(env("EXIT")))
time.sleep(float(env("START_DELAY", "0")))
begun = time.monotonic()
released = asyncio.Event()
async def answer(target, sent, writer):
    name, _, rest = target[1:].partition("/")
    status, body = "200 OK", b"hi"
    if name == "pid":
        body = str(os.getpid()).encode()
    elif name == "cwd":
        body = os.getcwd().encode()
    elif name == "env":
        body = env(rest, "-").encode()
    elif name == "echo":
        body = sent
    elif name == "slow":
        await asyncio.sleep(float(rest))
    elif name == "release":
        released.set()
    elif name == "exit":
        os._exit(int(rest))
    elif name == "ready" and time.monotonic() - begun < float(env("READY_AFTER", "0")):
        status = "503 Service Unavailable"
    elif name == "stream":
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nbegin\n\r\n")
        await released.wait()
        writer.write(b"4\r\nend\n\r\n0\r\n\r\n")
        return
    writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body))
async def serve(reader, writer):
    try:
        while True:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            length = [line.split(":")[1] for line in lines if line.lower().startswith("content-length:")]
            sent = await reader.readexactly(int(length[0])) if length else b""
            await answer(lines[0].split(" ")[1], sent, writer)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()
async def stop():
    note("NOTE", "term")
    if not env("IGNORE_TERM"):
        await asyncio.sleep(float(env("STOP_DELAY", "0")))
        os._exit(0)
async def main():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: loop.create_task(stop()))
    server = await asyncio.start_server(serve, "127.0.0.1", int(env("PORT")), backlog=4096)
    await server.serve_forever()
asyncio.run(main())
"#;

// === impl Python ===

impl Python {
    pub(crate) fn at(host: &str) -> Self {
        Self { host: host.to_owned(), keys: String::new(), env: Vec::new() }
    }

    /// A further line of the service's configuration.
    pub(crate) fn key(mut self, line: &str) -> Self {
        self.keys.push_str(line);
        self.keys.push('\n');
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// The service, to stand in a configuration.
    pub(crate) fn service(&self) -> String {
        let Self { host, keys, env } = self;
        let env: Vec<String> =
            env.iter().map(|(name, value)| format!("{name} = '{value}'")).collect();
        let env = env.join(", ");
        format!(
            "[[services]]\nhost = \"{host}\"\ntype = \"process\"\nenv = {{ {env} }}\n{keys}\
             command = [\"python3\", \"-S\", \"-c\", '''{PROGRAM}''']\n\n"
        )
    }
}
