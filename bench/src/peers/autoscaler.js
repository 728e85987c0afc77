// Stands in for Knative's autoscaler: a WebSocket server that answers pings and prints when each message came, in microseconds
// since the Unix epoch. What the messages say does not matter: the activator sends one at once for the first request.
const http = require("http"), crypto = require("crypto"), { performance } = require("perf_hooks");
const micros = () => Math.round((performance.timeOrigin + performance.now()) * 1000);
const server = http.createServer((request, response) => response.writeHead(404).end());
server.on("upgrade", (request, socket) => {
    const key = request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    const accept = crypto.createHash("sha1").update(key).digest("base64");
    socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
        `Sec-WebSocket-Accept: ${accept}\r\n\r\n`);
    console.log("connected");
    let received = Buffer.alloc(0);
    socket.on("error", () => {});
    socket.on("data", (data) => {
        const time = micros();
        received = Buffer.concat([received, data]);
        for (;;) {
            // Frames of clients are masked (RFC 6455 section 5.2); those of this client are shorter than 64 KiB.
            if (received.length < 6) return;
            let length = received[1] & 127, start = 2;
            if (length == 126) {
                if (received.length < 8) return;
                length = received.readUInt16BE(2);
                start = 4;
            }
            const end = start + 4 + length;
            if (received.length < end) return;
            const kind = received[0] & 15;
            if (kind == 9) socket.write(Buffer.from([0x8a, 0]));
            if (kind == 2) console.log(String(time));
            received = received.subarray(end);
        }
    });
});
server.listen(8080, process.argv[2], () => console.log("listening"));
