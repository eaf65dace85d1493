#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long nobody answers when the serving process dies or is replaced, and what clients see of it. Under 1 000 requests per second over
kept connections, a supervised daemon's serving process is killed, crashed, stopped and upgraded; meanwhile one client asks again and
again over new connections. Prints a table; exits 1 when a connection was refused or an upgrade failed a request. Every process has a
time limit of its own."""
import argparse
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import harness  # noqa: E402
import supervise_test as test  # noqa: E402

KINDS = {"killed (SIGKILL)": signal.SIGKILL, "crashed (SIGSEGV)": signal.SIGSEGV, "stopped (SIGSTOP, limit 250 ms)": signal.SIGSTOP,
         "upgraded (SIGUSR2)": signal.SIGUSR2}
A_ROUND = 10  # of a parent: more deaths in a minute make it careful


def measure(sluice, port, number):
    """Seconds from the signal to the first answer to a request that began after it, and what went wrong before."""
    wrong = []
    pid = test.serving(sluice)
    began = time.monotonic()
    os.kill(pid, number)
    while True:
        body = test.ask(port, user="prober", seconds=5)
        if body in ("v1", "v2"):
            return time.monotonic() - began, wrong
        wrong.append(body)


def gap(port, old):
    """During an upgrade: the longest that one request waited until the process before had ended."""
    longest, wrong, end = 0.0, [], time.monotonic() + 40
    while time.monotonic() < end:
        began = time.monotonic()
        body = test.ask(port, user="prober", seconds=5)
        longest = max(longest, time.monotonic() - began)
        wrong += [] if body in ("v1", "v2") else [body]
        if not os.path.exists(f"/proc/{old}"):
            break
    return longest, wrong


def one_round(args, kind, count):
    number = KINDS[kind]
    with harness.folder() as folder, contextlib.ExitStack() as stack:
        nginx_port = harness.free_port()
        http = f'server {{ listen 127.0.0.1:{nginx_port} backlog=4096; location / {{ return 200 "v1"; }} }}'
        stack.callback(harness.Nginx(folder, "origin", http, nginx_port).stop)
        port = harness.free_port()
        config = test.CONFIG.format(port=port, v1=nginx_port, v2=nginx_port)
        sluice = harness.Sluice(folder, args.binary, config, options=("--supervise", "--hang-after", "250ms"), prefix=["timeout", "--foreground", "--kill-after=5", "600"])
        stack.callback(sluice.stop)
        with open(f"/proc/{sluice.pid}/task/{sluice.pid}/children", encoding="ascii") as f:
            sluice.parent = int(f.read().split()[0])  # behind `timeout`
        load = subprocess.Popen(["timeout", "600", args.binary, "load", f"http://127.0.0.1:{port}/", "--rate", "1000", "--duration", "600s", "--json"],
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        stack.callback(load.kill)
        time.sleep(1)
        times, wrong = [], []
        for _ in range(count):
            if number == signal.SIGUSR2:
                old = test.serving(sluice)
                os.kill(sluice.parent, number)
                seconds, bad = gap(port, old)
            else:
                seconds, bad = measure(sluice, port, number)
            times.append(seconds)
            wrong += bad
            time.sleep(1.5)  # by then the next process is loaded
        load.send_signal(signal.SIGINT)
        totals = json.loads(load.communicate(timeout=30)[0])
        return times, wrong, totals


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "build", "release", "sluice"))
    parser.add_argument("--times", type=int, default=100, help="of each kind")
    parser.add_argument("--kind", action="append", choices=[k.split(" ")[0] for k in KINDS], help="may be given again (default: all)")
    args = parser.parse_args()
    args.binary = os.path.abspath(args.binary)
    bad = False
    print("| the serving process is | times | half, 99 % within, longest | new connections refused | others' requests | of which failed |\n|---|---|---|---|---|---|", flush=True)
    for kind in KINDS:
        if args.kind and kind.split(" ")[0] not in args.kind:
            continue
        times, wrong, answers, failed = [], [], 0, 0
        while len(times) < args.times:
            more, w, totals = one_round(args, kind, min(A_ROUND, args.times - len(times)))
            times += more
            wrong += w
            answers += totals["answers"]
            failed += totals["failed"]
            print(f"{kind}: {len(times)} of {args.times}", file=sys.stderr, flush=True)
        times.sort()
        refused = sum("Refused" in w for w in wrong)
        half, most = times[len(times) // 2], times[math.ceil(len(times) * 0.99) - 1]
        print(f"| {kind} | {len(times)} | {half * 1000:.0f}, {most * 1000:.0f}, {times[-1] * 1000:.0f} ms | {refused} | {answers} | {failed} |", flush=True)
        bad |= refused > 0 or (kind.startswith("upgraded") and (failed > 0 or len(wrong) > 0))
        if wrong:
            print(f"{kind}: {wrong[:10]}", file=sys.stderr)
    return bad


if __name__ == "__main__":
    sys.exit(main())
