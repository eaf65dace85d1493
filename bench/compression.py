#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""CPU time per MiB of compressed answers: each codec and level of Sluice, and nginx's gzip, in alternating rounds of one run. Each
contender has one worker on one processor; origin (nginx, from memory) and load (wrk) are on the other. The body is 256 KiB of this
project's documents and sources. CPU time is the contender's own, user and system, with proxying; beside it stands what is left without that."""
import argparse
import contextlib
import glob
import http.client
import os
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "e2e"))
import harness  # noqa: E402

BODY_BYTES = 262144
CODECS, LEVELS = ("zstd", "br", "gzip"), ("fast", "balanced", "small")
NGINX_LEVELS = (1, 5, 6)
SLUICE = """
workers: 1
journal: {folder}/s.db
listen: [{{address: 127.0.0.1:{port}}}]
admin: {{address: "@ADMIN@"}}
services:
  s:
    routes:
      - {{path: /}}
{routes}
    versions: {{v1: [127.0.0.1:{origin}]}}
"""


def files(folder):
    names = sorted(glob.glob(os.path.join(ROOT, "docs", "**", "*.md"), recursive=True))
    names += sorted(glob.glob(os.path.join(ROOT, "src", "net", "**", "*.[ch]"), recursive=True))
    text = b"".join(open(name, "rb").read() for name in names)
    assert len(text) >= BODY_BYTES
    with open(os.path.join(folder, "a.html"), "wb") as f:
        f.write(text[:BODY_BYTES])


def start_sluice(stack, folder, binary, origin):
    port = harness.free_port()
    routes = "\n".join(f"      - {{path: /{c}-{l}, rewrite: {{path: /}}, compression: {{codecs: [{c}], level: {l}}}}}" for c in CODECS for l in LEVELS)
    config = SLUICE.format(folder=folder, port=port, origin=origin, routes=routes)
    sluice = harness.Sluice(folder, binary, config, prefix=("taskset", "-c", "0"))
    stack.callback(sluice.stop)
    cases = [("Sluice", c, l, f"/{c}-{l}/a.html", c) for c in CODECS for l in LEVELS]
    return sluice, port, [("Sluice", "none", "", "/a.html", "identity"), *cases]


def start_nginx(stack, folder, origin):
    port = harness.free_port()
    places = "".join(f"location /{n}/ {{ gzip {'on' if n else 'off'}; gzip_comp_level {n or 1}; gzip_http_version 1.0; gzip_proxied any; "
                     f"proxy_pass http://o/; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}\n" for n in (0, *NGINX_LEVELS))
    http_block = f"upstream o {{ server 127.0.0.1:{origin}; keepalive 64; }}\nproxy_buffers 64 16k;\nserver {{ listen 127.0.0.1:{port}; {places} }}"
    nginx = harness.Nginx(folder, "nginx-gzip", http_block, port, prefix=("taskset", "-c", "0"))
    stack.callback(nginx.stop)
    cases = [("nginx", "gzip", str(n), f"/{n}/a.html", "gzip") for n in NGINX_LEVELS]
    return nginx, port, [("nginx", "none", "", "/0/a.html", "identity"), *cases]


def measure(process, port, path, accept, seconds):
    """CPU milliseconds per MiB of the origin's body, and its length by that of the answer"""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", path, headers={"Accept-Encoding": accept})
    answer = connection.getresponse()
    assert answer.status == 200 and (answer.getheader("Content-Encoding") or "identity") == accept, (path, answer.headers)
    length = len(answer.read())
    pids = [process.pid, *harness.children(process.pid)]
    before = sum(harness.cpu_seconds(pid) for pid in pids)
    out = subprocess.run(["taskset", "-c", "1", harness.find_program("wrk"), "-t1", "-c4", f"-d{seconds}s", "-H", f"Accept-Encoding: {accept}",
                          f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True).stdout
    spent = sum(harness.cpu_seconds(pid) for pid in pids) - before
    requests = int(re.search(r"(\d+) requests in", out)[1])
    assert "Non-2xx" not in out, out
    return spent * 1000 / (requests * BODY_BYTES / (1 << 20)), BODY_BYTES / length


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=os.path.join(ROOT, "build/release/sluice"))
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder, contextlib.ExitStack() as stack:
        os.chmod(folder, 0o755)
        files(folder)
        origin = harness.free_port()
        block = f"types {{ text/html html; }}\nopen_file_cache max=10;\nserver {{ listen 127.0.0.1:{origin}; root {folder}; }}"
        stack.callback(harness.Nginx(folder, "origin", block, origin, prefix=("taskset", "-c", "1")).stop)
        contenders = [start_sluice(stack, folder, os.path.abspath(args.binary), origin), start_nginx(stack, folder, origin)]
        found = {}
        for _ in range(args.rounds):
            for process, port, cases in contenders:
                for who, codec, level, path, accept in cases:
                    found.setdefault((who, codec, level), []).append(measure(process, port, path, accept, args.seconds))
        print("| | codec, level | CPU ms per MiB, median (least) | of it to compress | shorter by |\n|---|---|---|---|---|")
        for (who, codec, level), rows in found.items():
            spent = [row[0] for row in rows]
            bare = statistics.median(row[0] for row in found[who, "none", ""])
            print(f"| {who} | {codec} {level} | {statistics.median(spent):.2f} ({min(spent):.2f}) | {statistics.median(spent) - bare:.2f} "
                  f"| {rows[0][1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
