#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Instructions that a worker runs per proxied request, of one or more builds, counted by valgrind: what a change costs, on any machine,
however busy. Each build answers two runs of different length; what the longer one adds is the requests' alone. The first build is
what the others are compared to. Connections are kept alive, and the file asks for nothing more than a route."""
import argparse
import contextlib
import glob
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import harness  # noqa: E402

FEW, MANY = 4000, 24000
CONFIG = """
workers: 1
io: epoll
journal: '@FOLDER@/sluice.db'
listen: ['127.0.0.1:{port}']
admin: {{address: '@ADMIN@'}}
services:
  shop: {{versions: {{v1: ['127.0.0.1:{origin}']}}, stable: v1}}
"""
ORIGIN = "server {{ listen 127.0.0.1:{port}; keepalive_requests 100000000; location / {{ return 200 'hello world\\n'; }} }}"


def count(binary, origin, requests, http2):
    """Instructions of each thread, in the order in which they began."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        port, out = harness.free_port(), os.path.join(folder, "counted")
        prefix = ("valgrind", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={out}")
        sluice = harness.Sluice(folder, binary, CONFIG.format(port=port, origin=origin), prefix=prefix)
        load = ["h2load", "-n", str(requests), "-c", "8", "-t", "1", f"http://127.0.0.1:{port}/hello"]
        done = subprocess.run(load if http2 else [load[0], "--h1", *load[1:]], capture_output=True, text=True, check=True)
        assert f"{requests} succeeded" in done.stdout, done.stdout
        sluice.stop()
        totals = {}
        for path in glob.glob(out + "-*"):
            with open(path, encoding="utf-8") as counted:
                totals[path.rsplit("-", 1)[1]] = int(re.search(r"^(?:totals|summary): (\d+)", counted.read(), re.M).group(1))
        return totals


def per_request(binary, origin, http2):
    few, many = (count(binary, origin, n, http2) for n in (FEW, MANY))
    return max(many[thread] - few[thread] for thread in many) / (MANY - FEW)  # the worker's: the others wait


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binaries", nargs="+", help="builds to count, the one to compare with first")
    parser.add_argument("--http2", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder, contextlib.ExitStack() as stack:
        origin, first = harness.free_port(), None
        stack.callback(harness.Nginx(folder, "origin", ORIGIN.format(port=origin), origin).stop)
        print("| build | instructions per request | ratio |\n|---|---|---|")
        for binary in args.binaries:
            found = per_request(os.path.abspath(binary), origin, args.http2)
            first = first or found
            print(f"| {binary} | {found:.1f} | {found / first:.4f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
