// A WebSocket server that returns each message and follows RFC 6455 to the letter, with Node's standard library only.
const http = require("http"), crypto = require("crypto");

const isUtf8 = (bytes) => {
    try {
        new TextDecoder("utf-8", { fatal: true }).decode(bytes);
        return true;
    } catch {
        return false;
    }
};

// Section 7.4: the codes that an endpoint may send.
const isCloseCode = (code) =>
    (code >= 1000 && code <= 1014 && ![1004, 1005, 1006].includes(code)) || (code >= 3000 && code <= 4999);

class Connection {
    constructor(socket, received) {
        Object.assign(this, { socket, received, frame: null, message: null, isClosed: false });
        socket.on("error", () => {});
        socket.on("data", (data) => {
            if (this.isClosed) return;
            this.received = Buffer.concat([this.received, data]);
            this.advance();
        });
        this.advance();
    }

    send(opcode, payload) {
        const length = payload.length;
        const head = Buffer.alloc(length < 126 ? 2 : length < 65536 ? 4 : 10);
        head[0] = 0x80 | opcode;
        head[1] = length < 126 ? length : length < 65536 ? 126 : 127;
        if (head.length == 4) head.writeUInt16BE(length, 2);
        if (head.length == 10) head.writeBigUInt64BE(BigInt(length), 2);
        this.socket.write(Buffer.concat([head, payload]));
    }

    // Ends with this close frame. The socket is read on: to close it with unread data would reset it, and the frame could be lost.
    close(payload) {
        this.isClosed = true;
        this.send(8, payload);
        this.socket.end();
    }

    fail(code) {
        this.close(Buffer.from([code >> 8, code & 255]));
    }

    control(opcode, payload) {
        if (opcode == 9) return this.send(10, payload);
        if (opcode == 10) return;
        if (payload.length == 0) return this.close(payload);
        if (payload.length == 1 || !isCloseCode(payload.readUInt16BE(0))) return this.fail(1002);
        return isUtf8(payload.subarray(2)) ? this.close(payload) : this.fail(1007);
    }

    // The head of the next frame; absent while it is not complete, or when it is not allowed.
    nextFrame() {
        const bytes = this.received;
        if (bytes.length < 2) return null;
        const isFinal = bytes[0] >> 7, opcode = bytes[0] & 15, isControl = opcode > 7;
        let length = bytes[1] & 127, size = 2;
        const isKnown = [0, 1, 2, 8, 9, 10].includes(opcode) && !(bytes[0] & 0x70) && bytes[1] >> 7;
        if (!isKnown || (isControl && (!isFinal || length > 125))) return this.fail(1002);
        if (!isControl && (opcode == 0) != (this.message != null)) return this.fail(1002);
        if (length >= 126) {
            size = length == 126 ? 4 : 10;
            if (bytes.length < size) return null;
            length = size == 4 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
        }
        if (bytes.length < size + 4) return null;
        const mask = bytes.subarray(size, size + 4);
        this.received = bytes.subarray(size + 4);
        if (opcode == 1 || opcode == 2) {
            this.message = { opcode, parts: [], decoder: opcode == 1 && new TextDecoder("utf-8", { fatal: true }) };
        }
        return { isFinal, isControl, opcode, mask, length, offset: 0, parts: [] };
    }

    advance() {
        while (!this.isClosed) {
            this.frame = this.frame || this.nextFrame();
            const frame = this.frame;
            if (!frame) return;
            const part = Buffer.from(this.received.subarray(0, frame.length - frame.offset));
            this.received = this.received.subarray(part.length);
            part.forEach((byte, at) => part[at] = byte ^ frame.mask[(frame.offset + at) & 3]);
            frame.offset += part.length;
            const hasEnded = frame.offset == frame.length, target = frame.isControl ? frame : this.message;
            target.parts.push(part);
            // Text is checked as it arrives, so that an invalid byte is answered before the end of its message.
            if (target.decoder) {
                try {
                    target.decoder.decode(part, { stream: !(hasEnded && frame.isFinal) });
                } catch {
                    return this.fail(1007);
                }
            }
            if (!hasEnded) return;
            if (frame.isControl) {
                this.control(frame.opcode, Buffer.concat(frame.parts));
            } else if (frame.isFinal) {
                this.send(this.message.opcode, Buffer.concat(this.message.parts));
                this.message = null;
            }
            this.frame = null;
        }
    }
}

const server = http.createServer((request, response) => response.end("hi"));
server.on("upgrade", (request, socket, received) => {
    const key = request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    const accept = crypto.createHash("sha1").update(key).digest("base64");
    socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
        "Sec-WebSocket-Accept: " + accept + "\r\n\r\n");
    new Connection(socket, received);
});
server.listen(process.env.PORT, "127.0.0.1");
