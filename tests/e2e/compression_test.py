#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compressed answers as their clients take them: curl and the decoders of Python, Node and zstd over HTTP/1.0, 1.1 and 2, nginx as
an origin that is asked again, origins that are slow, that send events, and that break off."""
import http.client
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import threading
import zlib

import harness
import http2_wire

JSON = json.dumps([{"id": i, "name": f"item {i}", "tags": ["a", "b"]} for i in range(4000)]).encode()
BIG = (JSON * 16)[:2 << 20]
CODECS = ("gzip", "br", "zstd")
PARTS = [b"<p>first part</p>" * 20, b"<p>second part</p>" * 20, b"<p>third part</p>" * 20]


class Origin(http.server.BaseHTTPRequestHandler):
    """/json, /big, /chunked, /empty, /image, /parts and /events (each part waits for Origin.go), /short and /reset break off."""
    protocol_version = "HTTP/1.1"
    go = threading.Semaphore(0)

    def head(self, kind, *more):
        self.send_response(200)
        for name, value in (("Content-Type", kind), *more):
            self.send_header(name, value)
        self.end_headers()

    def whole(self, kind, body):
        self.head(kind, ("Content-Length", str(len(body))), ("ETag", '"v1"'), ("Accept-Ranges", "bytes"))
        if self.command != "HEAD":
            self.wfile.write(body)

    def chunks(self, kind, parts, wait=False):
        self.head(kind, ("Transfer-Encoding", "chunked"))
        for part in parts:
            if wait:
                Origin.go.acquire()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")

    def do_GET(self):
        path = self.path.removeprefix("/plain")
        if path == "/big":
            self.whole("application/json", BIG)
        elif path == "/chunked":
            self.chunks("application/json", [JSON[i:i + 777] for i in range(0, len(JSON), 777)])
        elif path == "/empty":
            self.chunks("text/html", [])
        elif path == "/image":
            self.whole("image/png", JSON)
        elif path == "/parts":
            self.chunks("text/html", PARTS, wait=True)
        elif path == "/events":
            self.chunks("text/event-stream", [b"data: %d\n\n" % i for i in range(3)], wait=True)
        elif path in ("/short", "/reset"):
            self.head("application/json", ("Content-Length", str(len(JSON) + 1)))
            self.wfile.write(JSON)
            self.close_connection = True
            if path == "/reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                self.connection.close()
        else:
            self.whole("application/json", JSON)

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


CONFIG = """
journal: @FOLDER@/sluice.db
listen:
  - {{address: "127.0.0.1:{plain}"}}
  - {{address: "127.0.0.1:{secure}", tls: {{certificate: a.pem, key: a.key}}}}
admin: {{address: "@ADMIN@"}}
services:
  shop:
    compression: {words}
    routes: [{{path: /}}, {{path: /plain, compression: off}}]
    versions: {{v1: ["127.0.0.1:{origin}"]}}
"""


class World:
    def __init__(self, args, folder, stack, words="true", origin=None):
        harness.find_program("curl")
        subprocess.run([args.binary, "certificate", "127.0.0.1", "--out", os.path.join(folder, "a")], check=True,
                       stdout=subprocess.DEVNULL)
        self.folder = folder
        self.ports = {name: harness.free_port() for name in ("plain", "secure")}
        self.origin = origin or self.serve(stack)
        self.sluice = harness.Sluice(folder, args.binary, self.config(words))
        stack.callback(self.sluice.stop)

    def config(self, words):
        return CONFIG.format(words=words, origin=self.origin, **self.ports)

    def serve(self, stack):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
        server.daemon_threads, server.handle_error = True, lambda *_: None
        stack.callback(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_address[1]

    def curl(self, how, path, accept=None, *more):
        ways = {"1.0": ("plain", "--http1.0"), "1.1": ("plain", "--http1.1"), "2": ("plain", "--http2-prior-knowledge"),
                "2 tls": ("secure", "--http2")}
        name, option = ways[how]
        accepted = ("-H", f"Accept-Encoding: {accept}") if accept else ()
        url = f"http{'s' if name == 'secure' else ''}://127.0.0.1:{self.ports[name]}{path}"
        return subprocess.run(["curl", "-s", "--max-time", "60", "--cacert", os.path.join(self.folder, "a.pem"), option, *accepted,
                               *more, url], capture_output=True, check=False)

    def head(self, how, path, accept, *more):
        got = self.curl(how, path, accept, "-i", *more).stdout
        lines = got.split(b"\r\n\r\n", 1)[0].decode("latin-1").split("\r\n")
        fields = {}
        for line in lines[1:]:
            name, value = line.split(": ", 1)
            fields.setdefault(name.lower(), []).append(value)
        return int(lines[0].split()[1]), {name: ", ".join(values) for name, values in fields.items()}

    def counts(self, family):
        text = self.sluice.request("GET", "/metrics")[1]
        return {labels: int(value) for labels, value in re.findall(rf"^sluice_{family}{{(.*)}} (\d+)$", text, re.M)}


def decoded(codec, body):
    """by a decoder that is neither ours nor curl's"""
    if codec == "gzip":
        reader = zlib.decompressobj(31)
        got = reader.decompress(body)
        assert reader.eof and reader.unused_data == b""
        return got
    if codec == "zstd":
        return subprocess.run([harness.find_program("zstd"), "-dcq"], input=body, capture_output=True, check=True).stdout
    script = "process.stdout.write(require('zlib').brotliDecompressSync(require('fs').readFileSync(0)))"
    return subprocess.run([harness.find_program("node"), "-e", script], input=body, capture_output=True, check=True).stdout


def decoders(args, folder, stack):
    """each codec over each protocol, of known length, chunked, large and empty"""
    world = World(args, folder, stack)
    features = subprocess.run(["curl", "-V"], capture_output=True, text=True, check=True).stdout
    bodies = {"/json": JSON, "/chunked": JSON, "/big": BIG, "/empty": b""}
    for how in ("1.0", "1.1", "2", "2 tls"):
        for codec in CODECS:
            for path, body in bodies.items():
                raw = world.curl(how, path, codec)
                assert raw.returncode == 0, (how, codec, path, raw)
                assert decoded(codec, raw.stdout) == body, (how, codec, path)
                assert len(raw.stdout) < len(body) / 4 or path == "/empty", (how, codec, path, len(raw.stdout))
                known = {"gzip": "libz", "br": "brotli", "zstd": "zstd"}[codec]
                if known in features:
                    assert world.curl(how, path, codec, "--compressed").stdout == body, (how, codec, path)
    counts = world.counts("compressed_answers_total")
    assert set(counts) == {f'codec="{codec}"' for codec in CODECS} and min(counts.values()) >= 16, counts
    sizes = world.counts("compressed_bytes_total")
    for codec in CODECS:
        assert sizes[f'codec="{codec}",direction="in"'] > 4 * sizes[f'codec="{codec}",direction="out"'] > 0, sizes


def heads(args, folder, stack):
    """what is said of answers that are compressed, and of those that are not"""
    world = World(args, folder, stack)
    for how in ("1.1", "2"):
        for method in ((), ("-I",)):
            status, head = world.head(how, "/json", "gzip, zstd;q=0.5", *method)
            assert status == 200 and head["content-encoding"] == "gzip" and head["etag"] == 'W/"v1"', head
            assert head["vary"] == "Accept-Encoding" and "content-length" not in head and "accept-ranges" not in head, head
        status, head = world.head(how, "/json", "identity")
        assert head["content-length"] == str(len(JSON)) and head["etag"] == '"v1"' and head["vary"] == "Accept-Encoding", head
        for path, more in (("/image", ()), ("/plain/json", ())):
            status, head = world.head(how, path, "gzip", *more)
            assert "content-encoding" not in head and "vary" not in head and head["accept-ranges"] == "bytes", (path, head)
        status, head = world.head(how, "/json", "gzip", "-H", "Cookie: session=1")
        assert "content-encoding" not in head and head["vary"] == "Accept-Encoding", head
    reasons = world.counts("uncompressed_answers_total")
    assert reasons['reason="not_accepted"'] == 2 and reasons['reason="type"'] == 2 and reasons['reason="credentials"'] == 2, reasons


def revalidation(args, folder, stack):
    """nginx takes the weak tag that its answer got on its way, and the client's copy stays"""
    files = os.path.join(folder, "files")
    os.makedirs(files)
    with open(os.path.join(files, "a.json"), "wb") as f:
        f.write(JSON)
    port = harness.free_port()
    types = "types { application/json json; }\n"
    stack.callback(harness.Nginx(folder, "nginx", f"{types}server {{ listen 127.0.0.1:{port}; root {files}; }}", port).stop)
    world = World(args, folder, stack, origin=port)
    _, head = world.head("1.1", "/a.json", "br")
    assert head["content-encoding"] == "br" and head["etag"].startswith('W/"'), head
    for how in ("1.1", "2"):
        status, again = world.head(how, "/a.json", "br", "-H", f"If-None-Match: {head['etag']}")
        assert status == 304 and again["etag"] == head["etag"] and again["vary"] == "Accept-Encoding", (status, again)
        strong = head["etag"].removeprefix("W/")
        status, again = world.head(how, "/a.json", "br", "-H", f"If-None-Match: {strong}")
        assert status == 304 and again["etag"] == strong, (status, again)
    status, part = world.head("1.1", "/a.json", "br", "-H", "Range: bytes=0-99")
    assert status == 206 and "content-encoding" not in part and part["content-length"] == "100", part


def parts_of(world, path, accept):
    """an open answer of HTTP/1.1"""
    connection = http.client.HTTPConnection("127.0.0.1", world.ports["plain"], timeout=20)
    connection.request("GET", path, headers={"Accept-Encoding": accept})
    return connection, connection.getresponse()


def slow(args, folder, stack):
    """each part of a slow origin can be read before the origin sends the next one; events are not touched"""
    world = World(args, folder, stack)
    connection, answer = parts_of(world, "/parts", "gzip")
    assert answer.getheader("Content-Encoding") == "gzip"
    reader, got, wanted = zlib.decompressobj(31), b"", b""
    for part in PARTS:
        Origin.go.release()
        wanted += part
        while len(got) < len(wanted):
            got += reader.decompress(answer.read1(65536))
        assert got == wanted
    reader.decompress(answer.read())
    assert reader.eof
    connection.close()
    connection, answer = parts_of(world, "/events", "gzip")
    assert answer.getheader("Content-Encoding") is None and answer.getheader("Content-Type") == "text/event-stream"
    for i in range(3):
        Origin.go.release()
        assert answer.readline() == b"data: %d\n" % i and answer.readline() == b"\n"
    connection.close()


def broken(args, folder, stack):
    """an origin that breaks off makes no whole answer, whatever carries it"""
    world = World(args, folder, stack)
    for path in ("/short", "/reset"):
        for codec in CODECS:
            for how in ("1.0", "1.1", "2", "2 tls"):
                got = world.curl(how, path, codec, "--compressed")
                assert got.returncode != 0, (path, codec, how, len(got.stdout))
        raw = world.curl("1.1", path, "gzip").stdout
        reader = zlib.decompressobj(31)
        assert JSON.startswith(reader.decompress(raw)) and not reader.eof
    errors = world.counts("upstream_failures_total")
    assert errors['service="shop",version="v1",reason="reset"'] == 26, errors


def resets(args, folder, stack):
    """a client that breaks off amid a compressed answer leaves nothing behind: more often than there is room for, and it goes on"""
    world = World(args, folder, stack)
    big = [(":method", "GET"), (":scheme", "http"), (":authority", "shop"), (":path", "/big"), ("accept-encoding", "br")]
    for _ in range(70):
        wire = http2_wire.Wire(world.ports["plain"])
        wire.head(1, http2_wire.END_STREAM, *big)
        wire.wait(http2_wire.DATA)
        wire.send(http2_wire.frame(http2_wire.RST_STREAM, 0, 1, (8).to_bytes(4, "big")))
        wire.send(http2_wire.frame(http2_wire.PING, 0, 0, b"all read"))
        wire.wait(http2_wire.PING)
        wire.close()
    assert decoded("br", world.curl("2", "/big", "br").stdout) == BIG
    assert 'reason="busy"' not in str({k: v for k, v in world.counts("uncompressed_answers_total").items() if v})


def words(args, folder, stack):
    """the words of the file, and another file while the daemon runs"""
    chosen = '{codecs: [br, gzip], types: [image/*], min_size: 200KiB, level: fast, credentials: "on"}'
    world = World(args, folder, stack, words=chosen)
    accept, cookie = "zstd, gzip, br", ("-H", "Cookie: a=b")
    assert "content-encoding" not in world.head("1.1", "/json", accept)[1]
    assert world.head("1.1", "/image", accept, *cookie)[1]["content-encoding"] == "br"
    more = world.config(chosen.replace("200KiB", "1MiB")).replace("@ADMIN@", f"127.0.0.1:{world.sluice.admin}")
    with open(world.sluice.config_path, "w", encoding="utf-8") as f:
        f.write(more.replace("@FOLDER@", folder))
    world.sluice.signal(signal.SIGHUP)
    harness.wait_for("the other file", lambda: "content-encoding" not in world.head("1.1", "/image", accept, *cookie)[1])
    assert world.counts("uncompressed_answers_total")['reason="small"'] >= 1


def guide(args, folder, stack):
    """the example of the guide is a valid file"""
    with open(os.path.join(harness.ROOT, "docs/guide/compression.md"), encoding="utf-8") as f:
        examples = re.findall(r"^```yaml\n(.*?)^```", f.read(), re.M | re.S)
    for example in examples:
        path = os.path.join(folder, "example.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(example)
        subprocess.run([args.binary, "check", path], check=True, stdout=subprocess.DEVNULL)
    assert examples


if __name__ == "__main__":
    ALL = {f.__name__: f for f in (decoders, heads, revalidation, slow, broken, resets, words, guide)}
    arguments = harness.options(only="")
    harness.run([f for name, f in ALL.items() if arguments.only in ("", name)], arguments, at_once=2)
