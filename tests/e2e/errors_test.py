#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an error is, said by the file: the real daemon before origins that fail in ways no status tells.

  body          answers 200 with an error inside in 20 %: taken back by the text in the body
  unsaid        the same version is promoted where the file does not say so
  kinds         each way of failing is counted once, by its reason; what is encoded is counted as not searched
  long_body     a body of 1 GiB costs no more and holds no memory when its beginning is searched
  stream        a stream is judged while it runs, and what it says later still counts"""
import os
import re
import signal
import socket
import subprocess
import threading
import time

import harness

HEAD = b"HTTP/1.1 200 OK\r\n"
FAILED = b'{"ok":false}'
ORIGIN = """
split_clients "$request_id$msec$connection" $answer {{ {share} '{{"ok":false}}'; * '{{"ok":true}}'; }}
server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 $answer; }} }}
"""
FILE = """
journal: @FOLDER@/sluice.db
listen: [{{address: 127.0.0.1:{port}}}]
admin: {{address: "@ADMIN@"}}
"""
ROLLOUT = FILE + """
services:
  shop:
    versions: {{v1: [127.0.0.1:{v1}], v2: [127.0.0.1:{v2}]}}
    stable: v1
    {errors}
rollouts:
  shop-v2:
    service: shop
    to: v2
    warmup: 1s
    stages: [{{weight: 50%, for: {least}, horizon: 120s}}, {{weight: 100%, for: 1s, soak: 3s}}]
    checks: {{errors: {{negligible: 5%, budget: 20%}}, latency: off, statuses: off, throughput: off}}
"""


class RawOrigin:
    """Says serve(path, send) to every request; closes after it, unless it wants the connection kept."""

    def __init__(self, serve):
        self.serve, self.port = serve, harness.free_port()
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        data = b""
        with connection:
            try:
                while b"\r\n\r\n" not in data:
                    more = connection.recv(65536)
                    if not more:
                        return
                    data += more
                self.serve(data.split(b" ", 2)[1].decode(), connection.sendall)
            except OSError:
                pass

    def stop(self):
        self.listener.close()


def ask(port, path):
    """Sends a request for the path and returns the connection, to be read."""
    client = socket.create_connection(("127.0.0.1", port), 30)
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n".encode())
    return client


def read_all(client):
    """The bytes of all that comes, and the first 64 KiB of it."""
    total, first = 0, b""
    with client:
        while True:
            data = client.recv(1 << 20)
            if not data:
                return total, first
            total += len(data)
            first = (first + data)[:65536]


def metric(sluice, name, **labels):
    """The sum of the samples of that name with these labels."""
    _, text = sluice.request("GET", "/metrics")
    wanted = [f'{k}="{v}"' for k, v in labels.items()]
    return sum(float(value) for line, value in re.findall(r"^(sluice_[^ ]+) (\S+)$", text, re.M)
               if line.split("{")[0] == name and all(w in line for w in wanted))


def explain(args, sluice):
    return subprocess.run([args.binary, "rollout", "explain", "shop-v2", "--admin", f"127.0.0.1:{sluice.admin}"],
                          capture_output=True, text=True, timeout=20).stdout


# ---- a version that fails within its answers ----

def ship(args, folder, stack, errors, least, final):
    ports = {}
    for version, share in (("v1", "0.01%"), ("v2", "20%")):
        ports[version] = harness.free_port()
        origin = harness.Nginx(folder, version, ORIGIN.format(port=ports[version], share=share), ports[version])
        stack.callback(origin.stop)
    port = harness.free_port()
    sluice = harness.Sluice(folder, args.binary, ROLLOUT.format(port=port, errors=errors, least=least, **ports))
    stack.callback(sluice.stop)
    load = subprocess.Popen([args.binary, "load", f"http://127.0.0.1:{port}/", "--rate", "200", "--duration", "300s"],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(load.wait)
    stack.callback(load.kill)
    sluice.command("shop-v2", "start")
    body = sluice.wait_state("shop-v2", ("Completed", "RolledBack"), 120)
    assert body["state"] == final, body["verdict"]
    replay = sluice.replay()
    assert replay.returncode == 0, f"replay differs: {replay.stdout}{replay.stderr}"
    return sluice, body


def body(args, folder, stack):
    """a v2 that answers 200 with an error inside is taken back"""
    sluice, rollout = ship(args, folder, stack, """errors: {body: '"ok":false'}""", "60s", "RolledBack")
    assert rollout["verdict"]["check"] == "errors", rollout["verdict"]
    assert metric(sluice, "sluice_upstream_failures_total", version="v2", reason="body") > 0
    said = explain(args, sluice)
    assert 'An error is: status 5xx; or "ok":false in the first 65536 bytes' in said, said


def unsaid(args, folder, stack):
    """the same v2 is promoted where nobody says what an error is"""
    sluice, _ = ship(args, folder, stack, "", "5s", "Completed")
    assert metric(sluice, "sluice_upstream_failures_total") == 0


# ---- each kind ----

def chunked(fields, body, trailers=b""):
    return HEAD + fields + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n%s\r\n" % (len(body), body, trailers)


def whole(status, fields, body=b""):
    return b"HTTP/1.1 " + status + b"\r\n" + fields + b"Content-Length: %d\r\n\r\n" % len(body) + body


REASONS = ("5xx", "status", "header", "grpc", "body", "connect", "timeout", "reset", "broken", "unavailable")
GRPC = b"Content-Type: application/grpc\r\n"
# The path of a service's request, the answer, and the reason that is counted (None: no error).
KINDS = [
    ("/status/gone", whole(b"404 Not Found", b""), "status"),
    ("/status/busy", whole(b"503 x", b""), None),
    ("/header/a", whole(b"200 OK", b"X-Result: failed\r\n"), "header"),
    ("/header/b", whole(b"200 OK", b"x-result: fine\r\nX-RESULT: failed\r\n"), "header"),
    ("/header/c", whole(b"200 OK", b"x-result: fine\r\n"), None),
    ("/body/a", whole(b"200 OK", b"", FAILED), "body"),
    ("/body/b", chunked(b"", FAILED), "body"),
    ("/body/c", whole(b"200 OK", b"Content-Encoding: gzip\r\n", FAILED), None),
    ("/plain/ok", chunked(GRPC, b"message", b"grpc-status: 0\r\n"), None),
    ("/plain/fault", chunked(GRPC, b"message", b"grpc-status: 13\r\n"), "grpc"),
    ("/plain/missing", chunked(GRPC, b"message"), "grpc"),
    ("/plain/not_found", chunked(GRPC, b"message", b"grpc-status: 5\r\n"), None),
    ("/plain/head", whole(b"200 OK", GRPC + b"grpc-status: 14\r\n"), "grpc"),
    ("/plain/busy", whole(b"503 x", b""), "5xx"),
]
SERVICES = """
services:
  status: {{routes: [{{path: /status}}], versions: {{v1: [127.0.0.1:{v1}]}}, errors: {{statuses: [404, 429]}}}}
  header: {{routes: [{{path: /header}}], versions: {{v1: [127.0.0.1:{v1}]}}, errors: {{headers: {{x-result: failed}}}}}}
  body: {{routes: [{{path: /body}}], versions: {{v1: [127.0.0.1:{v1}]}}, errors: {{body: '"ok":false'}}}}
  plain: {{versions: {{v1: [127.0.0.1:{v1}]}}}}
"""


def serve_kinds(args, folder, stack, serve):
    origin = RawOrigin(serve)
    stack.callback(origin.stop)
    port = harness.free_port()
    sluice = harness.Sluice(folder, args.binary, (FILE + SERVICES).format(port=port, v1=origin.port))
    stack.callback(sluice.stop)
    return sluice, port


def kinds(args, folder, stack):
    """each way of failing is counted once, by its reason"""
    answers = {path: answer for path, answer, _ in KINDS}
    sluice, port = serve_kinds(args, folder, stack, lambda path, send: send(answers[path]))
    for path, answer, reason in KINDS:
        before = {r: metric(sluice, "sluice_upstream_failures_total", reason=r) for r in REASONS}
        _, got = read_all(ask(port, path))
        assert got.startswith(answer[:12]), f"{path}: {got[:200]}"
        for r, count in before.items():
            now = metric(sluice, "sluice_upstream_failures_total", reason=r)
            assert now == count + (r == reason), f"{path}: {r} went from {count} to {now}, wanted {reason}"
    assert metric(sluice, "sluice_attempts_total") == len(KINDS), "an answer was asked for again"
    assert metric(sluice, "sluice_unsearched_bodies_total", service="body") == 1
    assert metric(sluice, "sluice_unsearched_bodies_total") == 1


# ---- long answers ----

def long_body(args, folder, stack):
    """1 GiB passes as fast and in as little memory with its beginning searched as without"""
    size, block = 1 << 30, b"x" * (1 << 20)

    def size_of(path):
        return size if path.endswith("x") else size >> 4

    def serve(path, send):
        send(HEAD + b"Content-Length: %d\r\n\r\n" % size_of(path))
        for _ in range(size_of(path) // len(block)):
            send(block)

    sluice, port = serve_kinds(args, folder, stack, serve)
    spent = {}
    for path in ("/plain/warm", "/plain/x", "/body/x"):
        rss, cpu = harness.rss_bytes(sluice.pid), harness.cpu_seconds(sluice.pid)
        total, _ = read_all(ask(port, path))
        assert total > size_of(path), f"{path}: {total} bytes"
        spent[path] = harness.cpu_seconds(sluice.pid) - cpu
        grown = harness.rss_bytes(sluice.pid) - rss
        harness.log(f"   {path}: {spent[path]:.2f} s of CPU, memory grew by {grown >> 10} KiB")
        assert path == "/plain/warm" or grown < 16 << 20, f"{path}: memory grew by {grown >> 20} MiB"
    assert spent["/body/x"] < 1.5 * spent["/plain/x"] + 0.5, spent


def stream(args, folder, stack):
    """a stream is judged while it runs, and what it says later still counts"""
    speak = threading.Event()

    def serve(_, send):
        send(HEAD + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ndata:1\r\n")
        speak.wait(60)
        send(b"c\r\n" + FAILED + b"\r\n")
        time.sleep(5)

    origin = RawOrigin(serve)
    stack.callback(origin.stop)
    stack.callback(speak.set)
    port = harness.free_port()
    sluice = harness.Sluice(folder, args.binary, ROLLOUT.format(
        port=port, v1=origin.port, v2=origin.port, least="60s", errors="""errors: {body: '"ok":false'}"""))
    stack.callback(sluice.stop)
    sluice.command("shop-v2", "start")

    def counted(what):
        arms = sluice.rollout("shop-v2")["arms"]
        return arms["stable"][what] + arms["canary"][what]

    with ask(port, "/events") as client:
        got = client.recv(65536)
        harness.wait_for("the first event, which nothing holds back", lambda: b"data:1" in got or client.recv(65536))
        harness.wait_for("its outcome", lambda: counted("completed") == 1, 5)
        assert counted("errors") == 0
        speak.set()
        harness.wait_for("the error that it told later", lambda: counted("errors") == 1, 5)
    assert "changed while it ran" not in explain(args, sluice)
    with open(sluice.config_path, encoding="utf-8") as f:
        text = f.read()
    with open(sluice.config_path, "w", encoding="utf-8") as f:
        f.write(text.replace('"ok":false', '"ok":0'))
    sluice.signal(signal.SIGHUP)
    harness.wait_for("the change to be told", lambda: "changed while it ran" in explain(args, sluice))
    assert "what counts as an error of a service has changed" in sluice.output()
    assert metric(sluice, "sluice_upstream_failures_total", reason="body") == 1


if __name__ == "__main__":
    harness.run([body, unsaid, kinds, long_body, stream], harness.options())
