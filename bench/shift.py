#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Everything an operator does to a service, at once and under load: weights change, the binary is replaced, endpoints come and go,
certificates are exchanged, while clients of HTTP/1.1, HTTPS, HTTP/2, gRPC and WebSocket ask all the time. Their origins never fail, so
no request may. Prints a row for each way of asking; exits 1 when a request failed. All of it on loopback; it ends after --seconds."""
import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
import harness  # noqa: E402
from supervise_test import serving  # noqa: E402
from tls_test import certify  # noqa: E402

PEER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "shift_peer.mjs")
STAGES = 30
CONFIG = """
workers: 2
journal: @FOLDER@/sluice.db
listen:
  - {{address: "127.0.0.1:{plain}"}}
  - {{address: "127.0.0.1:{secure}", tls: {{certificate: shop.pem, key: shop.key}}}}
admin: {{address: "@ADMIN@"}}
services:
  rpc:
    routes: [{{path: /shift.Test/}}]
    versions:
      v1: {{endpoints: ["127.0.0.1:{grpc}"], http2: on}}
    stable: v1
  shop:
    routes: [{{path: /}}]
    versions:
      v1: {{endpoints: [{v1}]}}
      v2: {{endpoints: ["127.0.0.1:{v2}"]}}
    stable: v1
rollouts:
  shop-v2: {{service: shop, to: v2, warmup: 0s, stages: [{stages}], checks: {{errors: {{}}, latency: off}}}}
"""


class Changes:
    """One kind of change, again and again on a thread of its own, until it was made `times` times or all is over."""

    def __init__(self, name, change, times, every, over):
        self.name, self.made, self.wrong = name, 0, []
        self.thread = threading.Thread(target=self.run, args=(change, times, every, over))
        self.thread.start()

    def run(self, change, times, every, over):
        while self.made < times and not over.is_set():
            began = time.monotonic()
            try:
                change(self.made)
                self.made += 1
            except Exception as error:  # told at the end, whatever it was
                self.wrong.append(f"{type(error).__name__}: {error}"[:200])
                if len(self.wrong) > 20:
                    break
            over.wait(max(0.0, every - (time.monotonic() - began)))


def tell(sluice, word):
    """A command to the rollout; the admin address may just pass from one process to the next."""
    def done():
        status, body = sluice.request("POST", f"/v1/rollouts/shop-v2/{word}")
        assert status in (0, 200, 503), f"{word}: {status} {body}"
        return status == 200

    harness.wait_for(word, done, 20)


def settled(sluice):
    """The rollout, where it waits for a word."""
    def look():
        status, body = sluice.request("GET", "/v1/rollouts/shop-v2")
        return body if status == 200 and body["state"] in ("Pending", "Shifting", "RolledBack") else None

    return harness.wait_for("a state that waits", look, 60)


def shift_weight(sluice):
    """Ahead through all stages, and back to none."""
    def change(_):
        body = settled(sluice)
        if body["state"] == "Shifting":
            tell(sluice, "promote" if body["stage"] < STAGES - 1 else "abort")
        else:
            tell(sluice, "start")

    return change


def replace_binary(args, sluice, binary):
    def change(_):
        shutil.copy(args.binary, binary + ".new")
        os.rename(binary + ".new", binary)
        old = serving(sluice)

        def taken():
            done = subprocess.run([binary, "upgrade", "--admin", f"127.0.0.1:{sluice.admin}"], capture_output=True, text=True, timeout=80, check=False)
            if done.returncode != 0 and "is not over" not in done.stderr:
                raise AssertionError(done.stderr[-300:])
            return done.returncode == 0

        harness.wait_for("the end of the change before", taken, 60, 0.2)
        harness.wait_for("another process", lambda: serving(sluice) not in (0, old), 20)

    return change


def move_endpoints(sluice, write):
    """One of the stable version's endpoints leaves, and comes back."""
    def change(made):
        write(made % 2 == 0)
        done = subprocess.run([sluice.binary, "reload", "--admin", f"127.0.0.1:{sluice.admin}"], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0 and "cannot" not in done.stderr:  # the address may just pass on; the next reload has it
            raise AssertionError(done.stderr[-300:])

    return change


def exchange_certificate(folder):
    """Key and certificate together, by renaming a link to the folder of both."""
    def change(made):
        stem = "ab"[(made + 1) % 2]
        for end in ("key", "pem"):
            shutil.copy(os.path.join(folder, f"{stem}.{end}"), os.path.join(folder, f"shop.{end}.new"))
        for end in ("key", "pem"):
            os.rename(os.path.join(folder, f"shop.{end}.new"), os.path.join(folder, f"shop.{end}"))

    return change


def run(args, folder, stack):
    node = harness.find_program("node")
    ports = [harness.free_port() for _ in range(9)]
    plain, secure, v1, other, v2 = ports[:5]
    for name, port, grpc in (("v1", v1, ports[5]), ("v1b", other, ports[6]), ("v2", v2, ports[7])):
        stack.callback(harness.Process(folder, name, [node, PEER, "origin", str(port), str(grpc), name]).kill)
        harness.wait_for(f"origin {name}", lambda port=port: harness.connects(port))
    for stem in "ab":
        certify(args, folder, stem, f"{stem}.example", "shop.example")
    exchange_certificate(folder)(1)
    with open(os.path.join(folder, "ca.pem"), "w", encoding="ascii") as f:
        for stem in "ab":
            with open(os.path.join(folder, stem + ".pem"), encoding="ascii") as pem:
                f.write(pem.read())
    stages = ", ".join(f"{{weight: {w}%, for: 10h, horizon: 20h}}" for w in range(1, STAGES + 1))

    def config(both):
        endpoints = ", ".join(f'"127.0.0.1:{p}"' for p in ([v1, other] if both else [v1]))
        return CONFIG.format(plain=plain, secure=secure, grpc=ports[5], v1=endpoints, v2=v2, stages=stages)

    binary = os.path.join(folder, "sluice")
    shutil.copy(args.binary, binary)
    sluice = harness.Sluice(folder, binary, config(True), options=("--supervise",))
    stack.callback(sluice.stop)

    def write(both):
        text = config(both).replace("@ADMIN@", f"127.0.0.1:{sluice.admin}").replace("@FOLDER@", folder)
        with open(sluice.config_path + ".new", "w", encoding="utf-8") as f:
            f.write(text)
        os.rename(sluice.config_path + ".new", sluice.config_path)

    with open(os.path.join(folder, "load.err"), "wb") as errors:
        load = subprocess.Popen([node, PEER, "load", str(plain), str(secure), os.path.join(folder, "ca.pem"), "1"], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=errors)
    stack.callback(load.kill)
    time.sleep(2)
    over, end = threading.Event(), time.monotonic() + args.seconds
    stack.callback(over.set)
    changes = [Changes("weight changes", shift_weight(sluice), args.weights, 0.1, over),
               Changes("binaries replaced", replace_binary(args, sluice, binary), args.upgrades, 1, over),
               Changes("endpoints moved", move_endpoints(sluice, write), args.weights, 1.5, over),
               Changes("certificates exchanged", exchange_certificate(folder), args.weights, 3, over)]
    while any(c.thread.is_alive() for c in changes[:2]) and time.monotonic() < end:
        time.sleep(5)
        print(", ".join(f"{c.made} {c.name}" for c in changes), file=sys.stderr, flush=True)
    over.set()
    for change in changes:
        change.thread.join()
    ways = json.loads(load.communicate(b"stop\n", timeout=60)[0])
    return changes, ways


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "build", "release", "sluice"))
    parser.add_argument("--weights", type=int, default=1000, help="changes of weight; endpoints and certificates change meanwhile")
    parser.add_argument("--upgrades", type=int, default=100, help="times that the binary is replaced")
    parser.add_argument("--seconds", type=int, default=1500, help="at most so long")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs")
    args = parser.parse_args()
    args.binary = os.path.abspath(args.binary)
    with harness.folder(args.keep) as folder, contextlib.ExitStack() as stack:
        changes, ways = run(args, folder, stack)
    print("| " + ", ".join(f"{c.made} {c.name}" for c in changes) + " | requests | asked again | failed | longest |\n|---|---|---|---|---|")
    for name, seen in ways.items():
        print(f"| {name} | {seen['asked']} | {seen['again']} | {sum(seen['failed'].values())} | {seen['longest_ms']:.0f} ms |")
    for change in changes:
        if change.wrong:
            print(f"{change.name}: {len(change.wrong)} went wrong: {change.wrong[:5]}", file=sys.stderr)
    bad = {name: seen["failed"] for name, seen in ways.items() if seen["failed"]}
    if bad:
        print(json.dumps(bad, indent=1), file=sys.stderr)
    return 1 if bad or any(c.wrong for c in changes) else 0


if __name__ == "__main__":
    sys.exit(main())
