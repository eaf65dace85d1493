#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rollouts of real servers on the real machine: Node, Python and nginx behind one daemon, all services at once, under open-loop
load. The new version is identical to the old one (it must reach 100 %) or bad in one way (it must be taken back). Prints a line per
rollout and a table; exits 1 if an identical version was taken back or a bad one completed. With --state a run is continued where it
ended. Every process has a time limit of its own, so nothing outlives a run that was cut."""
import argparse
import collections
import contextlib
import http.client
import json
import os
import random
import signal
import statistics
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import harness  # noqa: E402

SERVERS = ("node", "python", "nginx")
KINDS = {
    "identical": "the same program",
    "errors": "1 % of answers are 500",
    "tail": "a fifth of the answers takes 30 ms, not 20",
    "post": "every POST is answered 500",
    "denied": "everything is answered 401",
    "crash": "killed some seconds after its first request, and stays dead",
    "leak": "keeps 32 KiB per request, and dies of it after 1 600 of them",
}
BODY = "x" * 500
# What all servers do alike: a fifth of the requests waits 20 ms, the rest is answered at once.
NODE = """
const [port, kind] = [Number(process.argv[2]), process.argv[3]], kept = [];
function answer(request, response) {
  request.resume();
  if (kind === 'leak') {
    kept.push(Buffer.alloc(1 << 15, 1));
    if (kept.length > 1600) process.exit(1);
  }
  const status = kind === 'denied' ? 401 : kind === 'post' && request.method === 'POST' || kind === 'errors' && Math.random() < 0.01 ? 500 : 200;
  const body = JSON.stringify({items: Array.from({length: 20}, (_, i) => ({id: i, name: 'x'.repeat(20)}))});
  const send = () => { response.writeHead(status, {'Content-Type': 'application/json'}); response.end(body); };
  if (Math.random() < 0.2) setTimeout(send, kind === 'tail' ? 30 : 20); else send();
}
const server = require('http').createServer(answer);
server.keepAliveTimeout = 60000;
server.listen(port, '127.0.0.1');
"""
PYTHON = """
import http.server, json, os, random, sys, time
port, kind, kept = int(sys.argv[1]), sys.argv[2], []
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize, disable_nagle_algorithm = "HTTP/1.1", 65536, True
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if kind == "leak":
            kept.append(b"x" * (1 << 15))
            if len(kept) > 1600:
                os._exit(1)
        bad = kind == "post" and self.command == "POST" or kind == "errors" and random.random() < 0.01
        body = json.dumps([{"id": i, "name": "x" * 20} for i in range(20)]).encode()
        if random.random() < 0.2:
            time.sleep(0.030 if kind == "tail" else 0.020)
        self.send_response(401 if kind == "denied" else 500 if bad else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("127.0.0.1", port), Handler).serve_forever()
"""
NGINX = """
split_clients "wait $request_id" $wait {{ 20% 1; * 0; }}
split_clients "fail $request_id" $fail {{ {fail} * 0; }}
server {{
  listen 127.0.0.1:{port} backlog=1024;
  {first}
  rewrite ^ /_$fail$wait last;
  location /_1 {{ internal; return 500 "broken"; }}
  location /_01 {{ internal; echo_sleep {wait}; echo {body}; }}
  location /_00 {{ internal; return 200 {body}; }}
}}
"""
NGINX_FIRST = {"denied": "return 401;", "post": "if ($request_method = POST) { return 500; }"}
HEAD = """
journal: @FOLDER@/sluice.db
listen: [{{address: 127.0.0.1:{port}}}]
admin: {{address: "@ADMIN@"}}
services: {{{services}}}
rollouts: {{{rollouts}}}
"""
SERVICE = "{name}: {{routes: [{{host: {name}.test}}], versions: {{v1: [127.0.0.1:{v1}], v2: [127.0.0.1:{v2}]}}, stable: v1}}"
ROLLOUT = ("{name}-v2: {{service: {name}, to: v2, warmup: 2s, drain: 1s, stages: [{stages}, {{weight: 100%, for: 5s, soak: {soak}s}}], "
           "checks: {{errors: {{budget: 0.5%}}, latency: {{baseline: {baseline}, budget: 5%}}}}}}")
Pace = collections.namedtuple("Pace", "weights soak baseline crash_after")
FULL = Pace((5, 25, 50), 10, 1000, 20)
SHORT = Pace((25, 50), 5, 300, 5)
ENDED = ("Completed", "RolledBack")


class Run:
    """What all services share: settings, the plan of what is still to be rolled out, and what came of it."""

    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.pace = SHORT if args.short else FULL
        self.end = time.monotonic() + args.minutes * 60
        self.lock, self.stopping = threading.Lock(), threading.Event()
        self.rollouts, self.failures = [], []
        if args.state and os.path.exists(args.state):
            with open(args.state, encoding="utf-8") as f:
                self.rollouts = json.load(f)
        done = collections.Counter(r["kind"] for r in self.mine())
        rounds = range(max(args.rollouts.values()))
        self.plan = [kind for n in rounds for kind, count in args.rollouts.items() if done[kind] + n < count]
        self.total = len(self.plan)

    def mine(self):
        return [r for r in self.rollouts if r["busy"] == self.args.busy]

    def limit(self):
        """A prefix that ends a process, with all it started, a little after the run itself should have ended."""
        return ["timeout", "--kill-after=5", str(int(self.end - time.monotonic()) + self.args.seconds_max + 60)]

    def take(self, server):
        """The next kind that this server can be bad in; None when there is none or no time is left."""
        with self.lock:
            if self.stopping.is_set() or time.monotonic() > self.end:
                return None
            kind = next((k for k in self.plan if server != "nginx" or k != "leak"), None)
            if kind:
                self.plan.remove(kind)
            return kind

    def record(self, row):
        with self.lock:
            self.rollouts.append(row)
            verdict = " ".join(row["verdict"].split())
            harness.log(f"{row['kind']:9} {row['server']:6} {row['outcome']:10} stage {row['stage']} {row['seconds']:5.0f} s  "
                        f"({len(self.plan)} of {self.total} to begin)  {verdict if row['outcome'] == 'RolledBack' else ''}".rstrip())
            if self.args.state:
                with open(self.args.state + ".new", "w", encoding="utf-8") as f:
                    json.dump(self.rollouts, f, indent=1)
                os.replace(self.args.state + ".new", self.args.state)


def end(process):
    """Ends a process and all it started: its `timeout` leads a group of its own, and may itself be gone before they are."""
    process.stop()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class Service:
    """One service: its old version runs throughout, its new one is started afresh for each rollout, on the same port."""

    def __init__(self, run, server, number):
        self.run, self.server, self.name = run, server, f"{server}{number}"
        self.ports = {"v1": harness.free_port(), "v2": harness.free_port()}

    def start(self, version, kind):
        port, name, folder = self.ports[version], f"{self.name}-{version}", self.run.folder
        if self.server == "nginx":
            http = NGINX.format(port=port, fail="1% 1;" if kind == "errors" else "", first=NGINX_FIRST.get(kind, ""),
                                wait="0.030" if kind == "tail" else "0.020", body=BODY)
            return harness.Nginx(folder, name, http, port, prefix=self.run.limit())
        argv = [harness.find_program("node")] if self.server == "node" else [sys.executable]
        source = os.path.join(folder, self.server + ".source")
        process = harness.Process(folder, name, [*self.run.limit(), *argv, source, str(port), kind])
        harness.wait_for(name, lambda: harness.connects(port) or not process.running(), 20)
        return process

    def work(self, sluice):
        """One rollout after the other until the plan is done."""
        while (kind := self.run.take(self.server)) is not None:
            try:
                self.roll(sluice, kind)
            except Exception as error:
                self.run.failures.append(f"{self.name}, {kind}: {type(error).__name__}: {error}")
                self.run.stopping.set()

    def roll(self, sluice, kind):
        name, began = self.name + "-v2", time.monotonic()
        process = self.start("v2", kind)
        try:
            sluice.command(name, "start")
            last = self.follow(sluice, kind, process)
            verdict = (last["verdict"] or {}).get("text", "")
            row = {"kind": kind, "server": self.server, "busy": self.run.args.busy, "outcome": last["state"], "stage": last["stage"],
                   "seconds": time.monotonic() - began, "verdict": verdict, "end": last}
            if last["state"] not in ENDED:
                row["outcome"] = "undecided"
            if last["state"] != "RolledBack":
                sluice.command(name, "undo" if last["state"] == "Completed" else "abort")
                sluice.wait_state(name, "RolledBack", 30, report=False)
            if row["outcome"] != "undecided" or not self.run.stopping.is_set():
                self.run.record(row)
        finally:
            end(process)

    def follow(self, sluice, kind, process):
        """The rollout as it was when it ended, or when its time was over."""
        began, first_request, body = time.monotonic(), None, sluice.rollout(self.name + "-v2")
        while True:
            status, answer = sluice.request("GET", f"/v1/rollouts/{self.name}-v2")
            body = answer if status == 200 else body  # on a machine with no time to spare an answer can be late
            now = time.monotonic()
            if body["state"] in ENDED or now - began > self.run.args.seconds_max or self.run.stopping.is_set():
                return body
            if body["state"] == "Shifting":
                first_request = first_request or now
                if kind == "crash" and now - first_request > self.run.pace.crash_after and process.running():
                    os.killpg(process.pid, signal.SIGKILL)
            time.sleep(0.2)

    def post(self, port):
        """About ten POSTs a second, one after the other; the load generator sends only GET."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        while not self.run.stopping.is_set():
            try:
                connection.request("POST", "/order", body="item=1", headers={"Host": self.name + ".test"})
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()
            time.sleep(random.expovariate(10))


def configuration(run, services, port):
    stages = ", ".join(f"{{weight: {w}%, for: 5s}}" for w in run.pace.weights)
    return HEAD.format(port=port, services=", ".join(SERVICE.format(name=s.name, **s.ports) for s in services), rollouts=", ".join(
        ROLLOUT.format(name=s.name, stages=stages, soak=run.pace.soak, baseline=run.pace.baseline) for s in services))


def start_all(run, stack):
    """The daemon, all old versions and the load on each service."""
    for server, text in (("node", NODE), ("python", PYTHON)):
        with open(os.path.join(run.folder, server + ".source"), "w", encoding="utf-8") as f:
            f.write(text)
    services = [Service(run, server, n) for n in range(run.args.each) for server in SERVERS]
    for s in services:
        stack.callback(end, s.start("v1", "identical"))
    port = harness.free_port()
    sluice = harness.Sluice(run.folder, run.args.binary, configuration(run, services, port), prefix=run.limit())
    stack.callback(end, sluice)
    duration = int(run.end - time.monotonic()) + run.args.seconds_max + 60
    for s in services:
        load = harness.Process(run.folder, s.name + "-load", [*run.limit(), run.args.binary, "load", f"http://127.0.0.1:{port}/", "--host", s.name + ".test",
                                                              "--rate", str(run.args.rate), "--poisson", "--duration", f"{duration}s", "--json"])
        stack.callback(end, load)
        threading.Thread(target=s.post, args=(port,), daemon=True).start()
    for n in range(2 if run.args.busy else 0):
        spin = harness.Process(run.folder, f"spin{n}", ["nice", "-n", "5", *run.limit(), sys.executable, "-c", "while True: pass"])
        stack.callback(end, spin)
    return services, sluice


def table(rollouts):
    lines = ["| new version | server | rollouts | completed | taken back | undecided | seconds, median |", "|---|---|---|---|---|---|---|"]
    for kind in KINDS:
        for server in SERVERS:
            rows = [r for r in rollouts if r["kind"] == kind and r["server"] == server]
            counts = collections.Counter(r["outcome"] for r in rows)
            if rows:
                lines.append(f"| {kind} | {server} | {len(rows)} | {counts['Completed']} | {counts['RolledBack']} | {counts['undecided']} | "
                             f"{statistics.median(r['seconds'] for r in rows):.0f} |")
    return "\n".join(lines)


def failures(rollouts):
    """How many requests failed of those to versions that should fail none."""
    out = []
    for arm in ("stable", "canary"):
        counts = [r["end"]["arms"][arm] or {} for r in rollouts if r["kind"] == "identical"]
        out.append(f"{sum(c.get('errors', 0) for c in counts)} of {sum(c.get('requests', 0) for c in counts)}")
    return f"failed requests in rollouts of identical versions: old {out[0]}, new {out[1]}"


def is_wrong(row):
    return row["outcome"] == ("RolledBack" if row["kind"] == "identical" else "Completed")


def arguments():
    kinds = "; ".join(f"{k}: {v}" for k, v in KINDS.items())
    parser = argparse.ArgumentParser(description=__doc__, epilog="Kinds of new versions: " + kinds)
    parser.add_argument("--binary", default=os.path.join(harness.ROOT, "build", "release", "sluice"))
    parser.add_argument("--kind", action="append", choices=[*KINDS, "bad"], help="may be given again; bad: every one but identical (default: identical)")
    parser.add_argument("--rollouts", type=int, default=6, help="of each kind")
    parser.add_argument("--each", type=int, default=2, help="services of each of " + ", ".join(SERVERS))
    parser.add_argument("--rate", type=int, default=90, help="GET requests per second to each service")
    parser.add_argument("--busy", action="store_true", help="two niced processes keep two processors busy all the time")
    parser.add_argument("--seconds-max", type=int, default=180, help="a rollout that takes longer is undecided")
    parser.add_argument("--minutes", type=float, default=60, help="no rollout begins later than this")
    parser.add_argument("--state", help="file that keeps the results; a run with the same file and options goes on where the last one ended")
    parser.add_argument("--short", action="store_true", help="three identical and two bad versions in about a minute")
    args = parser.parse_args()
    args.binary = os.path.abspath(args.binary)
    wanted = args.kind or ["identical"]
    kinds = [k for k in KINDS if k in wanted or "bad" in wanted and k != "identical"]
    args.rollouts = {k: args.rollouts for k in kinds}
    if args.short:
        args.rollouts, args.seconds_max = {"identical": 3, "denied": 1, "crash": 1}, 100
    return args


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all is ended in order
    with harness.folder() as folder, contextlib.ExitStack() as stack:
        run = Run(args, folder)
        services, sluice = start_all(run, stack)
        threads = [threading.Thread(target=s.work, args=(sluice,)) for s in services]
        stack.callback(run.stopping.set)
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    wrong = [r for r in run.mine() if is_wrong(r)]
    print("\n" + table(run.mine()) + "\n\n" + failures(run.mine()))
    for text in run.failures:
        print(f"FAILED: {text}")
    print(f"{len(run.mine())} rollouts, {len(wrong)} ended the wrong way")
    sys.exit(1 if wrong or run.failures else 0)


if __name__ == "__main__":
    main()
