#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the journal that later versions must go on reading (journal_v1.sqlite, with journal_v1.yaml and flags/): run it with the
binary of a version whose journal differs from all that are kept here, and keep what it writes under a name of its own.

A rollout of a version that reaches everybody, one that is taken back, a rollout of a flag judged by requests and one by events,
both through a ring, one of a flag left in its ring; changes of flags of every kind; a kill -9 in the middle."""
import http.client
import http.server
import itertools
import os
import shutil
import sqlite3
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
import harness  # noqa: E402


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bad = itertools.count()

    def do_GET(self):
        fails = self.server.fails and next(self.bad) % 2 == 0
        self.send_response(500 if fails else 200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_):
        pass


def origin(fails):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    server.fails = fails
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def load(port, host, stop):
    numbers = itertools.count()
    while not stop.is_set():
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            while not stop.is_set():
                connection.request("GET", "/", headers={"Host": host, "X-User": f"user-{next(numbers)}"})
                connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)


def events(sluice, flag, count, email=None):
    batch = [{"flag": flag, "context": {"targetingKey": f"key-{i}"} | ({"email": email} if email else {}), "error": i % 97 == 0,
              "latency_ms": 3} for i in range(count)]
    status, body = sluice.request("POST", "/v1/events", {"events": batch})
    assert status == 200, f"{status} {body}"


def change(sluice, method, path, body=None):
    status, answer = sluice.request(method, path, body)
    assert status == 200, f"{method} {path}: {status} {answer}"


def main():
    args = harness.options()
    with harness.folder() as folder:
        shutil.copytree(os.path.join(HERE, "flags"), os.path.join(folder, "flags"))
        with open(os.path.join(HERE, "journal_v1.yaml"), encoding="utf-8") as f:
            text = f.read()
        port, good, bad = harness.free_port(), origin(False), origin(True)
        text = text.replace("@PORT@", str(port)).replace("@GOOD@", str(good)).replace("@BAD@", str(bad))
        sluice = harness.Sluice(folder, args.binary, text)
        harness.wait_for("the proxy", lambda: harness.connects(port))
        stop = threading.Event()
        hosts = ["shop", "cart", "menu"]
        for host in hosts:
            threading.Thread(target=load, args=(port, host, stop), daemon=True).start()
        for name in ("shop-v2", "cart-v2", "theme-dark", "banner-on", "ring-only"):
            sluice.command(name, "start")
        change(sluice, "PUT", "/v1/flags/fresh", {"state": "ENABLED", "variants": {"a": 1, "b": 2}, "defaultVariant": "a"})
        change(sluice, "POST", "/v1/flags/fresh/off", {"variant": "b", "who": "ann"})
        change(sluice, "POST", "/v1/flags/plain/off", {"who": "bob"})
        change(sluice, "POST", "/v1/flags/plain/on", {"who": "bob"})
        change(sluice, "POST", "/v1/flags/other/off", {"who": "bob"})
        change(sluice, "DELETE", "/v1/flags/other")
        events(sluice, "ring", 20, "ann@example.com")
        sluice.wait_state("cart-v2", ["RollingBack", "RolledBack"], 30)
        sluice.kill()
        sluice = harness.Sluice(folder, args.binary, text, admin=sluice.admin)
        sluice.wait_state("banner-on", "Shifting", 30)
        for _ in range(200):
            events(sluice, "banner", 500)
            if sluice.rollout("banner-on")["state"] != "Shifting":
                break
        sluice.wait_state("shop-v2", "Completed", 60)
        sluice.wait_state("theme-dark", "Completed", 60)
        sluice.command("ring-only", "pause")
        stop.set()
        time.sleep(0.3)
        sluice.stop()
        replay = sluice.replay()
        assert replay.returncode == 0, replay.stdout + replay.stderr
        with sqlite3.connect(sluice.journal()) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(sluice.journal(), os.path.join(HERE, "journal_v1.sqlite"))
        harness.log(replay.stdout)
        harness.log(f"{os.path.getsize(os.path.join(HERE, 'journal_v1.sqlite'))} bytes")


main()
