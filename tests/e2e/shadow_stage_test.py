#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A rollout that begins in the shadow: the real daemon before two versions that answer JSON with an id and a time of their own each.

  wrong     v2 rounds a price in one answer of a hundred: it is taken back, the verdict quotes the path, and no client had an answer of v2
  equal     v2 answers as v1 does: it goes on to 5 %, and clients get its answers from then on, not before
  dead      v2 does not listen: taken back for its errors

A replay of each journal decides the same."""
import concurrent.futures
import http.client
import http.server
import json
import os
import random
import socketserver
import sys
import time

import harness

FILE = """
journal: @FOLDER@/sluice.db
workers: 1
listen: [{{address: 127.0.0.1:{port}}}]
admin: {{address: "@ADMIN@"}}
services:
  shop:
    versions: {{v1: [127.0.0.1:{v1}], v2: [127.0.0.1:{v2}]}}
    stable: v1
rollouts:
  ship:
    service: shop
    to: v2
    stages:
      - shadow: {{share: 100%, for: 3s, horizon: 10m, compared: {compared}}}
      - {{weight: 5%, for: 10m}}
      - {{weight: 100%}}
    checks: {{latency: off}}
"""


# ---- versions, each a process of its own: `shadow_stage_test.py version NAME WRONG PORT`

class Version(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    name = "v1"
    wrong = 0.0

    def do_GET(self):
        item = int(self.path.rsplit("/", 1)[1])
        price = item + 0.25
        if item % 1000 < self.wrong * 1000:
            price = item
        out = json.dumps({"id": random.getrandbits(63), "at": time.time(), "item": item, "price": price}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)
        os.write(1, b"copy\n" if self.headers.get("X-Sluice-Shadow") else b"live\n")

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512


def version(name, wrong, port):
    Version.name, Version.wrong = name, float(wrong)
    Server(("127.0.0.1", int(port)), Version).serve_forever()


def start_version(folder, stack, name, wrong):
    port = harness.free_port()
    command = [sys.executable, os.path.abspath(__file__), "version", name, str(wrong), str(port)]
    process = harness.Process(folder, name, command)
    stack.callback(process.kill)
    harness.wait_for(f"version {name}", lambda: harness.connects(port))
    process.port = port
    return process


# ---- traffic, until something has happened

class Traffic:
    """Four clients that ask one item after the other; stop() tells how many answers there were."""

    def __init__(self, port):
        self.port, self.going, self.draw = port, True, random.Random(7)
        self.pool = concurrent.futures.ThreadPoolExecutor(4)
        self.parts = [self.pool.submit(self.ask, seed) for seed in range(4)]

    def ask(self, seed):
        draw, count = random.Random(seed), 0
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        while self.going:
            item = draw.randrange(1000)
            connection.request("GET", f"/item/{item}")
            answer = connection.getresponse()
            body = json.loads(answer.read())
            assert answer.status == 200 and body["item"] == item, (answer.status, body)
            count += 1
            time.sleep(0.002)
        connection.close()
        return count

    def stop(self):
        self.going = False
        counts = [part.result(timeout=30) for part in self.parts]
        self.pool.shutdown()
        return sum(counts)


def start(args, folder, stack, wrong, compared):
    v1 = start_version(folder, stack, "v1", 0)
    v2 = start_version(folder, stack, "v2", wrong)
    port = harness.free_port()
    sluice = harness.Sluice(folder, args.binary, FILE.format(port=port, v1=v1.port, v2=v2.port, compared=compared))
    stack.callback(sluice.stop)
    return sluice, v2, port


def live(process):
    return process.output().split().count("live")


def decide(sluice, port, states):
    """Traffic until one of the states; the number of its answers, and the rollout then."""
    traffic = Traffic(port)
    try:
        sluice.command("ship", "start")
        assert sluice.rollout("ship")["state"] == "Shadow"
        seen = sluice.wait_state("ship", states, 120)
    finally:
        answers = traffic.stop()
    return answers, seen


def decided_again(sluice):
    sluice.stop()
    done = sluice.replay()
    assert done.returncode == 0, (done.stdout, done.stderr)


# ---- cases

def wrong(args, folder, stack):
    """A price is rounded in one answer of a hundred: taken back before any client sees it."""
    sluice, v2, port = start(args, folder, stack, 0.01, 4000)
    answers, seen = decide(sluice, port, ["RollingBack", "RolledBack", "Shifting", "Undecided"])
    verdict = seen["verdict"]
    assert seen["state"].startswith("Roll") and verdict["check"] == "difference", seen
    assert "body.price" in verdict["failures"], verdict
    assert live(v2) == 0 and answers > 0, "a client had an answer of v2"
    assert seen["shadow"]["paths_different"] == 1, seen["shadow"]
    status, diff = sluice.request("GET", "/v1/rollouts/ship/diff")
    assert status == 200 and "body.price" in json.dumps(diff), (status, diff)
    decided_again(sluice)


def equal(args, folder, stack):
    """Answers that differ in ids and times alone: it goes on to 5 %."""
    sluice, v2, port = start(args, folder, stack, 0, 600)
    _, seen = decide(sluice, port, ["RollingBack", "RolledBack", "Shifting", "Undecided"])
    verdict = seen["verdict"]
    assert seen["state"] == "Shifting" and seen["weight"]["wanted"] == 0.05, seen
    assert "no difference beyond noise" in verdict["text"], verdict["text"]
    shadow = seen["shadow"]
    assert shadow["compared"] >= 600 and shadow["paths"] >= 1 and shadow["paths_different"] == 0, shadow
    traffic = Traffic(port)
    harness.wait_for("clients get answers of v2", lambda: live(v2) > 0, 30)
    traffic.stop()
    before = v2.output().count("copy")
    traffic = Traffic(port)
    time.sleep(1)
    traffic.stop()
    assert v2.output().count("copy") == before, "requests are still copied"
    decided_again(sluice)


def dead(args, folder, stack):
    """A version that does not listen is taken back for its errors."""
    sluice, v2, port = start(args, folder, stack, 0, 600)
    v2.kill()
    _, seen = decide(sluice, port, ["RollingBack", "RolledBack", "Shifting", "Undecided"])
    assert seen["state"].startswith("Roll") and seen["verdict"]["check"] == "errors", seen
    assert "in the shadow" in seen["verdict"]["text"], seen["verdict"]
    decided_again(sluice)


if __name__ == "__main__":
    if sys.argv[1:2] == ["version"]:
        version(*sys.argv[2:])
    harness.run([wrong, equal, dead], harness.options())
