// SPDX-License-Identifier: Apache-2.0
// The two ends of bench/shift.py.
//   node shift_peer.mjs origin PORT GRPC_PORT NAME
//       answers on PORT over HTTP/1.1 (GET, POST, WebSocket echo), on GRPC_PORT over HTTP/2 (a stream of gRPC messages)
//   node shift_peer.mjs load PLAIN_PORT SECURE_PORT CA_FILE GRPC
//       asks in all ways until a line comes on standard input, then prints what each way saw as one line of JSON
import crypto from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";
import net from "node:net";

const WEBSOCKET = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; // RFC 6455, section 1.3
const LONG_BYTES = 65536;
const SECONDS_MAX = 10; // for one request; a longer one counts as lost
const SESSION_MS = 2000;
const GRPC_MESSAGES = 3;

const sum = (bytes) => crypto.createHash("sha256").update(bytes).digest("hex").slice(0, 16);

// ---- origin ----

function answer(name, request, response) {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const body = Buffer.concat(parts);
    if (request.url === "/long") response.end(Buffer.alloc(LONG_BYTES, "x"));
    else response.end(`${name} ${request.method} ${sum(body)}`);
  });
}

function echo(request, socket, head) {
  const key = crypto.createHash("sha1").update(request.headers["sec-websocket-key"] + WEBSOCKET).digest("base64");
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${key}\r\n\r\n`);
  socket.on("error", () => {});
  socket.on("data", (bytes) => socket.write(bytes)); // frames as they came: the far end knows what it sent
  if (head.length) socket.write(head);
  socket.on("end", () => socket.end());
}

function grpc(stream) {
  stream.on("error", () => {});
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  stream.resume();
  let left = GRPC_MESSAGES;
  const next = () => {
    if (stream.destroyed) return;
    stream.write(Buffer.from([0, 0, 0, 0, 2, 8, left]));
    if (--left > 0) setTimeout(next, 20);
    else stream.end();
  };
  stream.on("end", next);
}

function origin([port, grpcPort, name]) {
  const server = http.createServer({ keepAliveTimeout: 120000 }, (request, response) => answer(name, request, response));
  server.on("upgrade", echo);
  server.listen(+port, "127.0.0.1", 4096);
  const second = http2.createServer();
  second.on("stream", grpc);
  second.listen(+grpcPort, "127.0.0.1", 4096);
}

// ---- load ----

const ways = {};
let over = false;

function way(name) {
  return (ways[name] ??= { asked: 0, good: 0, again: 0, failed: {}, longest_ms: 0 });
}

function failed(of, why) {
  of.failed[why] = (of.failed[why] ?? 0) + 1;
}

// Asks `once` every `every` ms, whatever became of those before; `once` gives "" or what went wrong.
function steadily(name, every, once) {
  const of = way(name);
  let open = 0;
  const timer = setInterval(async () => {
    if (over) return clearInterval(timer);
    const began = performance.now();
    of.asked++;
    open++;
    let late;
    const limit = new Promise((resolve) => (late = setTimeout(resolve, SECONDS_MAX * 1000, `no answer in ${SECONDS_MAX} s`)));
    const why = await Promise.race([once(of, began).catch((error) => error.code ?? error.message), limit]);
    clearTimeout(late);
    open--;
    if (why) failed(of, why);
    else of.good++;
    of.longest_ms = Math.max(of.longest_ms, performance.now() - began);
  }, every);
  return () => open;
}

function body(stream) {
  return new Promise((resolve, reject) => {
    const parts = [];
    stream.on("data", (part) => parts.push(part));
    stream.on("end", () => resolve(Buffer.concat(parts)));
    stream.on("error", reject);
    stream.on("aborted", () => reject(new Error("the answer broke off")));
  });
}

function head(stream) {
  return new Promise((resolve, reject) => {
    stream.on("response", (fields) => resolve(fields[":status"]));
    stream.on("error", () => reject(new Error(`reset with code ${stream.rstCode}`)));
    stream.on("close", () => reject(new Error(`closed without an answer, code ${stream.rstCode}`)));
  });
}

// RFC 9113, section 8.7: a request that was refused was not looked at. A client's own library says so of what it was about to send
// when the connection's goodbye came.
async function again(of, once) {
  try {
    return await once();
  } catch (error) {
    if (!error.message.endsWith(`code ${http2.constants.NGHTTP2_REFUSED_STREAM}`)) throw error;
    of.again++;
    return once();
  }
}

const CASES = [
  { method: "GET", path: "/" },
  { method: "GET", path: "/long" },
  { method: "POST", path: "/", sent: Buffer.alloc(20000, "p") },
];
let turn = 0;

function right(is, status, bytes) {
  if (status !== 200) return `status ${status}: ${bytes.toString().slice(0, 60)}`;
  if (is.path === "/long") return bytes.length === LONG_BYTES ? "" : `${bytes.length} bytes instead of ${LONG_BYTES}`;
  const [, method, digest] = bytes.toString().split(" ");
  return method === is.method && digest === sum(is.sent ?? "") ? "" : `another answer: ${bytes.toString().slice(0, 60)}`;
}

function first(module, options) {
  const ask = (of, retried) =>
    new Promise((resolve) => {
      const is = CASES[turn++ % CASES.length];
      const request = module.request({ host: "127.0.0.1", method: is.method, path: is.path, ...options() });
      request.on("response", (response) => body(response).then((bytes) => resolve(right(is, response.statusCode, bytes)), (e) => resolve(e.code ?? e.message)));
      request.on("error", (error) => {
        // RFC 9112, section 9.3.1: an idle connection may close as the next request leaves; then it is sent again.
        if (error.code === "ECONNRESET" && request.reusedSocket && !retried && is.method === "GET") {
          of.again++;
          resolve(ask(of, true));
        } else resolve(`${error.code ?? error.message}${request.reusedSocket ? " on a kept connection" : ""}`);
      });
      request.end(is.sent);
    });
  return (of) => ask(of, false);
}

// One connection of HTTP/2, and another one as soon as the first says goodbye.
function second(open) {
  let session = null;
  const live = () => {
    if (session === null || session.closed || session.destroyed) {
      const mine = open();
      session = mine;
      mine.on("goaway", () => session === mine && (session = null));
      mine.on("error", () => session === mine && (session = null));
      mine.on("close", () => session === mine && (session = null));
    }
    return session;
  };
  return live;
}

function multiplexed(open) {
  const live = second(open);
  const ask = async (is) => {
    const stream = live().request({ ":method": is.method, ":path": is.path }, { endStream: is.sent === undefined });
    stream.end(is.sent);
    const [status, bytes] = await Promise.all([head(stream), body(stream)]);
    return right(is, status, bytes);
  };
  return (of) => {
    const is = CASES[turn++ % CASES.length];
    return again(of, () => ask(is));
  };
}

function called(open) {
  const live = second(open);
  const call = async () => {
    const stream = live().request({ ":method": "POST", ":path": "/shift.Test/Stream", "content-type": "application/grpc", te: "trailers" });
    let status = "none";
    stream.on("response", (head) => (status = head["grpc-status"] ?? status));
    stream.on("trailers", (head) => (status = head["grpc-status"] ?? status));
    stream.end(Buffer.from([0, 0, 0, 0, 0]));
    const [, bytes] = await Promise.all([head(stream), body(stream)]);
    return status === "0" && bytes.length === 7 * GRPC_MESSAGES ? "" : `grpc-status ${status}, ${bytes.length} bytes`;
  };
  return (of) => again(of, call);
}

// A session of some seconds; every frame must come back.
function talked(port) {
  return () =>
    new Promise((resolve) => {
      const socket = net.connect(port, "127.0.0.1");
      const frame = Buffer.concat([Buffer.from([0x82, 0x85, 0, 0, 0, 0]), Buffer.from("hello")]);
      let got = Buffer.alloc(0);
      let frames = -1; // sent; -1: the upgrade is awaited
      const began = performance.now();
      const done = (why) => {
        socket.destroy();
        resolve(why);
      };
      socket.on("error", (error) => done(`${error.code} after ${frames} frames`));
      socket.on("end", () => done(`closed after ${frames} frames`));
      socket.on("connect", () =>
        socket.write(`GET /talk HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${crypto.randomBytes(16).toString("base64")}\r\n\r\n`));
      socket.on("data", (bytes) => {
        got = Buffer.concat([got, bytes]);
        if (frames < 0) {
          const end = got.indexOf("\r\n\r\n");
          if (end < 0) return;
          if (!got.toString("latin1").startsWith("HTTP/1.1 101 ")) return done(got.toString("latin1").slice(0, 40));
          got = got.subarray(end + 4);
          frames = 0;
        } else if (got.length < frame.length) return;
        else if (!got.subarray(0, frame.length).equals(frame)) return done("another frame came back");
        else got = got.subarray(frame.length);
        if (performance.now() - began > SESSION_MS) return done("");
        setTimeout(() => socket.write(frame), 50);
        frames++;
      });
    });
}

function load([plain, secure, caFile, withGrpc]) {
  const ca = () => fs.readFileSync(caFile);
  const kept = new http.Agent({ keepAlive: true, maxSockets: 16 });
  const peer = { servername: "shop.example", checkServerIdentity: () => undefined };
  const open = [
    steadily("HTTP/1.1, kept connections", 5, first(http, () => ({ port: plain, agent: kept }))),
    steadily("HTTP/1.1, new connections", 20, first(http, () => ({ port: plain, agent: false }))),
    steadily("HTTPS, new connections", 50, first(https, () => ({ port: secure, agent: false, ca: ca(), ...peer }))),
    steadily("HTTP/2 in the clear", 10, multiplexed(() => http2.connect(`http://127.0.0.1:${plain}`))),
    steadily("HTTP/2 over TLS", 10, multiplexed(() => http2.connect(`https://127.0.0.1:${secure}`, { ca: ca(), ...peer }))),
    steadily("WebSocket", 100, talked(+plain)),
  ];
  if (withGrpc === "1") open.push(steadily("gRPC", 50, called(() => http2.connect(`http://127.0.0.1:${plain}`))));
  process.stdin.once("data", async () => {
    over = true;
    for (const end = Date.now() + (SECONDS_MAX + 2) * 1000; open.some((f) => f() > 0) && Date.now() < end; ) await new Promise((r) => setTimeout(r, 50));
    console.log(JSON.stringify(ways));
    process.exit(0);
  });
}

({ origin, load })[process.argv[2]](process.argv.slice(3));
