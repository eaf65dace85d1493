#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How late decisions come while the admin address is stormed: a rollout under load, 20 000 flags, and one storm after the other. From
the daemon's own histogram sluice_decision_seconds: from when a tick was due until every worker had taken up what it decided. A quiet stretch
stands beside them. Prints a Markdown table; exits 1 when fewer than 99 % of a storm's decisions came within 20 ms."""
import argparse
import contextlib
import functools
import json
import os
import re
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import harness  # noqa: E402

CONFIG = """
journal: @FOLDER@/sluice.db
listen: [{{address: 127.0.0.1:{port}}}]
admin: {{address: "@ADMIN@"}}
flags: {{sources: [@FOLDER@/flags.json]}}
services:
  shop: {{routes: [{{path: /}}], versions: {{v1: [127.0.0.1:{v1}], v2: [127.0.0.1:{v2}]}}, stable: v1}}
  spare: {{routes: [{{host: spare.test}}], versions: {{v1: [127.0.0.1:{spare}]}}, stable: v1}}
rollouts: {{shop-v2: {{service: shop, to: v2, stages: [{{weight: 50%, for: 1h, horizon: 2h}}, {{weight: 100%}}],
  checks: {{latency: {{baseline: 300}}}}}}}}
"""
ORIGIN = "server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 200 well; }} }}"
FLAGS = 20000
DRIPPING = 400
BOUND_S = 0.02


class Bench:
    """The daemon with its rollout under way, and what is sent to it."""

    def __init__(self, args, folder, stack):
        self.seconds = args.seconds
        self.ports = {name: harness.free_port() for name in ("port", "v1", "v2", "spare")}
        flags = {f"flag-{n:05}": {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"} for n in range(FLAGS)}
        with open(os.path.join(folder, "flags.json"), "w", encoding="utf-8") as f:
            json.dump({"flags": flags}, f)
        for version in ("v1", "v2"):
            stack.callback(harness.Nginx(folder, version, ORIGIN.format(port=self.ports[version]), self.ports[version]).stop)
        self.sluice = harness.Sluice(folder, args.binary, CONFIG.format(**self.ports))
        stack.callback(self.sluice.stop)
        url = f"http://127.0.0.1:{self.ports['port']}/"
        load = harness.Process(folder, "load", [args.binary, "load", url, "--rate", "200", "--duration", f"{args.seconds * 12 + 60}s"])
        stack.callback(load.stop)
        self.sluice.command("shop-v2", "start")
        self.sluice.wait_state("shop-v2", "Shifting", 60, report=False)
        self.over = threading.Event()

    def buckets(self):
        """Upper bounds in seconds, and how many decisions came within each so far; nothing when not answered."""
        found = re.findall(r'^sluice_decision_seconds_bucket\{le="([^"]+)"\} (\d+)$', str(self.sluice.request("GET", "/metrics")[1]), re.M)
        return {float(upper): int(count) for upper, count in found}

    def measure(self, storm, count):
        """What was added to the histogram while `count` threads ran the storm, and how many answers they had a second."""
        self.over.clear()
        answers, before, began = [0] * count, self.buckets(), time.monotonic()
        threads = [threading.Thread(target=storm, args=(self, answers, n)) for n in range(count)]
        for t in threads:
            t.start()
        time.sleep(self.seconds)
        self.over.set()
        for t in threads:
            t.join()
        took = time.monotonic() - began
        after = harness.wait_for("metrics after the storm", self.buckets, 30)
        return {upper: after[upper] - before[upper] for upper in after}, sum(answers) / took


def list_flags(bench, answers, n, at_a_time=100):
    """Long answers, so many asked for at a time on one connection."""
    with socket.create_connection(("127.0.0.1", bench.sluice.admin)) as s:
        s.settimeout(0.5)
        asked, tail = 0, b""
        while not bench.over.is_set():
            if asked == answers[n]:
                s.sendall(b"GET /v1/flags?limit=1000&contains=9 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * at_a_time)
                asked += at_a_time
            with contextlib.suppress(TimeoutError):
                data = tail + s.recv(1 << 20)
                answers[n] += data.count(b"HTTP/1.1 200 OK")
                tail = data[-14:]


def reload(bench, answers, n):
    """The same file with another address for a service that nobody asks, again and again."""
    with open(bench.sluice.config_path, encoding="utf-8") as f:
        text = f.read()
    place = f"127.0.0.1:{bench.ports['spare']}"
    fresh = 0
    while not bench.over.is_set():
        fresh += 1
        with open(bench.sluice.config_path, "w", encoding="utf-8") as f:
            f.write(text.replace(place, f"127.0.{1 + fresh // 250}.{1 + fresh % 250}:{bench.ports['spare']}"))
        answers[n] += bench.sluice.request("POST", "/v1/reload")[0] == 200


def drip(bench, answers, n):
    """Connections that send one byte a second each; those that are closed come back."""
    peers = []
    while not bench.over.is_set():
        while len(peers) < DRIPPING:
            s = socket.socket()
            s.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                s.connect(("127.0.0.1", bench.sluice.admin))
            peers.append(s)
        for s in list(peers):
            try:
                answers[n] += s.send(b"G")
            except BlockingIOError:
                pass
            except OSError:
                peers.remove(s)
                s.close()
        time.sleep(1)
    for s in peers:
        s.close()


STORMS = [("quiet", None, 0), *((f"lists of flags, connections: {n}", list_flags, n) for n in (1, 2, 4, 6)),
          ("lists of flags, connections: 32, one request at a time", functools.partial(list_flags, at_a_time=1), 32),
          ("reloads with fresh endpoints", reload, 1), (f"{DRIPPING} dripping connections", drip, 1)]


def quantile(counts, share):
    """The smallest bound that so large a share came within."""
    total = counts[float("inf")]
    return next(upper for upper, count in counts.items() if count >= share * total)


def shown(seconds):
    return "more than 1 s" if seconds == float("inf") else f"{seconds * 1000:g} ms"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=os.path.join(harness.ROOT, "build", "release", "sluice"))
    parser.add_argument("--only", help="storms whose name has this word")
    parser.add_argument("--seconds", type=int, default=20, help="of each storm")
    args = parser.parse_args()
    args.binary = os.path.abspath(args.binary)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all is ended in order
    late = []
    print("| storm | answers per second | decisions | half within | 99 % within | all within |\n|---|---|---|---|---|---|")
    with harness.folder() as folder, contextlib.ExitStack() as stack:
        bench = Bench(args, folder, stack)
        for name, storm, count in (s for s in STORMS if (args.only or "") in s[0]):
            counts, answers = bench.measure(storm, count)
            print(f"| {name} | {answers:.0f} | {counts[float('inf')]} | " + " | ".join(shown(quantile(counts, q)) for q in (0.5, 0.99, 1)) + " |", flush=True)
            if quantile(counts, 0.99) > BOUND_S:
                late.append(name)
        bench.sluice.wait_state("shop-v2", "Shifting", 1, report=False)
    for name in late:
        print(f"decisions late under: {name}")
    sys.exit(1 if late else 0)


if __name__ == "__main__":
    main()
