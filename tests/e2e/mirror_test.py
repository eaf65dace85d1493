#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Mirrored traffic: the real daemon before a candidate that behaves, freezes, dies, is slow, talks nonsense, or answers without end.

  copies    what clients send in both protocols and both framings reaches the candidate, marked, and clients see nothing of it
  bad       whatever the candidate does, live answers are whole and quick, memory stays bounded, and the counts add up
  words     a file whose mirror makes no sense is refused in words; a reload ends a mirror and begins it again"""
import concurrent.futures
import http.client
import http.server
import os
import signal
import socketserver
import subprocess
import sys
import time

import harness

FILE = """
journal: @FOLDER@/sluice.db
workers: 2
listen: [{{address: 127.0.0.1:{port}}}]
admin: {{address: "@ADMIN@"}}
services:
  shop:
    versions: {{v1: [127.0.0.1:{v1}], v2: [127.0.0.1:{v2}]}}
    stable: v1
    {words}
"""
LONG = 8 << 20


# ---- origins, each a process of its own: `mirror_test.py origin MODE PORT`

class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mode = "echo"

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def do_GET(self):
        body = self.body()
        mark = self.headers.get("X-Sluice-Shadow", "none")
        print(f"{self.command} {self.path} mark={mark} body={body.decode()}", flush=True)
        if self.mode == "slow":
            time.sleep(0.3)
        if self.mode == "garbage":
            self.wfile.write(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
            self.close_connection = True
            return
        out = f"{self.path} {body.decode()}\n".encode()
        if self.mode == "long":
            out = b"x" * LONG
        self.send_response(200)
        if self.mode == "endless":
            self.end_headers()
            while True:
                self.wfile.write(b"x" * 65536)
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(out)

    do_POST = do_HEAD = do_GET

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, request, client_address):
        pass  # a peer that left


def origin(mode, port):
    Origin.mode = mode
    Server(("127.0.0.1", int(port)), Origin).serve_forever()


def start_origin(folder, stack, name, mode):
    port = harness.free_port()
    process = harness.Process(folder, name, [sys.executable, os.path.abspath(__file__), "origin", mode, str(port)])
    stack.callback(process.kill)
    harness.wait_for(f"origin {name}", lambda: harness.connects(port))
    process.port = port
    return process


def start(args, folder, stack, mode, words):
    v1, v2 = start_origin(folder, stack, "v1", "echo"), start_origin(folder, stack, "v2-" + mode, mode)
    port = harness.free_port()
    config = FILE.format(port=port, v1=v1.port, v2=v2.port, words=words)
    sluice = harness.Sluice(folder, args.binary, config)
    stack.callback(sluice.stop)
    sluice.port = port
    return sluice, v1, v2


# ---- what is counted

def counts(sluice):
    found = {}
    for line in sluice.request("GET", "/metrics")[1].splitlines():
        if line.startswith("sluice_mirror_"):
            name, value = line[len("sluice_mirror_"):].rsplit(" ", 1)
            family = name.split("_total", 1)[0]
            reason = name.split('reason="', 1)[1].split('"', 1)[0] if 'reason="' in name else None
            found[family, reason] = int(float(value))
    found["dropped"] = sum(v for k, v in found.items() if k[0] == "dropped")
    found["uncompared"] = sum(v for k, v in found.items() if k[0] == "uncompared")
    return found


def settled(sluice, selected, seconds=20):
    """Waits until nothing is under way: only then the identities must hold, and then they do."""
    def look():
        now = counts(sluice)
        return now if now["selected", None] == selected == now["sent", None] + now["dropped"] and \
            now["sent", None] == now["compared", None] + now["uncompared"] else None
    try:
        return harness.wait_for("the counts add up", look, seconds)
    except AssertionError:
        raise AssertionError(f"they never add up to {selected}: {counts(sluice)}") from None


def curl(*words):
    done = subprocess.run(["curl", "-sS", "--max-time", "10", *words], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- cases

def copies(args, folder, stack):
    sluice, v1, v2 = start(args, folder, stack, "echo", "mirror: {to: v2, unsafe: true, secondary: 100%}")
    base = f"http://127.0.0.1:{sluice.port}"
    assert curl(f"{base}/one") == "/one \n"
    assert curl("-d", "with=length", f"{base}/two") == "/two with=length\n"
    assert curl("-H", "Transfer-Encoding: chunked", "-d", "in=chunks", f"{base}/three") == "/three in=chunks\n"
    assert curl("--http2-prior-knowledge", f"{base}/four") == "/four \n"
    assert curl("--http2-prior-knowledge", "-d", "over=http2", f"{base}/five") == "/five over=http2\n"
    assert curl("-I", f"{base}/six").startswith("HTTP/1.1 200")
    assert curl("-H", "X-Sluice-Shadow: 1", f"{base}/seven") == "/seven \n"
    seen = settled(sluice, 7)
    assert seen["dropped", "shadow"] == seen["dropped"] == 1, seen
    assert seen["compared", None] == 6, seen
    asked = ["GET /one mark=1 body=", "POST /two mark=1 body=with=length", "POST /three mark=1 body=in=chunks",
             "GET /four mark=1 body=", "POST /five mark=1 body=over=http2", "HEAD /six mark=1 body="]
    assert sorted(v2.output().splitlines()) == sorted(asked), v2.output()
    live = v1.output().splitlines()
    assert sorted(line for line in live if "mark=1" in line) == sorted(asked), live
    assert len(live) == 13, live


class Client:
    """Asks over one connection; keeps how long the longest answer took."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.longest = 0

    def ask(self, path):
        began = time.monotonic()
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        body = answer.read().decode()
        self.longest = max(self.longest, time.monotonic() - began)
        assert (answer.status, body) == (200, f"{path} \n"), (answer.status, body)


def load(sluice, clients, each):
    """All answers are whole. Returns how long the longest took."""
    def one(number):
        client = Client(sluice.port)
        for i in range(each):
            client.ask(f"/{number}/{i}")
        return client.longest
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        return max(pool.map(one, range(clients)))


def bad(args, folder, stack, mode, before=lambda v2: None):
    # The time of a mirrored request is longer than any live answer may take, even on a machine that is busy.
    sluice, _, v2 = start(args, folder, stack, mode, "mirror: {to: v2, timeout: 3s, concurrent: 8, max_body: 64KiB}")
    before(v2)
    resident = harness.rss_bytes(sluice.pid)
    longest = load(sluice, 8, 100)
    assert longest < 2.5, f"an answer took {longest:.3f} s"
    seen = settled(sluice, 800)
    grown = harness.rss_bytes(sluice.pid) - resident
    assert grown < 150 << 20, f"{grown >> 20} MiB more"
    return seen


def frozen(args, folder, stack):
    """A candidate that takes connections and says nothing."""
    seen = bad(args, folder, stack, "echo", lambda v2: v2.signal(signal.SIGSTOP))
    assert seen["uncompared", "timeout"] >= 8 and seen["dropped", "busy"] > 0, seen


def killed(args, folder, stack):
    """A candidate that is not there."""
    seen = bad(args, folder, stack, "echo", lambda v2: v2.kill())
    assert seen["uncompared", "connect"] == seen["sent", None] > 0, seen


def slow(args, folder, stack):
    """A candidate that takes its time."""
    seen = bad(args, folder, stack, "slow")
    assert seen["compared", None] > 0 and seen["dropped", "busy"] > 0, seen


def garbage(args, folder, stack):
    """A candidate that speaks no HTTP."""
    seen = bad(args, folder, stack, "garbage")
    assert seen["uncompared", "broken"] == seen["sent", None] > 0, seen


def long(args, folder, stack):
    """A candidate whose answers are 8 MiB."""
    seen = bad(args, folder, stack, "long")
    assert seen["compared", None] > 0, seen


def endless(args, folder, stack):
    """A candidate whose answers have no end."""
    seen = bad(args, folder, stack, "endless")
    assert seen["compared", None] == seen["sent", None] > 0, seen


def words(args, folder, stack):
    """A file that makes no sense is refused; a reload ends a mirror, and begins it again."""
    for words_, why in (("mirror: v1", "'v1' is the stable version"), ("mirror: v3", "has no version 'v3'"),
                        ("mirror: {to: v2, path: /a/}", "does not end with '/'"), ("mirror: {share: 5%}", "'to'")):
        path = os.path.join(folder, "bad.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(FILE.format(port=1, v1=2, v2=3, words=words_).replace("@FOLDER@", folder).replace("@ADMIN@", "127.0.0.1:4"))
        done = subprocess.run([args.binary, "check", path], capture_output=True, text=True, timeout=60)
        assert done.returncode != 0 and why in done.stdout + done.stderr, (words_, done.stdout, done.stderr)
    sluice, _, _ = start(args, folder, stack, "echo", "mirror: v2")
    client = Client(sluice.port)
    client.ask("/on")
    settled(sluice, 1)
    with open(sluice.config_path, encoding="utf-8") as f:
        file = f.read()
    for text, selected in ((file.replace("mirror: v2", ""), 1), (file, 2)):
        with open(sluice.config_path, "w", encoding="utf-8") as f:
            f.write(text)
        before = sluice.request("GET", "/v1/table")[1]["version"]
        sluice.signal(signal.SIGHUP)
        harness.wait_for("a new table", lambda: sluice.request("GET", "/v1/table")[1]["version"] > before)
        client.ask("/again")
        settled(sluice, selected)


if __name__ == "__main__":
    if sys.argv[1:2] == ["origin"]:
        origin(*sys.argv[2:])
    harness.run([copies, frozen, killed, slow, garbage, long, endless, words], harness.options())
