#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Protection of endpoints: the real daemon before origins that die, hang, flap and answer 500.

  checks    an endpoint whose checks fail gets no requests, is told and shown, and comes back when they pass
  ejection  an endpoint that answers 500 is ejected after so many in a row, and comes back by itself
  breaker   a version that only fails is answered for at once, with Retry-After, until a probe is answered well
  fallback  requests of a canary that nobody can connect to are served by the stable version, and it is taken back
  canary    a canary whose endpoint is ejected is taken back, though another endpoint serves its requests well"""
import http.client
import socketserver
import threading
import time

import harness

FILE = """
journal: @FOLDER@/sluice.db
workers: 2
listen: [{{address: 127.0.0.1:{port}}}]
admin: {{address: "@ADMIN@"}}
services:
  shop:
    versions: {{{versions}}}
    stable: v1
    {words}
"""
ROLLOUT = """
rollouts:
  shop-v2:
    service: shop
    to: v2
    warmup: 1s
    stages: [{weight: 50%, for: 5s, horizon: 60s}, {weight: 100%, for: 1s, soak: 3s}]
    checks: {errors: {negligible: 5%, budget: 20%}, latency: off, statuses: off, throughput: off}
"""


class Origin:
    """Answers every request with `status`; its checks with `health`. None: it says nothing."""

    def __init__(self):
        origin = self
        self.status, self.health, self.served = 200, 200, 0

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                while True:
                    head = b""
                    while not head.endswith(b"\r\n\r\n"):
                        line = self.rfile.readline()
                        if not line:
                            return
                        head += line
                    check = head.startswith(b"GET /healthz")
                    status = origin.health if check else origin.status
                    origin.served += not check
                    if status is None:
                        time.sleep(3)
                        return
                    self.wfile.write(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n" % status)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, request, client_address):
                pass  # a client that left

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def ask(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers
    finally:
        connection.close()


def start(args, folder, stack, versions, words, rollout=""):
    port = harness.free_port()
    text = ", ".join("%s: [%s]" % (name, ", ".join("127.0.0.1:%d" % p for p in ports)) for name, ports in versions.items())
    config = FILE.format(port=port, versions=text, words="\n    ".join(words)) + rollout
    sluice = harness.Sluice(folder, args.binary, config)
    stack.callback(sluice.stop)
    return sluice, port


def shown(sluice, version, port):
    table = sluice.request("GET", "/v1/table")[1]
    for each in table["services"][0]["versions"]:
        for endpoint in each.get("health", []):
            if each["name"] == version and endpoint["address"] == "127.0.0.1:%d" % port:
                return dict(endpoint, breaker=each["breaker"])
    raise AssertionError("the table does not show it")


def metric(sluice, name, **labels):
    for line in sluice.request("GET", "/metrics")[1].splitlines():
        if line.startswith("sluice_%s{" % name) and all('%s="%s"' % item in line for item in labels.items()):
            return float(line.rsplit(" ", 1)[1])
    raise AssertionError("no metric %s with %s" % (name, labels))


def checks(args, folder, stack):
    good, bad = Origin(), Origin()
    sluice, port = start(args, folder, stack, {"v1": [good.port, bad.port]},
                         ["health: {http: /healthz, every: 100ms, timeout: 200ms}"])
    for broken in (500, None):
        bad.health = broken
        harness.wait_for("it is out of use", lambda: not shown(sluice, "v1", bad.port)["in_use"])
        assert metric(sluice, "endpoint_healthy", endpoint="127.0.0.1:%d" % bad.port) == 0
        assert metric(sluice, "endpoint_healthy", endpoint="127.0.0.1:%d" % good.port) == 1
        before = bad.served
        assert all(ask(port)[0] == 200 for _ in range(50))
        assert bad.served == before
        bad.health = 200
        harness.wait_for("it is back", lambda: shown(sluice, "v1", bad.port)["in_use"])
        assert all(ask(port)[0] == 200 for _ in range(50))
        assert bad.served > before
    said = sluice.output()
    assert said.count("an endpoint is unhealthy") == 2 and said.count("an endpoint is healthy again") == 2, said


def ejection(args, folder, stack):
    good, bad = Origin(), Origin()
    sluice, port = start(args, folder, stack, {"v1": [good.port, bad.port]}, ["outlier: {ejection: 2s}"])
    bad.status = 500
    answers = [ask(port)[0] for _ in range(200)]
    assert answers.count(500) == 5, answers.count(500)
    assert metric(sluice, "ejections_total", reason="answer", version="v1") == 1
    assert metric(sluice, "upstream_failures_total", reason="ejected", version="v1") > 0
    assert shown(sluice, "v1", bad.port)["ejected"]
    harness.wait_for("it is told", lambda: "an endpoint is ejected" in sluice.output())
    bad.status = 200
    harness.wait_for("it is back", lambda: shown(sluice, "v1", bad.port)["in_use"])
    before = bad.served
    assert all(ask(port)[0] == 200 for _ in range(50))
    assert bad.served > before


def breaker(args, folder, stack):
    origin = Origin()
    sluice, port = start(args, folder, stack, {"v1": [origin.port]}, ["breaker: {open: 2s, probes: 1}"])
    origin.status = 500
    assert [ask(port)[0] for _ in range(20)] == [500] * 20
    status, headers = ask(port)
    assert (status, headers["Retry-After"]) == (503, "2"), (status, headers)
    assert origin.served == 20
    assert shown(sluice, "v1", origin.port)["breaker"] == "open"
    assert metric(sluice, "breaker_state", version="v1") == 1
    origin.status = 200
    harness.wait_for("a probe is answered", lambda: ask(port)[0] == 200)
    assert metric(sluice, "breaker_state", version="v1") == 0
    harness.wait_for("it is told", lambda: sluice.output().count("a breaker has changed") >= 2)


class Load:
    """Asks all the time; keeps what was not 200."""

    def __init__(self, port):
        self.port, self.other, self.count, self.over = port, [], 0, False
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(8)]
        for thread in self.threads:
            thread.start()

    def _run(self):
        while not self.over:
            status = ask(self.port)[0]
            self.count += 1
            if status != 200:
                self.other.append(status)
            time.sleep(0.005)

    def stop(self):
        self.over = True
        for thread in self.threads:
            thread.join()


def fallback(args, folder, stack):
    stable, dead = Origin(), harness.free_port()
    sluice, port = start(args, folder, stack, {"v1": [stable.port], "v2": [dead]}, ["fallback: stable"], ROLLOUT)
    load = Load(port)
    stack.callback(load.stop)
    sluice.command("shop-v2", "start")
    sluice.wait_state("shop-v2", ("RolledBack",), 60)
    load.stop()
    assert load.count > 50 and not load.other, (load.count, load.other[:5])
    assert metric(sluice, "fallbacks_total", version="v2") > 0
    assert metric(sluice, "upstream_failures_total", reason="connect", version="v2") > 0


def canary(args, folder, stack):
    stable, good, bad = Origin(), Origin(), Origin()
    sluice, port = start(args, folder, stack, {"v1": [stable.port], "v2": [good.port, bad.port]},
                         ["health: {http: /healthz, every: 100ms, timeout: 200ms}"], ROLLOUT)
    bad.health = 500
    harness.wait_for("it is out of use", lambda: not shown(sluice, "v2", bad.port)["in_use"])
    load = Load(port)
    stack.callback(load.stop)
    sluice.command("shop-v2", "start")
    sluice.wait_state("shop-v2", ("RolledBack",), 60)
    load.stop()
    assert not load.other, load.other[:5]
    assert metric(sluice, "upstream_failures_total", reason="ejected", version="v2") > 0


if __name__ == "__main__":
    harness.run([checks, ejection, breaker, fallback, canary], harness.options(), at_once=2)
