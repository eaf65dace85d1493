#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 as its clients speak it: curl, nghttp, h2load and nghttpx, with TLS and without, to a service of HTTP/1.1. Bodies both
ways, many streams, trailers, a rollout that counts each stream, WebSockets, and the switch that turns it off."""
import base64
import hashlib
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import harness
from http2_wire import Wire, frame

BIG = 8 << 20
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Origin(http.server.BaseHTTPRequestHandler):
    """POST answers what came: its digest and the head. GET /big/N answers N bytes, /trailers has some, /ws upgrades."""
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while (size := int(self.rfile.readline(), 16)) > 0:
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def do_POST(self):
        body = self.body()
        self.answer(json.dumps({"sha": hashlib.sha256(body).hexdigest(), "bytes": len(body), "head": str(self.headers)}).encode())

    def do_GET(self):
        if self.path.startswith("/big/"):
            self.answer(bytes(int(self.path[5:])))
        elif self.path == "/trailers":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"4\r\nbody\r\n0\r\nSum: 12\r\n\r\n")
        elif self.path == "/ws":
            self.upgrade()
        elif self.path == "/slow":
            time.sleep(3)
            self.answer(b"slow")
        elif self.path == "/204":
            self.send_response(204)
            self.end_headers()
        else:
            self.answer(str(self.headers).encode())

    do_HEAD = do_GET

    def upgrade(self):
        accept = base64.b64encode(hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + GUID).digest()).decode()
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "websocket")
        self.send_header("Sec-WebSocket-Accept", accept)
        self.end_headers()
        self.close_connection = True
        while data := self.rfile.read1(65536):
            self.wfile.write(data)

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


CONFIG = """
journal: @FOLDER@/sluice.db
io: {io}
listen:
  - {{address: "127.0.0.1:{plain}"}}
  - {{address: "127.0.0.1:{secure}", tls: {{certificate: a.pem, key: a.key}}}}
  - {{address: "127.0.0.1:{old}", http2: off}}
  - {{address: "127.0.0.1:{old_secure}", http2: off, tls: {{certificate: a.pem, key: a.key}}}}
admin: {{address: "@ADMIN@"}}
services: {{shop: {{versions: {{v1: ["127.0.0.1:{origin}"], v2: ["127.0.0.1:{second}"]}}, stable: v1}}}}
rollouts:
  v2: {{service: shop, to: v2, warmup: 0s, stages: [{{weight: 50%, for: 10m}}, {{weight: 100%}}]}}
"""


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024


def origin(stack):
    server = Server(("127.0.0.1", 0), Origin)
    server.daemon_threads = True
    stack.callback(server.shutdown)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


class World:
    def __init__(self, args, folder, stack, io="auto"):
        for name in ("curl", "nghttp", "h2load"):
            harness.find_program(name)
        subprocess.run([args.binary, "certificate", "127.0.0.1", "--out", os.path.join(folder, "a")], check=True,
                       stdout=subprocess.DEVNULL)
        self.folder = folder
        self.ports = {name: harness.free_port() for name in ("plain", "secure", "old", "old_secure")}
        self.sluice = harness.Sluice(folder, args.binary, CONFIG.format(io=io, origin=origin(stack), second=origin(stack), **self.ports))
        stack.callback(self.sluice.stop)

    def url(self, name, path):
        return f"http{'s' if 'secure' in name else ''}://127.0.0.1:{self.ports[name]}{path}"

    def curl(self, name, path, *more):
        how = "--http2" if "secure" in name else "--http2-prior-knowledge"
        return subprocess.run(["curl", "-s", "--max-time", "60", "--cacert", os.path.join(self.folder, "a.pem"), how, *more,
                               self.url(name, path)], capture_output=True, check=False)

    def events(self):
        lines = self.sluice.request("GET", "/metrics")[1].splitlines()
        found = {}
        for line in lines:
            match = re.match(r'sluice_worker_events_total\{worker="\d+",event="(\w+)"\} (\d+)', line)
            if match:
                found[match[1]] = found.get(match[1], 0) + int(match[2])
        return found

    def file(self):
        path = os.path.join(self.folder, "upload")
        with open(path, "wb") as f:
            f.write(os.urandom(BIG))
        return path


def basics(args, folder, stack):
    """requests with and without TLS: heads, bodies, no bodies, trailers; and the origin knows how they came"""
    world = World(args, folder, stack)
    for name, scheme in (("plain", b"http"), ("secure", b"https")):
        got = world.curl(name, "/x?y=z", "-i", "-H", "Cookie: a=1; b=2").stdout
        head, body = got.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/2 200"), got
        assert b"via: 1.1 sluice" in head and b"transfer-encoding" not in head and b"connection" not in head, head
        assert b"Via: 2 sluice" in body and b"X-Forwarded-Proto: " + scheme + b"\n" in body and b"cookie: a=1; b=2" in body, body
        assert world.curl(name, "/204", "-i").stdout.startswith(b"HTTP/2 204")
        got = world.curl(name, "/x", "-I").stdout
        assert got.startswith(b"HTTP/2 200") and b"content-length" in got, got
        got = subprocess.run(["nghttp", "-nv", world.url(name, "/trailers")], capture_output=True, check=True, text=True).stdout
        assert re.search(r"recv \(stream_id=\d+\) sum: 12", got), got
    assert world.curl("plain", "/x", "-H", "X-Long: " + "v" * 33000, "-o", "/dev/null", "-w", "%{http_code}").stdout == b"431"
    events = world.events()
    assert events["http2_requests"] >= 8 and events["rejected"] == 1, events
    assert events["http2_streams_opened"] == events["http2_streams_closed"], events


def bodies(args, folder, stack):
    """8 MiB both ways, with and without a length, on both event loops, over TLS and not"""
    for io in ("epoll", "uring"):
        os.mkdir(os.path.join(folder, io))
        world = World(args, os.path.join(folder, io), stack, io)
        path = world.file()
        with open(path, "rb") as f:
            wanted = hashlib.sha256(f.read()).hexdigest()
        for name in ("plain", "secure"):
            got = json.loads(world.curl(name, "/", "--data-binary", f"@{path}").stdout)
            assert got["sha"] == wanted and f"Content-Length: {BIG}" in got["head"], got
            with open(path, "rb") as f:
                got = subprocess.run(["curl", "-sk", "--http2" if name == "secure" else "--http2-prior-knowledge", "-X", "POST", "-T", "-",
                                      world.url(name, "/")], stdin=f, capture_output=True, check=True).stdout
            got = json.loads(got)
            assert got["sha"] == wanted and "Transfer-Encoding: chunked" in got["head"], got
            assert len(world.curl(name, f"/big/{BIG}").stdout) == BIG
            slow = world.curl(name, f"/big/{BIG}", "--limit-rate", "4M")
            assert len(slow.stdout) == BIG


def many(args, folder, stack):
    """many streams at once, and large ones beside each other: each is answered whole"""
    world = World(args, folder, stack)
    for name in ("plain", "secure"):
        for path, count, streams in (("/x", 2000, 100), (f"/big/{BIG // 8}", 60, 20)):
            got = subprocess.run(["h2load", "-n", str(count), "-c", "4", "-m", str(streams), world.url(name, path)], capture_output=True,
                                 check=True, text=True).stdout
            assert f"{count} succeeded, 0 failed, 0 errored" in got, got


def rollout(args, folder, stack):
    """each stream is drawn and counted for itself"""
    world = World(args, folder, stack)
    world.sluice.command("v2", "start")

    def load(count):
        got = subprocess.run(["h2load", "-n", str(count), "-c", "1", "-m", "50", world.url("plain", "/x")], capture_output=True, check=True, text=True)
        assert f"{count} succeeded" in got.stdout, got.stdout

    def counted():
        lines = world.sluice.request("GET", "/metrics")[1].splitlines()
        found = {}
        for line in lines:
            match = re.match(r'sluice_requests_total\{service="shop",version="(\w+)",class="2xx",by="origin"\} (\d+)', line)
            if match:
                found[match[1]] = int(match[2])
        return found

    def shifting():
        load(200)  # the baseline needs some
        return world.sluice.rollout("v2")["state"] == "Shifting"
    harness.wait_for("the split", shifting, 60)
    before = counted()
    load(2000)
    got = {name: count - before[name] for name, count in counted().items()}
    assert got["v1"] + got["v2"] == 2000, got
    assert 850 < got["v2"] < 1150, got


def behind(args, folder, stack):
    """another proxy before us keeps few connections, and many streams on them"""
    world = World(args, folder, stack)
    nghttpx = harness.find_program("nghttpx")
    front = harness.free_port()
    peer = harness.Process(folder, "nghttpx", [nghttpx, f"-f127.0.0.1,{front};no-tls", f"-b127.0.0.1,{world.ports['plain']};;proto=h2", "--workers=1",
                                               "--single-process", "--no-ocsp", "-LERROR", "--errorlog-file=/dev/null"])
    stack.callback(peer.stop)
    harness.wait_for("nghttpx", lambda: harness.connects(front))
    for path, count in (("/x", 2000), (f"/big/{BIG // 8}", 40)):
        got = subprocess.run(["h2load", "-n", str(count), "-c", "4", "-m", "25", f"http://127.0.0.1:{front}{path}"], capture_output=True, check=True,
                             text=True).stdout
        assert f"{count} succeeded, 0 failed" in got, got
    assert world.events()["http2_requests"] == 2040, world.events()


FLAGS = """
journal: @FOLDER@/sluice.db
admin: {{address: "@ADMIN@"}}
flags:
  listen: 127.0.0.1:{port}
  define: {{a: {{state: ENABLED, variants: {{on: true, off: false}}, defaultVariant: on}}}}
"""


def flags(args, folder, stack):
    """SDKs are answered over HTTP/2, and told of changes on a stream beside; the admin address keeps to HTTP/1.1"""
    port = harness.free_port()
    sluice = harness.Sluice(folder, args.binary, FLAGS.format(port=port))
    stack.callback(sluice.stop)
    wire = Wire(port)
    wire.get(1, "/ofrep/v1/stream")
    assert wire.wait(1)[1][0] == 0x88
    for _ in range(3):
        got = subprocess.run(["curl", "-s", "--http2-prior-knowledge", "-d", '{"context": {"targetingKey": "u"}}',
                              f"http://127.0.0.1:{port}/ofrep/v1/evaluate/flags/a"], capture_output=True, check=True).stdout
        assert json.loads(got)["value"] is True, got
    assert sluice.request("POST", "/v1/flags/a/off", {})[0] == 200
    while b"refetchEvaluation" not in wire.wait(0)[1]:
        pass
    with socket.create_connection(("127.0.0.1", sluice.admin), timeout=10) as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 505")


def off(args, folder, stack):
    """`http2: off`: ALPN does not offer it, its preface is refused, HTTP/1.1 is served; a reload switches it on"""
    world = World(args, folder, stack)
    got = world.curl("old_secure", "/x", "-o", "/dev/null", "-w", "%{http_version} %{http_code}").stdout
    assert got == b"1.1 200", got
    with socket.create_connection(("127.0.0.1", world.ports["old"]), timeout=10) as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 505"), "the preface"
    got = world.curl("secure", "/x", "--http1.1", "-o", "/dev/null", "-w", "%{http_version} %{http_code}").stdout
    assert got == b"1.1 200", got
    with open(world.sluice.config_path, encoding="utf-8") as f:
        text = f.read()
    with open(world.sluice.config_path, "w", encoding="utf-8") as f:
        f.write(text.replace("http2: off", "http2: on"))
    status, answer = world.sluice.request("POST", "/v1/reload")
    assert status == 200, answer
    for name in ("old", "old_secure"):
        harness.wait_for("HTTP/2 after the reload", lambda name=name: world.curl(
            name, "/x", "-o", "/dev/null", "-w", "%{http_version} %{http_code}").stdout == b"2 200")


def websocket(args, folder, stack):
    """an extended CONNECT (RFC 8441) is a WebSocket of HTTP/1.1 at the origin, and bytes pass both ways"""
    world = World(args, folder, stack)
    wire = Wire(world.ports["plain"])
    wire.head(1, 0, (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":authority", "shop"), (":path", "/ws"),
              ("sec-websocket-version", "13"))
    assert b"\0\x08\0\0\0\x01" in wire.wait(4)[1], "SETTINGS_ENABLE_CONNECT_PROTOCOL"
    flags, answer = wire.wait(1)
    assert flags == 4 and answer[0] == 0x88, answer  # :status 200 of the static table
    for size in (1, 5000, 16384):
        sent, got = os.urandom(size), b""
        wire.send(frame(0, 0, 1, sent))
        while len(got) < size:
            got += wire.wait(0)[1]
        assert got == sent
    wire.send(frame(0, 1, 1))
    assert wire.wait(0) == (1, b"")
    harness.wait_for("the tunnel's end", lambda: world.events()["tunnels_closed"] == 1)


def leaves(args, folder, stack):
    """a stream that is reset is a client that left; a daemon that leaves says so twice and answers what it has"""
    world = World(args, folder, stack)
    wire = Wire(world.ports["plain"])
    wire.get(1, "/slow")
    harness.wait_for("the request at its origin", lambda: world.events()["upstream_opened"] == 1)
    wire.send(frame(3, 0, 1, b"\0\0\0\x08"))
    harness.wait_for("the count", lambda: world.events()["http2_resets_by_clients"] == 1)
    metrics = world.sluice.request("GET", "/metrics")[1]
    assert 'sluice_aborted_total{service="shop",version="v1"} 1' in metrics, metrics
    wire.get(3, "/slow")
    harness.wait_for("the second request", lambda: world.events()["http2_requests"] == 2)
    world.sluice.signal(signal.SIGTERM)
    assert wire.wait(7)[1] == b"\x7f\xff\xff\xff\0\0\0\0"
    wire.send(frame(6, 1, 0, wire.wait(6)[1]))
    assert wire.wait(7)[1] == b"\0\0\0\x03\0\0\0\0"
    assert wire.wait(1)[1][0] == 0x88
    assert wire.wait(0)[1] == b"slow"
    assert wire.came.read() == b""
    harness.wait_for("its end", lambda: not world.sluice.running())


if __name__ == "__main__":
    ALL = {f.__name__: f for f in (basics, bodies, many, rollout, websocket, leaves, behind, flags, off)}
    arguments = harness.options(only="")
    harness.run([f for name, f in ALL.items() if arguments.only in ("", name)], arguments, at_once=2)
