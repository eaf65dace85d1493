#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""CPU time per request for each way of a request: TLS with a full handshake, resumed and kept alive, HTTP/2 with many streams, and
long answers; Sluice beside nginx, HAProxy and nghttpx in alternating rounds of one run. One thread each on one processor; origin and
load share the other. Prints a Markdown table with the ratio to the best of the others."""
import argparse
import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import harness  # noqa: E402
from proxy import Contender  # noqa: E402

PROXY_CPU, LOAD_CPU = ("0", "1") if os.cpu_count() > 1 else ("0", "0")
PORTS = ("plain", "h2c", "tls")
NGINX = """
ssl_certificate {folder}/a.pem; ssl_certificate_key {folder}/a.key; ssl_session_cache shared:s:4m; ssl_protocols TLSv1.3;
upstream origin {{ server 127.0.0.1:{origin}; keepalive 256; keepalive_requests 100000000; }}
server {{ listen 127.0.0.1:{plain} backlog=4096; listen 127.0.0.1:{h2c} http2 backlog=4096; listen 127.0.0.1:{tls} ssl http2 backlog=4096;
  http2_max_requests 100000000;
  location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_max_temp_file_size 0;
    proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }}
"""
HAPROXY = """
global
  nbthread 1
  maxconn 8192
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  mode http
  option http-keep-alive
  http-reuse always
  timeout connect 2s
  timeout client 300s
  timeout server 15s
frontend f
  bind 127.0.0.1:{plain}
  bind 127.0.0.1:{h2c} proto h2
  bind 127.0.0.1:{tls} ssl crt {folder}/both.pem alpn h2,http/1.1
  option forwardfor
  default_backend b
backend b
  server o 127.0.0.1:{origin} pool-max-conn -1
"""
SLUICE = """
workers: 1
journal: @FOLDER@/sluice.db
listen:
  - {{address: "127.0.0.1:{plain}"}}
  - {{address: "127.0.0.1:{h2c}"}}
  - {{address: "127.0.0.1:{tls}", tls: {{certificate: a.pem, key: a.key}}}}
admin: {{address: "@ADMIN@"}}
services: {{s: {{versions: {{v1: ["127.0.0.1:{origin}"]}}, stable: v1}}}}
"""
ORIGIN = """
server {{ listen 127.0.0.1:{port} backlog=4096; root {folder}/files; sendfile on;
  location /hello {{ return 200 "hello, world\\n"; }} }}
"""


def run(argv, seconds):
    out = subprocess.run(["taskset", "-c", LOAD_CPU, *argv], capture_output=True, text=True, timeout=seconds + 20, check=False)
    return out.stdout + out.stderr


def h2load(port, path, *more, count=0):
    """For the seconds of a round, or so many requests: of long ones none may end in a second."""
    def load(ports, seconds):
        scheme = "https" if port == "tls" else "http"
        out = run(["h2load", "-t1", f"-n{count}" if count else f"-D{seconds}", *more, f"{scheme}://127.0.0.1:{ports[port]}{path}"], seconds)
        match = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", out)
        # What the end of the time cuts off is no failure; without any answer there is no figure.
        if not match or int(match[1]) == 0 or int(match[2]) > int(match[1]) // 20:
            raise SystemExit(f"h2load said something unexpected:\n{out}")
        return int(match[1])
    return load


def handshakes(how):
    """A connection for each request: how is -new or -reuse."""
    def load(ports, seconds):
        out = run(["openssl", "s_time", "-connect", f"127.0.0.1:{ports['tls']}", "-www", "/hello", how, "-time", str(seconds)], seconds)
        marks = re.search(r"[*r]{9,}", out)
        resumed = marks[0].count("r") if marks else 0
        match = re.search(r"(\d+) connections in \d+ real seconds", out)
        if not match or not marks or (resumed > len(marks[0]) // 2) != (how == "-reuse"):
            raise SystemExit(f"openssl s_time said something unexpected:\n{out[-600:]}")
        return int(match[1])
    return load


LOADS = {
    "HTTP/1.1, kept alive": h2load("plain", "/hello", "--h1", "-c32"),
    "TLS, full handshake": handshakes("-new"),
    "TLS, resumed": handshakes("-reuse"),
    "TLS, kept alive": h2load("tls", "/hello", "--h1", "-c32"),
    "HTTP/2, 8 × 32 streams": h2load("h2c", "/hello", "-c8", "-m32"),
    "HTTP/2 over TLS, 8 × 32": h2load("tls", "/hello", "-c8", "-m32"),
    "64 KiB": h2load("plain", "/64k", "--h1", "-c16"),
    "8 MiB": h2load("plain", "/8m", "--h1", "-c4", count=60),
    "64 KiB, TLS": h2load("tls", "/64k", "--h1", "-c16"),
    "64 KiB, HTTP/2": h2load("h2c", "/64k", "-c4", "-m8"),
    "8 MiB, HTTP/2": h2load("h2c", "/8m", "-c4", "-m2", "-w24", "-W26", count=60),
}


def start_nginx(folder, pin, ports):
    return harness.Nginx(folder, "nginx-proxy", NGINX.format(**ports), ports["plain"], prefix=pin)


def start_haproxy(folder, pin, ports):
    with open(os.path.join(folder, "haproxy.cfg"), "w", encoding="utf-8") as f:
        f.write(HAPROXY.format(**ports))
    return harness.Process(folder, "haproxy", [*pin, harness.find_program("haproxy"), "-db", "-f", f.name])


def start_nghttpx(folder, pin, ports):
    fronts = [f"-f127.0.0.1,{ports[name]};no-tls" for name in ("plain", "h2c")] + [f"-f127.0.0.1,{ports['tls']}"]
    return harness.Process(folder, "nghttpx", [*pin, harness.find_program("nghttpx"), *fronts, f"-b127.0.0.1,{ports['origin']}", "--workers=1", "--single-process", "--no-ocsp",
                                               "-LERROR", "--errorlog-file=/dev/null", "--accesslog-file=/dev/null", f"{folder}/a.key", f"{folder}/a.pem"])


def start_sluice(build):
    def begin(folder, pin, ports):
        home = tempfile.mkdtemp(dir=folder)
        for file in ("a.pem", "a.key"):
            os.link(os.path.join(folder, file), os.path.join(home, file))
        return harness.Sluice(home, os.path.abspath(f"{build}/sluice"), SLUICE.format(**ports), prefix=pin)
    return begin


def start(stack, folder, origin, starters):
    """The contenders, each with its ports by name."""
    out = []
    for name, begin in starters.items():
        ports = {"origin": origin, "folder": folder, **{name: harness.free_port() for name in PORTS}}
        process = begin(folder, ("taskset", "-c", PROXY_CPU), ports)
        stack.callback(process.stop)
        harness.wait_for(name, lambda ports=ports: all(harness.connects(ports[p]) for p in PORTS))
        out.append(Contender(name, process, ports))
    return out


def files(folder, binary):
    subprocess.run([binary, "certificate", "127.0.0.1", "--out", os.path.join(folder, "a")], check=True, stdout=subprocess.DEVNULL)
    with open(os.path.join(folder, "both.pem"), "wb") as f:
        for name in ("a.pem", "a.key"):
            with open(os.path.join(folder, name), "rb") as part:
                f.write(part.read())
    os.mkdir(os.path.join(folder, "files"))
    os.chmod(folder, 0o755)
    for name, size in (("64k", 64 << 10), ("8m", 8 << 20)):
        with open(os.path.join(folder, "files", name), "wb") as f:
            f.write(os.urandom(size))


def cost(contender, load, name, seconds, tries=3):
    """Microseconds per request. h2load hangs at the end of its time now and then: then once more."""
    before = contender.cpu()
    try:
        count = load(contender.port, seconds)
    except subprocess.TimeoutExpired as late:
        print(f"{name}: the load did not end with {contender.name}", file=sys.stderr)
        if tries == 1:
            raise SystemExit(1) from late
        return cost(contender, load, name, seconds, tries - 1)
    return (contender.cpu() - before) * 1e6 / count


def row(name, costs, others):
    """The median of each, and of the ratios within each round to the best of the others."""
    best = min(others, key=lambda other: statistics.median(costs[other]))
    mine = [c for c in costs if c not in others]
    ratios = [f"**{statistics.median(a / b for a, b in zip(costs[m], costs[best])):.2f}**" for m in mine]
    return f"| {name} | " + " | ".join(f"{statistics.median(c):.1f}" for c in costs.values()) + f" | {', '.join(ratios)} to {best} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--other", default="", help="one more build of Sluice, in the same run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--only", default="", help="loads whose name contains this")
    args = parser.parse_args()
    for name in ("h2load", "openssl"):
        harness.find_program(name)
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder, contextlib.ExitStack() as stack:
        files(folder, os.path.abspath(f"{args.build}/sluice"))
        port = harness.free_port()
        origin = harness.Nginx(folder, "origin", ORIGIN.format(port=port, folder=folder), port, prefix=("taskset", "-c", LOAD_CPU))
        stack.callback(origin.stop)
        starters = {"nginx": start_nginx, "HAProxy": start_haproxy, "nghttpx": start_nghttpx, "Sluice": start_sluice(args.build)}
        starters.update({"Sluice, other build": start_sluice(args.other)} if args.other else {})
        contenders = start(stack, folder, port, starters)
        names = [c.name for c in contenders]
        print(f"| CPU µs per request | {' | '.join(names)} | ratio |\n|---|{'---|' * len(names)}---|", flush=True)
        for name, load in LOADS.items():
            if args.only not in name:
                continue
            costs = {c.name: [] for c in contenders}
            for number in range(args.rounds):
                turn = number % len(contenders)  # the order turns, so that drift of the machine meets all alike
                for c in contenders[turn:] + contenders[:turn]:
                    costs[c.name].append(cost(c, load, name, args.seconds))
            print(row(name, costs, [n for n in names if not n.startswith("Sluice")]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
