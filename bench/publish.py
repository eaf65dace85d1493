#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Time from publishing a routing table until every worker has taken it up, under load. A rollout of 30 stages is promoted by hand
again and again; after each promotion the daemon's own measure of the switch is read. Prints a Markdown row; no request may fail."""
import argparse
import contextlib
import os
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import harness  # noqa: E402
from proxy import run_wrk  # noqa: E402

CONFIG = """
workers: {workers}
io: {io}
journal: @FOLDER@/sluice.db
listen: [{{address: 127.0.0.1:{port}}}]
admin: {{address: "@ADMIN@"}}
services:
  s:
    versions: {{v1: [127.0.0.1:{origin}], v2: [127.0.0.1:{origin}]}}
    stable: v1
rollouts:
  s-v2:
    service: s
    to: v2
    stages: [{stages}]
    checks: {{errors: {{}}, latency: off}}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default="build/release/sluice")
    parser.add_argument("--publishes", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--io", default="auto")
    args = parser.parse_args()
    stages = ", ".join(f"{{weight: {w}%, for: 10h, horizon: 20h}}" for w in range(1, 31))
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder, contextlib.ExitStack() as stack:
        port, origin_port = harness.free_port(), harness.free_port()
        origin = harness.Nginx(folder, "origin", f'server {{ listen 127.0.0.1:{origin_port} backlog=4096; location / {{ return 200 "hello\\n"; }} }}', origin_port)
        stack.callback(origin.stop)
        sluice = harness.Sluice(folder, os.path.abspath(args.binary),
                                CONFIG.format(workers=args.workers, io=args.io, port=port, origin=origin_port, stages=stages))
        stack.callback(sluice.stop)
        stopping, counted = threading.Event(), []

        def load():
            while not stopping.is_set():
                counted.append(run_wrk(port, 2, 64, "0,1"))

        thread = threading.Thread(target=load)
        thread.start()
        times = []
        while len(times) < args.publishes:
            if sluice.rollout("s-v2")["state"] in ("Pending", "RolledBack"):
                sluice.command("s-v2", "start")
            for _ in range(29):
                sluice.command("s-v2", "promote")
                time.sleep(0.02)
                table = harness.wait_for("acknowledged", lambda: (lambda t: t if t["acknowledged"] == t["version"] else None)(
                    sluice.request("GET", "/v1/status")[1]["table"]))
                times.append(table["switch_us"])
            sluice.command("s-v2", "abort")
            sluice.wait_state("s-v2", "RolledBack", 30, report=False)
        stopping.set()
        thread.join()
        requests = sum(r for r, _ in counted)
    times.sort()
    print("| publishes | workers | load | switch ms p50 | p99 | max | failed requests |\n|---|---|---|---|---|---|---|")
    print(f"| {len(times)} | {args.workers} | wrk -c64, {requests / (2 * len(counted)):.0f} requests/s | {times[len(times) // 2] / 1e3:.2f} | "
          f"{times[len(times) * 99 // 100] / 1e3:.2f} | {times[-1] / 1e3:.2f} | 0 of {requests} |")


if __name__ == "__main__":
    main()
