#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""CPU time per proxied request: Sluice on epoll and io_uring, a bare relay on each, nginx and HAProxy, in
alternating rounds of one run. Every contender has one thread on one processor; origin and load share the other.
CPU time is the contender's own user + system time from the kernel's accounting, divided by the requests that the
load generator got answered. Prints a Markdown table; --out writes it to a file as well."""
import argparse
import contextlib
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

NGINX_PROXY = """
upstream origin {{ server 127.0.0.1:{origin}; keepalive 256; keepalive_requests 100000000; }}
server {{ listen 127.0.0.1:{port} reuseport backlog=4096;
  location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }}
"""
HAPROXY = """
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  option http-keep-alive
  http-reuse always
  timeout connect 2s
  timeout client 60s
  timeout server 15s
frontend f
  bind 127.0.0.1:{port}
  option forwardfor
  default_backend b
backend b
  server o 127.0.0.1:{origin} pool-max-conn -1
"""
SLUICE = """
workers: 1
io: {io}
journal: {folder}/{name}.db
listen: [{{address: 127.0.0.1:{port}}}]
admin: {{address: "@ADMIN@"}}
services:
  s:
    routes: [{{path: /}}]
    versions:
      v1: {{endpoints: [127.0.0.1:{origin}]}}
      v2: {{endpoints: [127.0.0.1:{origin}]}}
    stable: v1
rollouts:
  s-v2:
    service: s
    to: v2
    stages:
      - {{weight: 50%, for: 10h, horizon: 20h}}
      - {{weight: 100%}}
"""


class Contender:
    def __init__(self, name, process, port):
        self.name, self.process, self.port = name, process, port
        self.cpu_us, self.rate, self.p99_ms = [], [], []

    def pids(self):
        pid = self.process.pid
        return [pid, *harness.children(pid)]

    def cpu(self):
        return sum(harness.cpu_seconds(pid) for pid in self.pids())


def run_wrk(port, seconds, connections, cpu):
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "wrk_count.lua")
    out = subprocess.run(["taskset", "-c", cpu, harness.find_program("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script,
                          f"http://127.0.0.1:{port}/hello"], capture_output=True, text=True, timeout=seconds + 30).stdout
    match = re.search(r"count requests=(\d+) failures=(\d+) p99_us=(\d+)", out)
    if not match:
        raise SystemExit(f"wrk said something unexpected:\n{out}")
    requests, failures, p99 = (int(x) for x in match.groups())
    if failures:
        raise SystemExit(f"{failures} failed requests at port {port}: the figure would not be honest")
    return requests, p99 / 1000


def leaves_out_sluice(only):
    return bool(only) and not any("sluice".startswith(w.split()[0]) for w in only.split(","))


def start_all(stack, folder, build, before, proxy_cpu, load_cpu, origin, only):
    pin = ("taskset", "-c", proxy_cpu)
    out = []

    def add(name, process, port):
        stack.callback(process.stop)
        harness.wait_for(f"{name} on {port}", lambda: harness.connects(port))
        out.append(Contender(name, process, port))

    def add_sluice(name, its_build, io):
        port = harness.free_port()
        config = SLUICE.format(io=io, folder=folder, port=port, origin=origin, name=name.replace(" ", "-"))
        sluice = harness.Sluice(folder, f"{its_build}/sluice", config, name=name.replace(" ", "-"), prefix=pin)
        add(name, sluice, port)
        out[-1].sluice = sluice

    for io in ("epoll", "uring") if before else ():
        add_sluice(f"sluice {io}", build, io)
        add_sluice(f"before {io}", before, io)
    if before:
        return out
    port = harness.free_port()
    add("nginx", harness.Nginx(folder, "nginx-proxy", NGINX_PROXY.format(origin=origin, port=port), port, prefix=pin), port)
    port = harness.free_port()
    conf = os.path.join(folder, "haproxy.cfg")
    with open(conf, "w", encoding="utf-8") as f:
        f.write(HAPROXY.format(origin=origin, port=port))
    add("HAProxy", harness.Process(folder, "haproxy", [*pin, harness.find_program("haproxy"), "-db", "-f", conf]), port)
    for io in ("epoll", "uring"):
        port = harness.free_port()
        relay = harness.Process(folder, f"relay-{io}", [*pin, f"{build}/bench/io_relay_bench", "--io", io, "--listen", f"127.0.0.1:{port}",
                                                        "--to", f"127.0.0.1:{origin}"])
        add(f"relay {io}", relay, port)
        if leaves_out_sluice(only):
            continue
        add_sluice(f"sluice {io}", build, io)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--before", default="", help="compare with the sluice of another build, and with nothing else")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--only", default="", help="contenders whose name contains one of these, comma-separated")
    parser.add_argument("--out", default="")
    args = parser.parse_args()
    build = os.path.abspath(args.build)
    proxy_cpu, load_cpu = ("0", "1") if os.cpu_count() > 1 else ("0", "0")
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder, contextlib.ExitStack() as stack:
        origin_port = harness.free_port()
        origin = harness.Nginx(folder, "origin", f'server {{ listen 127.0.0.1:{origin_port} backlog=4096; location / {{ return 200 "hello, world\\n"; }} }}',
                               origin_port, prefix=("taskset", "-c", load_cpu))
        stack.callback(origin.stop)
        contenders = start_all(stack, folder, build, args.before and os.path.abspath(args.before), proxy_cpu, load_cpu, origin_port, args.only)
        if args.only:
            words = args.only.split(",")
            contenders = [c for c in contenders if any(w in c.name for w in words)]
        for c in contenders:
            run_wrk(c.port, 1, args.connections, load_cpu)
            if hasattr(c, "sluice"):
                # Routing, assignment by weight, edges and histograms on: a rollout at 50 % is in force while we measure.
                while c.sluice.request("GET", "/v1/rollouts/s-v2")[1].get("state") != "Shifting":
                    if c.sluice.request("GET", "/v1/rollouts/s-v2")[1].get("state") == "Pending":
                        c.sluice.command("s-v2", "start")
                    run_wrk(c.port, 1, args.connections, load_cpu)
        for number in range(args.rounds):
            print(f"round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
            # The order turns each round, so that drift of the machine meets all alike.
            turn = number % len(contenders)
            for c in contenders[turn:] + contenders[:turn]:
                before = c.cpu()
                requests, p99 = run_wrk(c.port, args.seconds, args.connections, load_cpu)
                time.sleep(0.05)
                c.cpu_us.append((c.cpu() - before) * 1e6 / requests)
                c.rate.append(requests / args.seconds)
                c.p99_ms.append(p99)
        report = render(contenders, args)
    print(report)
    if args.out:
        with open(args.out, "w", encoding="utf-8") as f:
            f.write(report + "\n")


def ratios(a, b):
    return statistics.median(x / y for x, y in zip(a.cpu_us, b.cpu_us))


def render(contenders, args):
    by_name = {c.name: c for c in contenders}
    lines = [f"Machine: {os.cpu_count()} processors, Linux {platform.release()}, {time.strftime('%Y-%m-%d')}. "
             f"{args.rounds} alternating rounds of {args.seconds} s, wrk -t1 -c{args.connections}, keep-alive GET of 13 bytes.", "",
             "| contender | CPU µs per request: median (min – max) | requests/s, median | p99 ms, median |", "|---|---|---|---|"]
    for c in contenders:
        lines.append(f"| {c.name} | {statistics.median(c.cpu_us):.2f} ({min(c.cpu_us):.2f} – {max(c.cpu_us):.2f}) | "
                     f"{statistics.median(c.rate):.0f} | {statistics.median(c.p99_ms):.2f} |")
    lines += ["", "Ratios of CPU per request, median over the rounds:", ""]
    for io in ("epoll", "uring"):
        mine, relay = by_name.get(f"sluice {io}"), by_name.get(f"relay {io}")
        if mine and relay:
            lines.append(f"- sluice {io} / relay {io}: {ratios(mine, relay):.3f} (bar: 1.08)")
        before = by_name.get(f"before {io}")
        if before:
            lines.append(f"- sluice {io} / before {io}: {ratios(mine, before):.3f}")
        rivals = [by_name[n] for n in ("nginx", "HAProxy") if n in by_name]
        if mine and rivals:
            best = min(rivals, key=lambda c: statistics.median(c.cpu_us))
            lines.append(f"- sluice {io} / {best.name}, the better rival: {ratios(mine, best):.3f} (bar: 0.80)")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
