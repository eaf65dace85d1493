#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""CPU time per request with every request mirrored and with none, of Sluice and of nginx (`mirror`), in alternating rounds of one run at
one rate, so that nothing is dropped. Each contender has one worker on one processor, where Sluice's thread of the mirror is too; origins
(nginx) and load (h2load) are on the other. CPU time is the contender's own, user and system."""
import argparse
import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import harness  # noqa: E402

SLUICE = """
workers: 1
journal: {folder}/s.db
listen: [{{address: 127.0.0.1:{port}}}]
admin: {{address: "@ADMIN@"}}
services:
  plain: {{routes: [{{path: /plain}}], versions: {{v1: [127.0.0.1:{origin}]}}}}
  mirrored:
    routes: [{{path: /mirrored}}]
    versions: {{v1: [127.0.0.1:{origin}], v2: [127.0.0.1:{candidate}]}}
    stable: v1
    mirror: {{to: v2, secondary: 0%, concurrent: 512}}
"""
NGINX = """
upstream v1 {{ server 127.0.0.1:{origin}; keepalive 64; }}
upstream v2 {{ server 127.0.0.1:{candidate}; keepalive 64; }}
proxy_http_version 1.1;
proxy_set_header Connection "";
server {{
  listen 127.0.0.1:{port};
  location /plain {{ proxy_pass http://v1; }}
  location /mirrored {{ mirror /copy; proxy_pass http://v1; }}
  location = /copy {{ internal; proxy_pass http://v2$request_uri; }}
}}
"""
ORIGIN = "server {{ listen 127.0.0.1:{port}; location / {{ return 200 'hello world\\n'; }} }}"


def start_origin(stack, folder, name):
    port = harness.free_port()
    stack.callback(harness.Nginx(folder, name, ORIGIN.format(port=port), port, prefix=("taskset", "-c", "1")).stop)
    return port


def measure(process, port, path, rate, seconds):
    """CPU microseconds per request"""
    clients = 20
    pids = [process.pid, *harness.children(process.pid)]
    before = sum(harness.cpu_seconds(pid) for pid in pids)
    out = subprocess.run(["taskset", "-c", "1", harness.find_program("h2load"), "--h1", "-t1", f"-c{clients}", f"--rps={rate // clients}",
                          f"-n{rate * seconds}", f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True).stdout
    spent = sum(harness.cpu_seconds(pid) for pid in pids) - before
    good = int(re.search(r"(\d+) succeeded", out)[1])
    assert good == rate * seconds, out
    return spent * 1e6 / good


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=os.path.join(ROOT, "build/release/sluice"))
    parser.add_argument("--rate", type=int, default=3000)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder, contextlib.ExitStack() as stack:
        origin, candidate = start_origin(stack, folder, "v1"), start_origin(stack, folder, "v2")
        ports = {"folder": folder, "origin": origin, "candidate": candidate}
        port = harness.free_port()
        sluice = harness.Sluice(folder, os.path.abspath(args.binary), SLUICE.format(port=port, **ports), prefix=("taskset", "-c", "0"))
        stack.callback(sluice.stop)
        contenders = [("Sluice", sluice, port)]
        port = harness.free_port()
        nginx = harness.Nginx(folder, "nginx", NGINX.format(port=port, **ports), port, prefix=("taskset", "-c", "0"))
        stack.callback(nginx.stop)
        contenders.append(("nginx", nginx, port))
        found = {}
        for _ in range(args.rounds):
            for who, process, port in contenders:
                for path in ("/plain", "/mirrored"):
                    found.setdefault((who, path), []).append(measure(process, port, path, args.rate, args.seconds))
        counted = sluice.request("GET", "/metrics")[1]
        sent = int(re.search(r'sluice_mirror_sent_total\{service="mirrored"\} (\d+)', counted)[1])
        assert sent == args.rate * args.seconds * args.rounds, f"only {sent} were mirrored"
        print("| | not mirrored, µs | mirrored, µs | of it the mirror |\n|---|---|---|---|")
        for who, _, _ in contenders:
            plain, mirrored = (statistics.median(found[who, path]) for path in ("/plain", "/mirrored"))
            print(f"| {who} | {plain:.1f} ({min(found[who, '/plain']):.1f}) | {mirrored:.1f} ({min(found[who, '/mirrored']):.1f}) "
                  f"| {mirrored - plain:.1f} |", flush=True)


if __name__ == "__main__":
    main()
