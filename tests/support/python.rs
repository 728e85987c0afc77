//! A real application: a small HTTP server in Python that agimo starts as a process. Environment variables control its
//! delays and failures.

/// The configuration of a service with this application.
pub(crate) struct PythonApplication {
    host: String,
    keys: String,
    env: Vec<(String, String)>,
}

/// Each answer follows the whole request. Paths: `/` answers "hi"; `/pid` (after a delay: `/pid/SECONDS`), `/cwd` and
/// `/env/NAME` answer what they name; `/echo` returns the request body; `/slow/SECONDS` answers "hi" after a delay; `/stream` sends a chunk, and its end after a request to `/release`;
/// `/exit/CODE` exits without an answer; `/ready` answers 503 for the first `READY_AFTER` seconds.
///
/// Environment: `STARTS` and `NOTE` name files, one gets a line with the process id at each start, the other a line at
/// SIGTERM; with `WAIT_FOR`, it listens only when this file exists; `SAY` is printed to stderr at the start; `EXIT` makes the process exit at once with this code;
/// `START_DELAY` and `STOP_DELAY` are in seconds; with `IGNORE_TERM` the process ignores SIGTERM.
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
while env("WAIT_FOR") and not os.path.exists(env("WAIT_FOR")):
    time.sleep(0.01)
time.sleep(float(env("START_DELAY", "0")))
begun = time.monotonic()
released = asyncio.Event()
async def answer(target, sent, writer):
    name, _, rest = target[1:].partition("/")
    status, body = "200 OK", b"hi"
    if name == "pid":
        await asyncio.sleep(float(rest or 0))
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
async def read_chunks(reader):
    sent = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        sent += (await reader.readexactly(size + 2))[:-2]
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return sent
async def serve(reader, writer):
    try:
        while True:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            length = [line.split(":")[1] for line in lines if line.lower().startswith("content-length:")]
            chunked = any(line.lower() == "transfer-encoding: chunked" for line in lines)
            sent = await read_chunks(reader) if chunked else await reader.readexactly(int(length[0])) if length else b""
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

// === impl PythonApplication ===

impl PythonApplication {
    pub(crate) fn new(host: &str) -> Self {
        Self { host: host.to_owned(), keys: String::new(), env: Vec::new() }
    }

    /// Adds a line to the service's configuration.
    pub(crate) fn key(mut self, line: &str) -> Self {
        self.keys.push_str(line);
        self.keys.push('\n');
        self
    }

    /// Sets an environment variable of the application.
    pub(crate) fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// The service as a part of a configuration file.
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

/// The configuration of a service with this program; `more` are further keys.
#[allow(dead_code, reason = "the cluster tests start no process")]
pub(crate) fn python_service(host: &str, more: &str, program: &str) -> String {
    format!(
        "[[services]]\nhost = \"{host}\"\ntype = \"process\"\n{more}\n\
         command = [\"python3\", \"-S\", \"-c\", '''{program}''']\n\n"
    )
}
