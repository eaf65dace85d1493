#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Flag evaluation over HTTP against nginx: OFREP's single and bulk evaluation, beside nginx answering the same
requests with the same number of bytes from a file, in alternating rounds of one run. Each has one thread on one
processor, the load the other. CPU time is the server's own user + system time from the kernel's accounting, divided by
the requests that were answered. Prints a Markdown table; --out writes it to a file as well."""
import argparse
import contextlib
import http.client
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import harness  # noqa: E402

SLUICE = """
journal: @FOLDER@/sluice.db
admin: {{address: "@ADMIN@"}}
flags:
  listen: 127.0.0.1:{port}
  sources: [{{file: {flags}}}]
"""
# nginx answers POST from files only by way of its error page.
NGINX = """
server {{ listen 127.0.0.1:{port} backlog=4096; root {root}; default_type application/json;
  error_page 405 =200 $uri; location / {{ }} }}
"""
CONTEXT = {"targetingKey": "user-4711", "email": "ann@example.com", "country": "DE", "plan": "premium", "version": "2.3.1"}
SINGLE = "/ofrep/v1/evaluate/flags/banner"
BULK = "/ofrep/v1/evaluate/flags"


def flags():
    """Twenty flags: plain, fractional and with ten rules, as a service's page may want at once."""
    rules = ["off"]
    for i in range(10):
        rules = [{"==": [{"var": "country"}, f"C{i}"]}, "on", {"if": rules} if len(rules) > 1 else rules[0]]
    out = {}
    for i in range(20):
        flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
        if i % 3 == 1:
            flag["targeting"] = {"fractional": [["on", 50], ["off", 50]]}
        if i % 3 == 2:
            flag["targeting"] = {"if": rules}
        out["banner" if i == 1 else f"flag-{i}"] = flag
    return {"flags": out}


def post(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("POST", path, json.dumps({"context": CONTEXT}), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def run_wrk(folder, port, path, seconds, connections, cpu):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "wrk_count.lua"), encoding="utf-8") as f:
        counting = f.read()
    script = os.path.join(folder, "post.lua")
    with open(script, "w", encoding="utf-8") as f:
        body = json.dumps({"context": CONTEXT}).replace("\\", "\\\\").replace("'", "\\'")
        f.write(f"wrk.method = 'POST'\nwrk.body = '{body}'\nwrk.headers['Content-Type'] = 'application/json'\n{counting}\n")
    out = subprocess.run(["taskset", "-c", cpu, harness.find_program("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script,
                          f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, timeout=seconds + 30).stdout
    match = re.search(r"count requests=(\d+) failures=(\d+) p99_us=(\d+)", out)
    if not match:
        raise SystemExit(f"wrk said something unexpected:\n{out}")
    requests, failures, p99 = (int(x) for x in match.groups())
    if failures:
        raise SystemExit(f"{failures} failed requests at port {port}{path}: the figure would not be honest")
    return requests, p99 / 1000


class Case:
    def __init__(self, name, process, port, path, size):
        self.name, self.process, self.port, self.path, self.size = name, process, port, path, size
        self.cpu_us, self.rate, self.p99_ms = [], [], []

    def cpu(self):
        return sum(harness.cpu_seconds(pid) for pid in [self.process.pid, *harness.children(self.process.pid)])


def start_all(stack, folder, build, server_cpu):
    pin = ("taskset", "-c", server_cpu)
    source = os.path.join(folder, "flags.json")
    with open(source, "w", encoding="utf-8") as f:
        json.dump(flags(), f)
    port = harness.free_port()
    sluice = harness.Sluice(folder, f"{build}/sluice", SLUICE.format(port=port, flags=source), prefix=pin)
    stack.callback(sluice.stop)
    harness.wait_for("evaluation", lambda: harness.connects(port) and post(port, SINGLE)[0] == 200)
    cases, root = [], os.path.join(folder, "root")
    bodies = {}
    for name, path in (("single", SINGLE), ("bulk of 20", BULK)):
        status, body = post(port, path)
        if status != 200:
            raise SystemExit(f"{path} answers {status}: {body!r}")
        bodies[name] = (path, body)
        cases.append(Case(f"sluice, {name}", sluice, port, path, len(body)))
    port = harness.free_port()
    for name, (path, body) in bodies.items():
        # A path cannot be a file and a folder at once: nginx's files have names of the same length.
        file_path = path[:-1] + "_" if name == "single" else "/" + "b" * (len(path) - 1)
        os.makedirs(os.path.dirname(root + file_path), exist_ok=True)
        with open(root + file_path, "wb") as f:
            f.write(body)
        bodies[name] = (file_path, body)
    for folder_name, _, _ in os.walk(root):
        os.chmod(folder_name, 0o755)
    nginx = harness.Nginx(folder, "nginx-files", NGINX.format(port=port, root=root), port, prefix=pin)
    stack.callback(nginx.stop)
    for name, (path, body) in bodies.items():
        status, got = post(port, path)
        if (status, got) != (200, body):
            raise SystemExit(f"nginx answers {status} at {path}, not the file")
        cases.append(Case(f"nginx, {name}", nginx, port, path, len(body)))
    return cases


def render(cases, args):
    lines = [f"Machine: {os.cpu_count()} processors, Linux {platform.release()}, {time.strftime('%Y-%m-%d')}. "
             f"{args.rounds} alternating rounds of {args.seconds} s, wrk -t1 -c{args.connections}, keep-alive POST with a context of "
             f"{len(json.dumps({'context': CONTEXT}))} bytes; nginx answers the same bytes from a file.", "",
             "| server | bytes of the body | CPU µs per request: median (min – max) | requests/s, median | p99 ms, median |", "|---|---|---|---|---|"]
    for c in cases:
        lines.append(f"| {c.name} | {c.size} | {statistics.median(c.cpu_us):.2f} ({min(c.cpu_us):.2f} – {max(c.cpu_us):.2f}) | "
                     f"{statistics.median(c.rate):.0f} | {statistics.median(c.p99_ms):.2f} |")
    lines += ["", "Ratios of CPU per request, median over the rounds:", ""]
    for name in ("single", "bulk of 20"):
        mine, theirs = (next(c for c in cases if c.name == f"{who}, {name}") for who in ("sluice", "nginx"))
        lines.append(f"- {name}: sluice / nginx {statistics.median(x / y for x, y in zip(mine.cpu_us, theirs.cpu_us)):.3f}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--out", default="")
    args = parser.parse_args()
    server_cpu, load_cpu = ("0", "1") if os.cpu_count() > 1 else ("0", "0")
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder, contextlib.ExitStack() as stack:
        os.chmod(folder, 0o755)
        cases = start_all(stack, folder, os.path.abspath(args.build), server_cpu)
        for c in cases:
            run_wrk(folder, c.port, c.path, 1, args.connections, load_cpu)
        for number in range(args.rounds):
            print(f"round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
            turn = number % len(cases)
            for c in cases[turn:] + cases[:turn]:
                before = c.cpu()
                requests, p99 = run_wrk(folder, c.port, c.path, args.seconds, args.connections, load_cpu)
                time.sleep(0.05)
                c.cpu_us.append((c.cpu() - before) * 1e6 / requests)
                c.rate.append(requests / args.seconds)
                c.p99_ms.append(p99)
        report = render(cases, args)
    print(report)
    if args.out:
        with open(args.out, "w", encoding="utf-8") as f:
            f.write(report + "\n")


if __name__ == "__main__":
    main()
